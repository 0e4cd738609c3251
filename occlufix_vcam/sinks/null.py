"""Sink that discards frames: for benchmarks, and for a preview without a virtual camera."""

from __future__ import annotations

from occlufix_vcam.core.frame import Frame


class Null:
    def __init__(self, target: str, *, size: tuple[int, int], rate: float) -> None:
        self.name = "null"
        self.sent = 0

    def send(self, frame: Frame) -> None:
        self.sent += 1

    def close(self) -> None:
        pass
