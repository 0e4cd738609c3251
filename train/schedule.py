"""Which loss weighs what, and when: structure first, then perception and the adversary."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

#: How long, of the run, the adversaries' weights rise that a recipe lets begin at a share of its own.
RISE = 0.1


class ScheduleError(ValueError):
    """Loss weights that do not fit the losses; the message names them."""


@dataclass(frozen=True)
class Ramp:
    """A weight over progress 0..1: `low` until `start`, then straight up (or down) to `high` at `end`."""

    low: float
    high: float
    start: float = 0.0
    end: float = 1.0

    def at(self, progress: float) -> float:
        if self.end <= self.start:
            return self.high if progress >= self.end else self.low
        share = min(max((progress - self.start) / (self.end - self.start), 0.0), 1.0)
        return self.low + share * (self.high - self.low)


class LossSchedule:
    """A ramp for each loss. Unknown and missing names are errors at the start, not at the step that needs them."""

    def __init__(self, ramps: Mapping[str, Ramp], losses: Iterable[str]) -> None:
        known = set(losses)
        unknown, missing = sorted(set(ramps) - known), sorted(known - set(ramps))
        if unknown or missing:
            raise ScheduleError(f"loss weights do not fit the losses: unknown {unknown}, missing {missing}")
        self._ramps = dict(ramps)

    def at(self, progress: float) -> dict[str, float]:
        """The weight of each loss at `progress` 0..1."""
        return {name: ramp.at(progress) for name, ramp in self._ramps.items()}


def with_weights(ramps: Mapping[str, Ramp], weights: Mapping[str, float]) -> dict[str, Ramp]:
    """The same ramps, those named in `weights` scaled to that height; 0 leaves a loss out."""
    unknown = sorted(set(weights) - set(ramps))
    if unknown:
        raise ScheduleError(f"there is no loss called {', '.join(unknown)}; there are: {', '.join(ramps)}")
    scaled = dict(ramps)
    for name, weight in weights.items():
        ramp = ramps[name]
        scaled[name] = Ramp(ramp.low * weight / ramp.high, weight, ramp.start, ramp.end)
    return scaled


def from_share(ramps: Mapping[str, Ramp], names: Iterable[str], share: float) -> dict[str, Ramp]:
    """Those of `names` that have a ramp, rising from `share` of the run on. Raises ScheduleError."""
    if not 0 <= share < 1:
        raise ScheduleError(f"adversaries begin to count at a share of the run from 0 to below 1, not at {share:g}")
    return {name: replace(ramps[name], start=share, end=min(share + RISE, 1.0)) for name in names if name in ramps}


def at_once(ramps: Mapping[str, Ramp], names: Iterable[str]) -> dict[str, Ramp]:
    """Those of `names`, at their height from the first step on."""
    return {name: replace(ramps[name], low=ramps[name].high) for name in names}
