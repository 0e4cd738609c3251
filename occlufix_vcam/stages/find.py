"""Finds the faces of each frame; stages/track.py tracks them across frames.

Our own finder searches the whole frame only now and then; each tracked face is detected in close-up in every frame,
which is cheaper and gives exact landmarks. InsightFace is a second finder behind the same contract.
"""

from __future__ import annotations

import importlib
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol, cast

import numpy as np

from engines.base import InferenceEngine
from engines.contract import CLOSE_UP_SIZE, SEARCH_SIZE, Image, Points
from engines.errors import EngineUnavailable, ModelMissing
from engines.faces_maps import SURE_IN_VIDEO, Detection, Maps, Run, TwoPassDetector
from engines.installing import install_extra
from engines.offline import import_offline
from occlufix_vcam.core.errors import ConfigError
from occlufix_vcam.core.frame import FaceTrack, Frame
from occlufix_vcam.stages.presence.edge import EdgeFollower, at_edge, lies_in
from occlufix_vcam.stages.track import FaceTracker, is_inside, is_new_face

LoadEngine = Callable[[str, Mapping[str, tuple[int, ...]]], InferenceEngine]

FINDERS = {
    "own": "occlufix_vcam.stages.find:OwnFinder",
    "insightface": "occlufix_vcam.stages.find:InsightFaceFinder",
}

#: While every face is tracked, a new one waits at most so many seconds.
SEARCH_EVERY_S = 0.25


class FaceFinder(Protocol):
    """Finds and tracks the faces in a stream of frames, largest first. Used by one thread."""

    def __call__(self, frame: Frame) -> Sequence[FaceTrack]: ...

    def reset(self) -> None:
        """Forgets all faces: the next frame is unrelated to the last."""
        ...


def open_finder(name: str, load_engine: LoadEngine, max_faces: int = 4) -> FaceFinder:
    """Opens the finder called `name`. `load_engine` takes a model's name and its inputs' shapes.

    Raises ConfigError for an unknown finder, EngineError if an engine, a package or a model pack is missing.
    """
    if name not in FINDERS:
        raise ConfigError(f"unknown face detector `{name}`", f"choose one of: {', '.join(FINDERS)}")
    module, _, class_name = FINDERS[name].partition(":")
    finder = getattr(importlib.import_module(module), class_name)
    return cast(FaceFinder, finder(load_engine, max_faces))


class OwnFinder:
    """Our `faces` network: a search of the whole frame, and a close-up of each face."""

    def __init__(
        self,
        load_engine: LoadEngine,
        max_faces: int = 4,
        detector: Callable[[Run, Run], TwoPassDetector] = TwoPassDetector,
    ) -> None:
        engines = (load_engine("faces", {"frame": (1, *size, 3)}) for size in (SEARCH_SIZE, CLOSE_UP_SIZE))
        self._detector = detector(*(_runner(engine) for engine in engines))
        self._tracks = FaceTracker(max_faces)
        self._edge = EdgeFollower()
        self._max_faces = max_faces
        self._searched_at = -math.inf
        self._is_first = True
        self._shape: tuple[int, ...] = ()

    def __call__(self, frame: Frame) -> Sequence[FaceTrack]:
        image, at = frame.image, frame.captured_at
        if image.shape != self._shape:  # landmarks of another frame size are meaningless here
            self.reset()
            self._shape = image.shape
        finds = self._follow(image, at)
        due = not 0 <= at - self._searched_at < SEARCH_EVERY_S
        if due or not finds or len(finds) < self._tracks.count:
            self._searched_at = at
            new, returned = self._search(image, finds, at)
            finds = [*new, *(find for find in finds if find.sure or is_new_face(find, new))]
            return self._tracks.update(finds, at, returned)
        return self._tracks.update(finds, at)

    def reset(self) -> None:
        self._tracks.clear()
        self._edge.clear()
        self._searched_at = -math.inf
        self._is_first = True

    def _follow(self, image: Image, at: float) -> list[Detection]:
        """Each known face, detected near its last position; tracks that converge on one face give it once."""
        finds: list[Detection] = []
        for track_id, last in self._tracks.last_seen():
            find = self._edge.follow(image, track_id, self._detector.look(image, last.landmarks), at)
            if find and is_new_face(find, finds):
                finds.append(replace(find, sure=last.sure))
        return finds

    def _search(
        self, image: Image, finds: Sequence[Detection], at: float
    ) -> tuple[list[Detection], dict[int, Detection]]:
        """Every face besides those of `finds` that are sure, and those that are back at the edge, by track."""
        new: list[Detection] = []
        returned: dict[int, Detection] = {}
        known_faces = [find for find in finds if find.sure]
        here = {track_id for track_id, _ in self._tracks.last_seen()}
        for face in self._look_around(image, known_faces):
            if any(is_inside(face, other) for other in known_faces):
                continue
            known = self._edge.returned(image, face, at, here | returned.keys()) if at_edge(image, face) else None
            if known is not None:
                returned[known[0]] = known[1]
            elif lies_in(image, face):
                new.append(face)
        if not returned and self._edge.has_away(here):
            returned |= self._back_at_edge(image, at, here)
        return new, returned

    def _back_at_edge(self, image: Image, at: float, here: set[int]) -> dict[int, Detection]:
        """A face that left at the edge and is back, where too little of it is seen for the close-up."""
        for candidate in self._detector.search(image, self._max_faces):
            known = self._edge.returned(image, candidate, at, here) if at_edge(image, candidate) else None
            if known is not None:
                return dict([known])
        return {}

    def _look_around(self, image: Image, known: Sequence[Detection]) -> list[Detection]:
        """Faces besides those `known`. In the first frame, which may be the only one, also turned ones."""
        if not self._is_first:
            return self._detector.find(image, self._max_faces, known, SURE_IN_VIDEO)
        self._is_first = False
        finds = self._detector.find(image, self._max_faces)
        turned = [] if any(find.sure for find in finds) else self._detector.find_turned(image, self._max_faces)
        return [*turned, *(find for find in finds if is_new_face(find, turned))]


class InsightFaceFinder:
    """Detector of an InsightFace model pack on this machine; nothing is downloaded."""

    PACKS = ("buffalo_l", "buffalo_m", "buffalo_s", "buffalo_sc", "antelopev2")

    def __init__(self, load_engine: LoadEngine, max_faces: int = 4, home: Path | None = None) -> None:
        """`load_engine` is unused: InsightFace brings its own engine. `home` is ~/.insightface."""
        home = home or Path.home() / ".insightface"
        package = _import_insightface()
        pack = next((name for name in self.PACKS if any((home / "models" / name).glob("*.onnx"))), None)
        if pack is None:
            raise ModelMissing(
                f"no InsightFace model pack in {home / 'models'}",
                f"download buffalo_l.zip from github.com/deepinsight/insightface/releases and unpack it to "
                f"{home / 'models' / 'buffalo_l'} (its licence: non-commercial research only), or use --finder own",
            )
        self._analysis = package.FaceAnalysis(name=pack, root=str(home), allowed_modules=["detection"])
        self._analysis.prepare(ctx_id=-1, det_size=(640, 640))
        self._tracks = FaceTracker(max_faces)

    def __call__(self, frame: Frame) -> Sequence[FaceTrack]:
        finds = [
            Detection(float(face.det_score), np.asarray(face.bbox, np.float32), _left_first(face.kps))
            for face in self._analysis.get(frame.image)
        ]
        return self._tracks.update(finds, frame.captured_at)

    def reset(self) -> None:
        self._tracks.clear()


def _runner(engine: InferenceEngine) -> Callable[[Image], Maps]:
    return lambda picture: engine.run({"frame": picture})


def _left_first(points: Any) -> Points:
    """Five landmarks, with the eye and the mouth corner that are further left in the image first."""
    landmarks = np.asarray(points, np.float32).reshape(5, 2)
    order = [*(0, 1)[:: 1 if landmarks[0, 0] <= landmarks[1, 0] else -1], 2]
    order += [3, 4] if landmarks[3, 0] <= landmarks[4, 0] else [4, 3]
    return landmarks[order]


def _import_insightface() -> Any:
    try:
        return import_offline("insightface.app")
    except ImportError as error:
        raise EngineUnavailable(
            f"InsightFace is not installed ({error})",
            f"{install_extra('insightface')}, then download a model pack (non-commercial), or use --finder own",
        ) from None
