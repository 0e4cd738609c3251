"""The product on one screen: a frame goes in, and the frame with its faces restored comes out."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

from occlufix_vcam.core.frame import Crop, FaceTrack, Frame, HiddenCrop, Origin, Patch
from occlufix_vcam.core.telemetry import Telemetry
from occlufix_vcam.stages.align import align
from occlufix_vcam.stages.compositing.beyond import Beyond
from occlufix_vcam.stages.compositing.blend import Blender
from occlufix_vcam.stages.find import FaceFinder
from occlufix_vcam.stages.gate import FaceGate
from occlufix_vcam.stages.memory import Memory
from occlufix_vcam.stages.reference import Reference
from occlufix_vcam.stages.watermark import put_mark


class OcclusionSegmenter(Protocol):
    """Segments what hides a face; `forget` names lost tracks."""

    def __call__(self, crop: Crop) -> HiddenCrop: ...

    def forget(self, track_ids: Iterable[int]) -> None: ...


class FaceRestorer(Protocol):
    """Restores hidden parts, or leaves the face as it is (None); `forget` names lost tracks."""

    def __call__(self, hidden: HiddenCrop, reference: Reference) -> Patch | None: ...

    def forget(self, track_ids: Iterable[int]) -> None: ...


@dataclass(frozen=True, slots=True)
class FrameSummary:
    """Faces in one frame, how many of them were restored, and the largest hidden share of a face."""

    faces: int = 0
    restored: int = 0
    coverage: float = 0.0


class Pipeline:
    """find -> align -> see hidden -> remember -> restore -> blend. Built and used by one thread."""

    def __init__(
        self,
        find: FaceFinder,
        see_hidden: OcclusionSegmenter,
        remember: Memory,
        restore: FaceRestorer,
        telemetry: Telemetry,
        *,
        gate: FaceGate | None = None,
        mark: bool = False,
        beyond: Beyond = "fade",
    ) -> None:
        """Without a `gate` every hidden face is restored.

        `mark` writes "restored" into a corner of each frame that has a restored face; `beyond` is the Blender's.
        """
        self._find = find
        self._see_hidden = see_hidden
        self._remember = remember
        self._restore = restore
        self._gate = gate
        self._blend = Blender(beyond)
        self._telemetry = telemetry
        self._mark = mark
        self._tracks: frozenset[int] = frozenset()

    def __call__(self, frame: Frame) -> tuple[Frame, FrameSummary]:
        """New frame, or `frame` itself if no face is hidden; and its summary. Raises EngineRunError."""
        span = self._telemetry.span
        with span("total"):
            with span("find"):
                faces = self._find(frame)
            with span("align"):
                present = faces if self._gate is None else self._gate.present(frame, faces)
                crops = [crop for face in present if (crop := align(frame, face)) is not None]
            with span("hidden"):
                seen = [self._see_hidden(crop) for crop in crops]
            with span("remember"):
                open_ = seen if self._gate is None else [crop for crop in seen if self._gate.restores(crop, faces)]
                known = [self._remember(crop) for crop in open_]
            pairs = [(crop, face) for crop, face in zip(open_, known, strict=True) if crop.mask.any()]
            hidden = tuple(crop for crop, _ in pairs)
            with span("restore"):
                patches = [patch for crop, face in pairs if (patch := self._restore(crop, face)) is not None]
            with span("blend"):
                image = self._blend(frame.image, patches, at=frame.captured_at)
            if self._mark and patches:
                put_mark(image)
            summary = self._summarise(faces, hidden, len(patches))
        if image is frame.image:
            return frame, summary
        return Frame(image, frame.index, frame.captured_at, Origin(frame.image, hidden)), summary

    def close(self) -> None:
        """Ends the memory's threads. Engines belong to their EngineSet."""
        self._remember.close()

    def _summarise(self, faces: Sequence[FaceTrack], hidden: Sequence[HiddenCrop], restored: int) -> FrameSummary:
        """Counts faces and tells the stages which tracks are lost."""
        tracks = frozenset(face.track_id for face in faces)
        stages = (self._see_hidden, self._remember, self._restore, self._blend)
        for stage in stages if self._gate is None else (*stages, self._gate):
            stage.forget(self._tracks - tracks)
        self._tracks = tracks
        self._telemetry.count("faces", len(faces))
        self._telemetry.count("restored", restored)
        return FrameSummary(len(faces), restored, max((crop.coverage for crop in hidden), default=0.0))
