"""The endpoints of the recording."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Body
from pydantic import BaseModel

from occlufix_vcam.control.answers import refusals
from occlufix_vcam.core import deadline
from occlufix_vcam.core.status import RecordingFacts
from occlufix_vcam.runtime.daemon import Daemon


class RecordingAnswer(BaseModel):
    """The recording under way; null where there is none. `file` is that of the last one."""

    recording: RecordingFacts | None
    file: str | None = None


def recording(daemon: Daemon) -> APIRouter:
    router = APIRouter(prefix="/v1/recording", responses=refusals(409))

    @router.post("")
    def record(
        recording: Annotated[bool, Body(strict=True)], beside: Annotated[bool, Body(strict=True)] = False
    ) -> RecordingAnswer:
        """Starts a recording in the user's Videos folder, or ends it.

        `beside`: with the picture before restoring beside the output. Only the recording opens and closes.
        """
        deadline.check()
        if recording:
            return RecordingAnswer(recording=daemon.recording.start(beside))
        file = daemon.recording.stop()
        return RecordingAnswer(recording=None, file=str(file) if file else None)

    @router.post("/show")
    def show() -> RecordingAnswer:
        """Shows the last recording in the file manager."""
        return RecordingAnswer(recording=daemon.recording.facts(), file=str(daemon.recording.show()))

    return router
