"""The endpoints of enrolled people: at the camera, from photographs, and each stored view."""

from __future__ import annotations

import asyncio
from typing import Annotated

import cv2
from fastapi import APIRouter, Body, Query, Request, Response
from pydantic import BaseModel

from occlufix_vcam.control.answers import refusals
from occlufix_vcam.control.guard import LONGEST_PHOTOGRAPH, PHOTOGRAPH_PATH
from occlufix_vcam.core import deadline
from occlufix_vcam.enrollment.session import EnrolmentStatus, PeopleFacts
from occlufix_vcam.runtime.daemon import Daemon

VIEW_QUALITY = 85

Name = Annotated[str, Query(max_length=200)]
ViewId = Annotated[str, Query(max_length=64)]


class Enrolment(BaseModel):
    """How the last enrollment at the camera does or did; null where there was none."""

    enrolment: EnrolmentStatus | None


def enrolling(daemon: Daemon) -> APIRouter:
    router = APIRouter(prefix="/v1/enroll", responses=refusals())
    people = daemon.enrollments

    @router.get("")
    def enrolled() -> PeopleFacts:
        """Who is enrolled, how that is kept, and what can't be read. A keyring may ask the user first."""
        return people.people()

    @router.post("", status_code=202, responses=refusals(409))
    def enrol(name: Annotated[str, Body(embed=True)]) -> EnrolmentStatus:
        """Begins to look for one face, up to half a minute; `progress` says how that goes."""
        deadline.check()
        return people.start(name, daemon.settings)

    @router.get("/progress")
    def progress() -> Enrolment:
        return Enrolment(enrolment=people.status())

    @router.post("/cancel")
    def cancel() -> Enrolment:
        """Ends it, keeping nothing."""
        return Enrolment(enrolment=people.cancel())

    @router.delete("/{name:path}")  # a name may hold a slash
    def delete(name: str) -> PeopleFacts:
        """Forgets a person for good."""
        deadline.check()
        return people.delete(name)

    return router


def views(daemon: Daemon) -> APIRouter:
    """Apart from `/v1/enroll/NAME`: a name may hold anything."""
    router = APIRouter(responses=refusals())
    people = daemon.enrollments
    turn = asyncio.Lock()  # engines are loaded for each photograph

    @router.get(
        "/v1/face-view",
        response_class=Response,
        responses={200: {"content": {"image/jpeg": {"schema": {"type": "string", "format": "binary"}}}}},
    )
    def view(name: Name, id: ViewId) -> Response:
        """One stored view of a person."""
        encoded = cv2.imencode(".jpg", people.view(name, id), [cv2.IMWRITE_JPEG_QUALITY, VIEW_QUALITY])[1]
        return Response(encoded.tobytes(), media_type="image/jpeg")

    @router.delete("/v1/face-view")
    def delete_view(name: Name, id: ViewId) -> PeopleFacts:
        """Forgets one view for good, and with the last one the person."""
        deadline.check()
        return people.delete_view(name, id)

    @router.post(
        PHOTOGRAPH_PATH,
        openapi_extra={
            "requestBody": {
                "required": True,
                "content": {
                    "image/*": {"schema": {"type": "string", "format": "binary", "maxLength": LONGEST_PHOTOGRAPH}}
                },
            }
        },
    )
    async def photograph(name: Name, request: Request) -> PeopleFacts:
        """Enrolls a person from a photograph: the body is an image file."""
        stored = await request.body()
        async with turn:
            deadline.check()
            return await asyncio.to_thread(people.add_photograph, name, stored, daemon.settings)

    return router
