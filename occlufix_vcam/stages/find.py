"""Where the faces are: found, followed from frame to frame under one id each, and held still while they are still.

Our own finder searches the whole frame only now and then; each face that it follows is looked at close up in every
frame, which is cheaper and gives exact landmarks. InsightFace is a second finder behind the same door.
"""

from __future__ import annotations

import importlib
import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, cast

import numpy as np

from engines.base import InferenceEngine
from engines.contract import CLOSE_UP_SIZE, SEARCH_SIZE, Image, Points
from engines.errors import EngineUnavailable, ModelMissing
from engines.faces_maps import Detection, Maps, TwoPassDetector, overlap
from engines.installing import install_extra
from engines.offline import import_offline
from occlufix_vcam.core.errors import ConfigError
from occlufix_vcam.core.frame import FaceTrack, Frame

LoadEngine = Callable[[str, Mapping[str, tuple[int, ...]]], InferenceEngine]

FINDERS = {
    "own": "occlufix_vcam.stages.find:OwnFinder",
    "insightface": "occlufix_vcam.stages.find:InsightFaceFinder",
}

#: With every face followed, a newcomer waits this many frames at most.
SEARCH_EVERY = 8
#: A face that is not seen stays where it was for so many frames: a hand that passes does not end its track.
GRACE_FRAMES = 6
#: A find belongs to a track whose middle is within this share of the face's size.
REACH = 0.7
#: Where all places are taken, a newcomer this much larger takes the smallest face's.
LARGER = 1.5
#: Two finds that overlap more than this are one face.
SAME_FACE = 0.4


class FaceFinder(Protocol):
    """Finds and follows the faces of a stream of frames, largest first. Used by one thread."""

    def __call__(self, frame: Frame) -> Sequence[FaceTrack]: ...

    def reset(self) -> None:
        """Forgets all faces: the next frame has nothing to do with the last."""
        ...


def open_finder(name: str, load_engine: LoadEngine, max_faces: int = 4) -> FaceFinder:
    """The finder called `name`. `load_engine` takes a model's name and its inputs' shapes.

    Raises ConfigError (no such finder), EngineError (an engine, a package or a model pack is missing).
    """
    if name not in FINDERS:
        raise ConfigError(f"there is no finder `{name}`", f"choose one of: {', '.join(FINDERS)}")
    module, _, class_name = FINDERS[name].partition(":")
    finder = getattr(importlib.import_module(module), class_name)
    return cast(FaceFinder, finder(load_engine, max_faces))


class OwnFinder:
    """Our `faces` network: a search of the whole frame, and a close-up of each face."""

    def __init__(self, load_engine: LoadEngine, max_faces: int = 4) -> None:
        engines = (load_engine("faces", {"frame": (1, *size, 3)}) for size in (SEARCH_SIZE, CLOSE_UP_SIZE))
        self._detector = TwoPassDetector(*(_runner(engine) for engine in engines))
        self._tracks = FaceTracker(max_faces)
        self._max_faces = max_faces
        self._since_search = 0
        self._shape: tuple[int, ...] = ()

    def __call__(self, frame: Frame) -> Sequence[FaceTrack]:
        if frame.image.shape != self._shape:  # landmarks of another picture size say nothing here
            self.reset()
            self._shape = frame.image.shape
        finds = self._follow(frame.image)
        self._since_search += 1
        if len(finds) < self._tracks.count or not finds or self._since_search >= SEARCH_EVERY:
            finds = self._search(frame.image, finds)
            self._since_search = 0
        return self._tracks.update(finds, frame.captured_at)

    def reset(self) -> None:
        self._tracks.clear()
        self._since_search = 0

    def _follow(self, image: Image) -> list[Detection]:
        """Each known face, looked at where it was last; tracks that ended up on one face give it once."""
        finds: list[Detection] = []
        for landmarks in self._tracks.last_seen():
            find = self._detector.look(image, landmarks)
            if find and _is_new(find, finds):
                finds.append(find)
        return finds

    def _search(self, image: Image, finds: list[Detection]) -> list[Detection]:
        """`finds` and every other face of the frame."""
        for face in self._detector.find(image, self._max_faces, known=finds):
            finds.append(face)
        return finds


class InsightFaceFinder:
    """The detector of an InsightFace model pack that lies on this machine; nothing is downloaded."""

    PACKS = ("buffalo_l", "buffalo_m", "buffalo_s", "buffalo_sc", "antelopev2")

    def __init__(self, load_engine: LoadEngine, max_faces: int = 4, home: Path | None = None) -> None:
        """`load_engine` is not asked: InsightFace brings its own. `home` is ~/.insightface."""
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


@dataclass(slots=True, eq=False)
class _Track:
    """One face that is followed: what was seen last, and the filter that holds it still."""

    track_id: int
    find: Detection
    smooth: OneEuro
    landmarks: Points
    unseen: int = 0

    @property
    def size_px(self) -> float:
        return _size_px(self.find)


class FaceTracker:
    """Gives faces their ids: a find goes to the nearest track, a track without a find waits and then ends."""

    def __init__(self, max_faces: int) -> None:
        self._max_faces = max_faces
        self._tracks: list[_Track] = []
        self._ids = itertools.count(1)

    @property
    def count(self) -> int:
        return len(self._tracks)

    def last_seen(self) -> list[Points]:
        """Where each face was seen last, not smoothed: nx5x2, largest first."""
        return [track.find.landmarks for track in self._tracks]

    def clear(self) -> None:
        """Ends all tracks; ids are never used again."""
        self._tracks = []

    def update(self, finds: Sequence[Detection], at: float) -> list[FaceTrack]:
        """The faces after a frame of time `at` (seconds) in which `finds` were found, largest first."""
        waiting = list(finds)
        for track in self._tracks:
            track.unseen += 1
        for track, find in self._pairs(waiting):
            track.find, track.unseen = find, 0
            track.landmarks = track.smooth(find.landmarks, track.size_px, at)
            waiting.remove(find)
        self._tracks = [track for track in self._tracks if track.unseen <= GRACE_FRAMES]
        for find in sorted(waiting, key=_size_px, reverse=True):
            self._admit(find, at)
        self._tracks.sort(key=lambda track: track.size_px, reverse=True)
        return [FaceTrack(track.track_id, track.landmarks, track.find.score) for track in self._tracks]

    def _pairs(self, finds: Sequence[Detection]) -> list[tuple[_Track, Detection]]:
        """Which find is which track's: nearest pairs first, each at most once."""
        near = []
        for track, find in itertools.product(self._tracks, finds):
            shift = find.landmarks.mean(axis=0) - track.find.landmarks.mean(axis=0)
            distance = float(np.hypot(*shift)) / track.size_px
            if distance < REACH and 0.5 < _size_px(find) / track.size_px < 2.0:
                near.append((distance, track, find))
        pairs: list[tuple[_Track, Detection]] = []
        for _, track, find in sorted(near, key=lambda pair: pair[0]):
            if all(track is not other and find is not taken for other, taken in pairs):
                pairs.append((track, find))
        return pairs

    def _admit(self, find: Detection, at: float) -> None:
        """A new track, if there is room, or if the find is much larger than the smallest face."""
        if not _is_new(find, [track.find for track in self._tracks]):
            return
        if len(self._tracks) >= self._max_faces:
            smallest = min(self._tracks, key=lambda track: track.size_px)
            if _size_px(find) < LARGER * smallest.size_px:
                return
            self._tracks.remove(smallest)
        smooth = OneEuro()
        landmarks = smooth(find.landmarks, _size_px(find), at)
        self._tracks.append(_Track(next(self._ids), find, smooth, landmarks))


class OneEuro:
    """Holds the landmarks of a still face still and lets those of a moving one go.

    A low-pass filter whose cut-off rises with the speed. Everything is in units of the face's size, so that near and
    far faces are held alike; all landmarks share one cut-off, so that a face does not bend while it moves.
    Source: G. Casiez, N. Roussel, D. Vogel, "1 EUR filter", CHI 2012.
    """

    CUTOFF_HZ = 1.2
    CUTOFF_PER_SPEED = 18.0  # Hz for one face size a second: the lag stays below 1/(2 pi 18), 0.9 % of the face
    SPEED_CUTOFF_HZ = 1.5

    def __init__(self) -> None:
        self._landmarks: Points | None = None
        self._speed: Points = np.zeros((5, 2), np.float32)
        self._at = 0.0

    def __call__(self, landmarks: Points, size_px: float, at: float) -> Points:
        """The smoothed 5x2 landmarks at time `at` in seconds; `size_px` is the face's size."""
        last, self._landmarks = self._landmarks, landmarks
        if last is None:
            self._at = at
            return landmarks
        elapsed = min(max(at - self._at, 1 / 240), 0.25)  # a clip may run faster, a camera pause
        self._at = at
        move = (landmarks - last) / size_px
        share = _share(self.SPEED_CUTOFF_HZ, elapsed)
        self._speed = self._speed + share * (move / elapsed - self._speed)
        cutoff = self.CUTOFF_HZ + self.CUTOFF_PER_SPEED * float(np.hypot(*self._speed.T).mean())
        self._landmarks = last + np.float32(_share(cutoff, elapsed)) * (landmarks - last)
        return self._landmarks


def _share(cutoff_hz: float, elapsed: float) -> float:
    """The share of the newest value in a first-order low-pass filter."""
    return 1.0 / (1.0 + 1.0 / (2.0 * math.pi * cutoff_hz * elapsed))


def _size_px(find: Detection) -> float:
    """The side of a square as large as the face's box."""
    return math.sqrt(max(float(np.prod(find.box[2:] - find.box[:2])), 1.0))


def _is_new(find: Detection, others: Sequence[Detection]) -> bool:
    return all(overlap(find.box, other.box) < SAME_FACE for other in others)


def _runner(engine: InferenceEngine) -> Callable[[Image], Maps]:
    return lambda picture: engine.run({"frame": picture})


def _left_first(points: Any) -> Points:
    """Five landmarks with the eye and the mouth corner that are further left in the picture first."""
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
