"""Results of repeated rounds: failures, seconds, and counts of what was left behind."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np


@dataclass
class Tally:
    """Results of the rounds of one kind."""

    rounds: int = 0
    failed: list[str] = field(default_factory=list)
    seconds: dict[str, list[float]] = field(default_factory=dict)
    #: Counts before the first round and after the last one.
    before: dict[str, int] = field(default_factory=dict)
    after: dict[str, int] = field(default_factory=dict)

    def note(self, **seconds: float) -> None:
        for what, taken in seconds.items():
            self.seconds.setdefault(what, []).append(taken)

    @contextmanager
    def round(self) -> Iterator[None]:
        """Runs one round; a failure keeps its reason, and the next round continues."""
        self.rounds += 1
        try:
            yield
        except Exception as error:  # noqa: BLE001  any error is this round's result
            self.failed.append(f"round {self.rounds}: {error!r}")

    @property
    def left(self) -> list[str]:
        """Counts that are higher than before."""
        return [what for what, many in self.before.items() if self.after[what] > many]

    @property
    def is_good(self) -> bool:
        return not self.failed and not self.left

    def told(self) -> dict[str, Any]:
        figures = {
            f"{what}, s": {name: round(float(np.percentile(taken, p)), 2) for name, p in (("p50", 50), ("max", 100))}
            for what, taken in self.seconds.items()
        }
        counted = {what: f"{many} before, {self.after[what]} after" for what, many in self.before.items()}
        return {"rounds": self.rounds, "failed": self.failed, "left": self.left, **figures, "counted": counted}
