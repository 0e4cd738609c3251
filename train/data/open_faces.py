"""Opens the faces to train with, however their folder was made."""

from __future__ import annotations

from pathlib import Path

from train.data.face_set import FaceSet, FaceSource


def open_faces(data: Path) -> FaceSource:
    """The faces to train with: a stream where the folder was prepared, else all of them at hand. Raises DataError."""
    if not (data / "prepared").is_dir():
        return FaceSet(data, "train", keep=True)
    from train.data.shards import FaceStream  # only prepared folders need the webdataset package

    return FaceStream(data)
