"""Whose faces an input shows: enrolled people at one look, one person for every face, or a reference to compare."""

from __future__ import annotations

import logging
from collections.abc import Iterable

from engines.contract import Image
from engines.errors import EngineError
from occlufix_vcam.assembly import open_embedder
from occlufix_vcam.core.errors import OccluFixError
from occlufix_vcam.core.frame import Crop, HiddenCrop
from occlufix_vcam.core.settings import Settings
from occlufix_vcam.inference import EngineSet
from occlufix_vcam.people.person import Person
from occlufix_vcam.people.store import PeopleStore, load_people
from occlufix_vcam.stages.embed import DOUBT_BELOW, Embedder, Embedding, cosine
from occlufix_vcam.stages.identify import AGREEING, LARGEST_COVERAGE, FaceIdentifier
from occlufix_vcam.stages.memory import FaceMemory, FixedReference, KnownPeople, Memory, NoMemory
from occlufix_vcam.stages.reference import Reference

log = logging.getLogger(__name__)

#: `--person` for nobody.
NOBODY = "none"


class People:
    """Memories for one run of `process`, with the enrolled people as they are at its start."""

    def __init__(self, person: str | None, settings: Settings, engines: EngineSet) -> None:
        """`person` forces one by name; "none": nobody. Raises EnrollmentError for a name that is not enrolled."""
        store = PeopleStore()
        self._settings, self._engines = settings, engines
        self._forced = store.find(person) if person is not None and person != NOBODY else None
        self._people = load_people(store) if person is None and settings.memory else ()

    def memory(self, *, still: bool) -> Memory:
        """A memory of one input. In a `still`, there is only one look at a face."""
        if not self._settings.memory and self._forced is None:
            return NoMemory()
        try:
            embed = open_embedder(self._engines)
        except (EngineError, OccluFixError) as error:
            log.warning("nobody is recognised: %s; %s", error.message, error.hint)
            return FaceMemory(known=self._known(None, still))
        return FaceMemory(embed, self._known(embed, still))

    def _known(self, embed: Embedder | None, still: bool) -> KnownPeople | None:
        if self._forced is not None:
            return OnePerson(self._forced)
        if embed is None or not self._people:
            return None
        return FaceIdentifier(lambda: self._people, embed, agreeing=1 if still else AGREEING)


class OnePerson:
    """Takes every face for one person: `--person NAME`."""

    def __init__(self, person: Person) -> None:
        self._person = person

    def identify(self, track_id: int, crop: Crop, mask: Image) -> Person:
        return self._person

    def forget(self, track_ids: Iterable[int]) -> None:
        """Does nothing: no track is remembered."""

    def close(self) -> None:
        """Does nothing: nothing is open."""


class ComparedReference:
    """A reference, and in `least` how alike its face and those it restores are: below `stranger`, another person's."""

    def __init__(self, reference: FixedReference, own: Embedding, embed: Embedder) -> None:
        self._reference, self._own, self._embed = reference, own, embed
        self.stranger = embed.same_person - DOUBT_BELOW
        self.least: float | None = None
        self._seen: set[int] = set()

    def __call__(self, hidden: HiddenCrop) -> Reference:
        track_id = hidden.crop.face.track_id
        if hidden.mask.any() and hidden.coverage <= LARGEST_COVERAGE and track_id not in self._seen:
            self._seen.add(track_id)
            alike = cosine(self._own, self._embed(hidden.crop, hidden.mask))
            self.least = alike if self.least is None else min(self.least, alike)
        return self._reference(hidden)

    def note(self) -> str:
        """A warning about the input so far, "" if there is none; the next input begins anew."""
        least, self.least = self.least, None
        self._seen.clear()
        if least is None or least >= self.stranger:
            return ""
        return (
            f"the reference may show another person: similarity {least:.2f}, one person has {self.stranger:.2f} or more"
        )

    def whose(self, track_id: int) -> int:
        return self._reference.whose(track_id)

    def name(self, track_id: int) -> str:
        return self._reference.name(track_id)

    def forget(self, track_ids: Iterable[int]) -> None:
        self._reference.forget(track_ids)

    def close(self) -> None:
        self._reference.close()


def compared(reference: FixedReference, engines: EngineSet) -> ComparedReference | FixedReference:
    """`reference`, compared with each face if the network for it can be had."""
    try:
        embed = open_embedder(engines)
        return ComparedReference(reference, embed(reference.crop, reference.hidden), embed)
    except (EngineError, OccluFixError) as error:
        log.warning("the reference is not compared: %s; %s", error.message, error.hint)
        return reference
