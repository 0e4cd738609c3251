"""The people of the training data that are kept for validation: weights, means, thresholds, the best of several runs.

A choice made on the evaluation set makes its figures too good, so that set is for the end alone. Who is kept depends on
the name alone: no list to store, and neither a new picture nor the order of an index moves anybody.
"""

from __future__ import annotations

import hashlib

#: Origins whose names tell people apart, and what share of their people is kept: 150 of 697.
PEOPLE_SHARES = {"cfp": 0.2125, "celeba_wild": 0.2125}
#: Origins without names, kept by picture: their file names tell the age. A person may have pictures on both sides.
PICTURE_SHARES = {"utk": 0.025}


def in_dev_set(origin: str, identity: str | None, file: str) -> bool:
    """Whether a picture of the training data is kept for choices, and so never trained on."""
    if identity is not None:
        return _place(identity) < PEOPLE_SHARES.get(origin, 0.0)
    return _place(file) < PICTURE_SHARES.get(origin, 0.0)


def _place(name: str) -> float:
    """A name's place in 0..1, the same on every machine."""
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:4], "big") / 2**32
