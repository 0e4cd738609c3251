"""Checks inside the virtual machine: the daemon on v4l2loopback and vivid, read by third-party programs.

    python -m scripts.harness.in_machine CLIP      (results: $SHARED/found.json)

The checks run in sequence with as few starts of the daemon as possible, because the emulated processor is slow.
"""

from __future__ import annotations

from scripts.harness.in_machine import camera_checks, clip_checks, end_checks

#: By name, in the order in which they run.
CHECKS = {
    check.__name__: check
    for check in (
        clip_checks.it_is_listed_by_its_whole_name,
        clip_checks.v4l2_ctl_reads_numbers_in_order_and_true_colours,
        clip_checks.opencv_reads_numbers_in_order_and_true_colours,
        clip_checks.ffmpeg_reads_numbers_in_order_and_true_colours,
        clip_checks.two_readers_at_once_are_named_and_the_last_one_closes_the_camera,
        clip_checks.chromium_lists_it_and_reads_numbers_and_true_colours,
        clip_checks.the_node_is_free_after_the_end,
        camera_checks.the_camera_is_never_our_own_and_opens_only_when_watched,
        camera_checks.a_camera_unplugged_is_said_and_back_again_without_the_reader,
        camera_checks.the_node_is_free_after_a_kill,
        camera_checks.a_kept_format_is_said_before_it_is_tried,
        end_checks.the_node_is_usable_after_every_end_of_the_daemon,
        end_checks.the_node_is_usable_after_every_end_of_its_writer,
        end_checks.a_reader_that_stays_sees_the_next_daemon,
        end_checks.a_reader_that_stays_sees_the_next_writer,
    )
}
