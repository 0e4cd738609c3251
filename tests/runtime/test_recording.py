"""Recording at a click: a new file each time, and nothing but the recording opens or closes."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest

from occlufix_vcam.core.errors import ConfigError, SinkUnavailable
from occlufix_vcam.core.frame import Frame, Origin
from occlufix_vcam.core.settings import Settings
from occlufix_vcam.runtime.frame_selector import FrameSelector
from occlufix_vcam.runtime.recording import Recording
from tests.harness.daemon import Stage
from tests.harness.fakes import WAIT_S


class Run:
    """Settings of a run."""

    def __init__(self, folder: Path) -> None:
        self.settings = Settings()
        self.recording = Recording(lambda: self.settings, self.update, lambda: folder, lambda: 1_700_000_000.0)

    def update(self, changes: Mapping[str, object]) -> None:
        self.settings = self.settings.but(**changes)


def test_a_file_with_a_time_stamp_until_it_is_stopped(tmp_path: Path) -> None:
    run = Run(tmp_path / "Videos")
    assert run.recording.facts() is None and run.recording.stop() is None
    facts = run.recording.start(beside=True)
    assert facts is not None and facts["began_at"] == 1_700_000_000.0
    file = Path(facts["file"])
    assert file.parent == tmp_path / "Videos" and file.parent.is_dir()
    assert file.name.startswith("OccluFix 2023-11-1") and file.suffix == ".mp4"
    assert run.settings.record == file and run.settings.record_before
    assert run.recording.start() == facts
    assert run.recording.stop() == file
    assert run.settings.record is None and run.recording.facts() is None


def test_the_file_is_shown_where_it_lies(tmp_path: Path) -> None:
    run, commands = Run(tmp_path), list[list[str]]()
    with pytest.raises(ConfigError, match="nothing was recorded"):
        run.recording.show(commands.append)
    run.recording.start()
    file = run.recording.stop()
    assert run.recording.show(commands.append) == file
    assert any(str(tmp_path) in part for part in commands[0])


def test_a_folder_that_cannot_be_made_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(SinkUnavailable, match="cannot be created"):
        Run(tmp_path / "file" / "Videos").recording.start()


def test_the_picture_before_goes_along_only_where_it_is_recorded() -> None:
    before, after = (np.full((48, 64, 3), level, np.uint8) for level in (1, 2))
    frame, settings = Frame(after, 3, 1.0, Origin(before, ())), Settings(mirror=True)
    selector = FrameSelector((64, 48), lambda: 0.0)
    assert selector.finished(frame, settings).restored_from is None
    recorded = selector.finished(frame, settings.but(record="a.mp4", record_before=True))
    assert recorded.restored_from is not None and recorded.restored_from.image[0, 0, 0] == 1


def test_the_bare_picture_is_shown_for_a_moment(stage: Stage) -> None:
    stage.wait_until_running()
    assert stage.daemon.show_bare(seconds=0.05)
    stage.show(77)
    while not stage.daemon.settings.enabled:
        stage.sink.wait_for_more()
    stage.camera.show(78)
    stage.sink.wait_for_level(255 - 78)


def test_who_switches_meanwhile_is_obeyed(stage: Stage) -> None:
    assert stage.daemon.show_bare(seconds=60)
    waiting = stage.daemon._bare
    stage.daemon.toggle(False)
    waiting.join(WAIT_S)
    assert not stage.daemon.show_bare()
    assert stage.daemon.settings.enabled is False
