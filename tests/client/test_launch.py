"""What is made of the words with which a daemon ended before it ran."""

from __future__ import annotations

import pytest

from occlufix_vcam.client.launch import StartFailed


@pytest.mark.parametrize(
    ("said", "message", "hint"),
    [
        ("error: no camera\n  plug one in\n", "no camera", "plug one in"),
        ("a library's warning\nerror: no camera\n", "no camera", "read the log: x.log"),
        ("Traceback ...\nImportError: cv2\n", "Traceback ...", "ImportError: cv2"),
        ("", "the daemon ended with code 3", "read the log: x.log"),
    ],
)
def test_its_last_error_is_passed_on(said: str, message: str, hint: str) -> None:
    error = StartFailed(said, 3, "x.log")
    assert (error.message, error.hint, error.exit_code) == (message, hint, 3)


def test_a_signal_counts_as_our_own_fault() -> None:
    assert StartFailed("", -9, "x.log").exit_code == 1
