"""Which files become which, told before any work."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as Pillow

from occlufix_vcam.core.errors import CameraNotFound, ConfigError
from occlufix_vcam.offline.inputs import check_report, plan
from tests.harness.films import make_film


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A film and pictures, some with misleading names, and what is neither."""
    folder = tmp_path / "in"
    folder.mkdir()
    make_film(folder / "talk.mp4", [np.zeros((32, 32, 3), np.uint8)] * 5, [0, 40, 80, 120, 160, 200])
    shutil.copy(folder / "talk.mp4", folder / "talk.avi")
    Pillow.new("RGB", (8, 8)).save(folder / "photo", "JPEG")
    (folder / "photo").rename(folder / "photo.jfif")
    Pillow.new("RGB", (8, 8)).save(folder / "icon.gif")
    for name in ("notes.txt", "list.m3u8", "._talk.mp4", ".DS_Store"):
        (folder / name).write_text("#EXTM3U\nhttp://127.0.0.1:9/film.mp4\n")
    (folder / "broken.png").write_bytes(b"broken")
    return folder


def test_a_folder_gives_pictures_and_films_by_their_content(tmp_path: Path, folder: Path) -> None:
    found = plan(folder, tmp_path / "out")
    jobs = {job.source.name: (job.target.name, job.is_film, job.steps) for job in found.jobs}
    assert jobs == {
        "broken.png": ("broken.png", False, 1),
        "icon.gif": ("icon.gif", False, 1),
        "photo.jfif": ("photo.jfif", False, 1),
        "talk.avi": ("talk.avi.mp4", True, 5),
        "talk.mp4": ("talk.mp4", True, 5),
    }
    assert (found.steps, found.skipped) == (13, 2)


def test_a_name_that_misleads_does_not_decide(tmp_path: Path, folder: Path) -> None:
    (folder / "photo.jfif").rename(folder / "photo.mp4")
    (folder / "talk.mp4").rename(folder / "talk.png")
    assert not plan(folder / "photo.mp4", tmp_path / "out.jpg").jobs[0].is_film
    assert plan(folder / "talk.png", tmp_path / "out.mp4").jobs[0].is_film


@pytest.mark.parametrize("target", ["out.mp4", "out.png", "there"])
def test_a_folder_cannot_become_a_file(tmp_path: Path, folder: Path, target: str) -> None:
    (tmp_path / "there").touch()
    with pytest.raises(ConfigError, match="IN is a folder"):
        plan(folder, tmp_path / target)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no pipes in folders")
def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.mp4")
    with pytest.raises(ConfigError, match="is no file"):
        plan(tmp_path / "pipe.mp4", tmp_path / "out.mp4")


def test_a_folder_of_nothing(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("nothing to see")
    with pytest.raises(CameraNotFound, match="no images and no films"):
        plan(tmp_path, tmp_path / "out")


@pytest.mark.parametrize(
    "report", ["in/talk.mp4", "in/photo.jfif", "out/talk.mp4", "mask.png", "absent/report.json", "in"]
)
def test_a_report_replaces_nothing(tmp_path: Path, folder: Path, report: str) -> None:
    todo = plan(folder, tmp_path / "out")
    with pytest.raises(ConfigError, match="report"):
        check_report(tmp_path / report, todo, [tmp_path / "mask.png", None])
    check_report(tmp_path / "report.json", todo, [None])
