"""Memory that a process and the workers it forks share: what one of them found out, none of them finds out again.

Pages are taken when they are written. What is sent to a process that was not forked starts empty there.
"""

from __future__ import annotations

import hashlib
import math
import mmap
from collections.abc import Callable

import numpy as np


class SharedRows:
    """`count` arrays of one `shape`, uint8, each made by whichever process first asks for it."""

    def __init__(self, count: int, shape: tuple[int, ...]) -> None:
        self._rows, self._made = _zeros((count, *shape), np.uint8), _zeros((count,), np.uint8)

    def get(self, index: int, make: Callable[[], np.ndarray]) -> np.ndarray:
        """The row `index`; do not write to it."""
        if not self._made[index]:
            self._rows[index] = make()
            self._made[index] = 1  # last: until then, others make the same
        return self._rows[index]

    def __reduce__(self) -> tuple[type[SharedRows], tuple[int, tuple[int, ...]]]:
        return SharedRows, (len(self._rows), self._rows.shape[1:])


class SharedAnswers:
    """Yes or no for each name, asked once by whichever process first needs it; seldom twice, where names collide.

    A word holds the name's digest, its last bit the answer: a word is written at once, so no process reads half of it.
    """

    _SLOTS = 2**20

    def __init__(self) -> None:
        self._words = _zeros((self._SLOTS,), np.uint64)

    def get(self, name: str, ask: Callable[[], bool]) -> bool:
        digest = int.from_bytes(hashlib.blake2b(name.encode(), digest_size=8).digest()) & ~1
        slot = (digest >> 1) % self._SLOTS
        if int(self._words[slot]) & ~1 != digest:
            self._words[slot] = digest | bool(ask())
        return bool(int(self._words[slot]) & 1)

    def __reduce__(self) -> tuple[type[SharedAnswers], tuple[()]]:
        return SharedAnswers, ()


def _zeros(shape: tuple[int, ...], dtype: type[np.uint8 | np.uint64]) -> np.ndarray:
    count = math.prod(shape)
    memory = mmap.mmap(-1, max(count, 1) * np.dtype(dtype).itemsize)
    return np.frombuffer(memory, dtype)[:count].reshape(shape)
