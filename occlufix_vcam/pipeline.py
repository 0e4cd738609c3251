"""The product on one screen: a frame goes in, and the frame with its faces restored comes out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

import cv2
import numpy as np

from engines.contract import Affine, Image
from occlufix_vcam.core.frame import Crop, FaceTrack, Fill, Frame, HiddenCrop, Origin, Patch
from occlufix_vcam.core.telemetry import Telemetry
from occlufix_vcam.stages.align import Realignment, align
from occlufix_vcam.stages.compositing.beyond import Beyond
from occlufix_vcam.stages.compositing.blend import Blender
from occlufix_vcam.stages.compositing.watermark import Corner, put_mark
from occlufix_vcam.stages.find import FaceFinder
from occlufix_vcam.stages.geometry import compose
from occlufix_vcam.stages.memory import Memory
from occlufix_vcam.stages.presence.gate import FaceGate
from occlufix_vcam.stages.reference import Reference
from occlufix_vcam.stages.scene.memory import SceneMemory


class OcclusionSegmenter(Protocol):
    """Segments what hides a face; `forget` names lost tracks. While it `hurries`, it may look less often."""

    hurries: bool

    def __call__(self, crop: Crop) -> HiddenCrop: ...

    def forget(self, track_ids: Iterable[int]) -> None: ...


class FaceRestorer(Protocol):
    """Restores hidden parts, or leaves the face as it is (None); `forget` names lost tracks."""

    def __call__(self, hidden: HiddenCrop, reference: Reference) -> Patch | None: ...

    def forget(self, track_ids: Iterable[int]) -> None: ...


@dataclass(frozen=True, slots=True)
class FrameSummary:
    """Faces in one frame, how many of them were restored, the largest hidden share of a face, and who is recognised.

    `left` counts the hidden faces that were left alone, by reason: "turned" far aside, "behind" the head of somebody
    else, or too little of it visible to be "sure".
    """

    faces: int = 0
    restored: int = 0
    coverage: float = 0.0
    people: tuple[str, ...] = ()
    left: Mapping[str, int] = field(default_factory=dict)


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
        mark: Corner | None = None,
        strength: int = 100,
        beyond: Beyond = "fade",
        scene: SceneMemory | None = None,
        still: bool = False,
    ) -> None:
        """Without a `gate` every hidden face is restored.

        `mark` is the corner into which "restored" is written while a face is; `beyond` is the Blender's. `scene`
        remembers what surrounds the faces; None: nothing of it. `still`: for single pictures, for which there is time.
        """
        self._find = find
        self._see_hidden = see_hidden
        self._remember = remember
        self._scene = scene
        self._realign = Realignment()
        self._restore = restore
        self._gate = gate
        self._blend = Blender(beyond, paints=still)
        self._telemetry = telemetry
        #: Corner into which "restored" is written; None: nowhere. It may change between two frames.
        self.mark = mark
        #: Share of the restored picture that is mixed in, in percent. It may change between two frames.
        self.strength = strength
        #: Whether to spare work because the machine is busy. It may change between two frames.
        self.hurries = False
        self._tracks: frozenset[int] = frozenset()

    def __call__(self, frame: Frame) -> tuple[Frame, FrameSummary]:
        """New frame, or `frame` itself if no face is hidden; and its summary. Raises EngineRunError."""
        span = self._telemetry.span
        with span("total"):
            with span("find"):
                faces = self._find(frame)
            with span("align"):
                present = faces if self._gate is None else self._gate.present(frame, faces)
                crops = [crop for face in present if (crop := align(frame, self._realign(face))) is not None]
            with span("hidden"):
                self._see_hidden.hurries = self.hurries
                seen = [self._see_hidden(crop) for crop in crops]
            with span("remember"):
                refusals = [None if self._gate is None else self._gate.refusal(crop, faces) for crop in seen]
                open_ = [crop for crop, refusal in zip(seen, refusals, strict=True) if refusal is None]
                known = [self._recalled(crop) for crop in open_]
                fill = self._behind(frame, open_, known)
            pairs = [(crop, face) for crop, face in zip(open_, known, strict=True) if crop.mask.any()]
            hidden = tuple(crop for crop, _ in pairs)
            with span("restore"):
                patches = [patch for crop, face in pairs if (patch := self._restore(crop, face)) is not None]
            with span("blend"):
                image = _mixed(frame.image, self._blend(frame.image, patches, fill, frame.captured_at), self.strength)
            if self.mark is not None and patches and image is not frame.image:
                put_mark(image, self.mark)
            left: Counter[str] = Counter(
                why for crop, why in zip(seen, refusals, strict=True) if why and crop.mask.any()
            )
            left["unsure"] += len(hidden) - len(patches)
            summary = self._summarise(faces, hidden, len(patches), +left)
        if image is frame.image:
            return frame, summary
        return replace(frame, image=image, restored_from=Origin(frame.image, hidden)), summary

    def _recalled(self, hidden: HiddenCrop) -> Reference:
        known = self._remember(hidden)
        self._realign.learn(hidden.crop, known.aligned, bool(hidden.mask.any()))
        return known

    def _behind(self, frame: Frame, seen: Sequence[HiddenCrop], known: Sequence[Reference]) -> Fill | None:
        """What the scene's memory knows of what the things in a frame hide."""
        if self._scene is None:
            return None
        people = [self._remember.whose(crop.crop.face.track_id) for crop in seen]
        return self._scene(frame, seen, people, [_head(*pair) for pair in zip(seen, known, strict=True)])

    def close(self) -> None:
        """Ends the memory's and the blender's threads. Engines belong to their EngineSet."""
        self._remember.close()
        self._blend.close()

    def _summarise(
        self, faces: Sequence[FaceTrack], hidden: Sequence[HiddenCrop], restored: int, left: Mapping[str, int]
    ) -> FrameSummary:
        """Counts faces and tells the stages which tracks are lost."""
        tracks = frozenset(face.track_id for face in faces)
        stages = (self._realign, self._see_hidden, self._remember, self._restore, self._blend)
        for stage in stages if self._gate is None else (*stages, self._gate):
            stage.forget(self._tracks - tracks)
        self._tracks = tracks
        self._telemetry.count("faces", len(faces))
        self._telemetry.count("restored", restored)
        people = [self._remember.name(face.track_id) for face in faces]
        coverage = max((crop.coverage for crop in hidden), default=0.0)
        return FrameSummary(len(faces), restored, coverage, tuple(name for name in people if name), left)


def _head(seen: HiddenCrop, known: Reference) -> Affine:
    """The way from the frame to the face's template: by a remembered view if one is found, else by landmarks."""
    to_crop = seen.crop.to_crop
    return to_crop if known.aligned is None else compose(known.aligned, to_crop)


def _mixed(untouched: Image, restored: Image, strength: int) -> Image:
    """`restored` with a share of the `untouched` image; equal pixels keep their value. One of the two at 0 and 100."""
    if strength >= 100 or restored is untouched:
        return restored
    if strength <= 0:
        return untouched
    share = strength / 100
    return np.asarray(cv2.addWeighted(restored, share, untouched, 1 - share, 0), np.uint8)
