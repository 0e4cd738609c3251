"""A folder that cannot be used is named, with the variable that moves it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from occlufix_vcam.core.errors import ConfigError
from occlufix_vcam.core.folders import UserFolder
from occlufix_vcam.core.state import StateFolder


def folder(path: Path) -> UserFolder:
    return UserFolder("state directory", path, "OCCLUFIX_STATE_DIR")


def test_a_folder_that_is_there_or_not_yet_is_fine(tmp_path: Path) -> None:
    folder(tmp_path).check()
    folder(tmp_path / "new").check()
    assert not (tmp_path / "new").exists()
    folder(tmp_path / "new").prepare()
    assert (tmp_path / "new").is_dir()


@pytest.mark.skipif(os.name != "posix", reason="Windows keeps rights elsewhere")
def test_a_folder_that_the_user_named_keeps_its_mode(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tmp_path.chmod(0o755)
    monkeypatch.setenv("OCCLUFIX_STATE_DIR", str(tmp_path))
    folder(tmp_path).prepare()
    assert tmp_path.stat().st_mode & 0o777 == 0o755
    folder(tmp_path / "new").prepare()
    assert (tmp_path / "new").stat().st_mode & 0o777 == 0o700
    monkeypatch.delenv("OCCLUFIX_STATE_DIR")
    folder(tmp_path).prepare()
    assert tmp_path.stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("below", ["", "below"])
def test_a_file_in_its_place_or_above_it_is_named_with_the_variable(tmp_path: Path, below: str) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match=r"state directory .*file") as told:
        folder(tmp_path / "file" / below).check()
    assert "OCCLUFIX_STATE_DIR" in told.value.hint and told.value.exit_code == 2


@pytest.mark.skipif(not hasattr(os, "getuid") or os.getuid() != 0, reason="only root can give a folder away")
def test_another_users_folder_is_refused(tmp_path: Path) -> None:
    os.chown(tmp_path, 12345, 12345)
    with pytest.raises(ConfigError, match="belongs to another user"):
        folder(tmp_path).check()


@pytest.mark.skipif(not hasattr(os, "getuid") or os.getuid() == 0, reason="root may write everywhere")
def test_a_read_only_folder_is_refused(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    try:
        with pytest.raises(ConfigError, match="may not write"):
            folder(tmp_path).check()
    finally:
        tmp_path.chmod(0o700)


def test_a_full_disk_is_named_when_the_daemon_publishes_its_address(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("occlufix_vcam.core.state.write_atomically", full)
    with pytest.raises(ConfigError, match="No space left") as told:
        StateFolder(tmp_path).publish(1)
    assert "OCCLUFIX_STATE_DIR" in told.value.hint


def test_whether_a_daemon_runs_cannot_be_told_from_a_folder_that_is_none(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match="is not a folder"):
        StateFolder(tmp_path / "file").held()
