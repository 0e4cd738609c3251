"""Encrypted file of one person: magic, version, nonce, then AES-GCM over a zip of arrays.

Header and file name are authenticated with the content, so that nobody can give one person's face another's place.
"""

from __future__ import annotations

import io
import json
import os
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from engines.contract import CROP_PX, Image, Points
from occlufix_vcam.people.person import EnrolledView, EnrollmentError, Person, checked_name, unreadable

MOST_VIEWS = 12
#: Largest side of a view's detail: it bounds a file to about 10 MB.
MOST_LUMA_PX = 3 * CROP_PX
MAGIC = b"OCCLUFIX-FACE"
VERSION = 2
#: Earlier files are bound to no name; they are still read, and bound as soon as they are written.
UNBOUND_VERSION = 1
NONCE_BYTES = 12


def seal(person: Person, key: bytes, file_name: str) -> bytes:
    """Encrypted content of the file `file_name` for `person`. Raises EnrollmentError for an invalid name."""
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    views = person.views[:MOST_VIEWS]
    about = {"name": checked_name(person.name), "model": person.model}
    arrays: dict[str, Any] = {
        "about": np.frombuffer(json.dumps(about).encode(), np.uint8),
        "embeddings": person.embeddings.astype(np.float32),
        "landmarks": np.stack([view.landmarks for view in views]).astype(np.float32),
        **{f"view{number}": _png(np.dstack([view.image, view.mask])) for number, view in enumerate(views)},
        # Earlier versions of this program have not, and pass over it.
        **{f"luma{number}": _png(view.luma) for number, view in enumerate(views) if view.luma is not None},
    }
    plain = io.BytesIO()
    np.savez(plain, **arrays)
    header = MAGIC + bytes([VERSION])
    nonce = os.urandom(NONCE_BYTES)
    return header + nonce + AESGCM(key).encrypt(nonce, plain.getvalue(), header + file_name.encode())


def open_sealed(path: Path, key: bytes | None, file_name: str | None = None) -> Person:
    """Decrypts a person's file; `file_name` is the name that it was written under, if not its own.

    Raises EnrollmentError.
    """
    try:
        sealed = path.read_bytes()
    except OSError as error:
        raise unreadable(path, error) from error
    header = sealed[: len(MAGIC) + 1]
    if not sealed.startswith(MAGIC):
        raise _broken(path, "is not an enrolled face")
    if header not in (MAGIC + bytes([VERSION]), MAGIC + bytes([UNBOUND_VERSION])):
        raise _broken(path, "was written by another version of this program")
    if key is None:
        raise _broken(path, "cannot be opened: its key is missing")
    bound = (file_name or path.name).encode() if header[-1] != UNBOUND_VERSION else b""
    return _unseal(path, sealed[len(header) :], header + bound, key)


def _unseal(path: Path, sealed: bytes, authenticated: bytes, key: bytes) -> Person:
    from cryptography.exceptions import InvalidTag
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    try:
        plain = AESGCM(key).decrypt(sealed[:NONCE_BYTES], sealed[NONCE_BYTES:], authenticated)
        with np.load(io.BytesIO(plain), allow_pickle=False) as content:
            about = json.loads(content["about"].tobytes())
            landmarks = content["landmarks"]
            views = [_view(content, number, points) for number, points in enumerate(landmarks)]
            return Person(str(about["name"]), content["embeddings"], views, str(about["model"]))
    except (InvalidTag, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile) as error:
        raise _broken(
            path, "cannot be opened: it is damaged, was renamed, or was encrypted with another key"
        ) from error


def _broken(path: Path, why: str) -> EnrollmentError:
    return EnrollmentError(f"{path} {why}", "delete that file and enroll again", code="face_broken", file=path)


def _view(content: Mapping[str, NDArray[Any]], number: int, landmarks: Points) -> EnrolledView:
    picture = _picture(content[f"view{number}"])
    luma = _luma(content[f"luma{number}"]) if f"luma{number}" in content else None
    return EnrolledView(picture[..., :3].copy(), picture[..., 3].copy(), landmarks, luma)


def _png(picture: Image) -> NDArray[np.uint8]:
    return np.asarray(cv2.imencode(".png", picture)[1], np.uint8).reshape(-1)


def _picture(encoded: NDArray[np.uint8]) -> Image:
    picture = cv2.imdecode(encoded, cv2.IMREAD_UNCHANGED)
    if picture is None or picture.shape != (CROP_PX, CROP_PX, 4):
        raise ValueError("no views")
    return np.asarray(picture, np.uint8)


def _luma(encoded: NDArray[np.uint8]) -> Image:
    luma = cv2.imdecode(encoded, cv2.IMREAD_UNCHANGED)
    if luma is None or luma.ndim != 2 or not CROP_PX < luma.shape[0] == luma.shape[1] <= MOST_LUMA_PX:
        raise ValueError("no detail")
    return np.asarray(luma, np.uint8)
