"""The endpoints, room by room; the page's own are in `page_routes.py`.

They only call the daemon and the services; `answers.py` says what goes wrong. Imported in the API's own thread, since
FastAPI takes its time.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from typing import Annotated, Any, Literal, ParamSpec, TypeVar

from fastapi import APIRouter, Body, HTTPException, Query, Response
from fastapi.responses import StreamingResponse
from pydantic import BaseModel

from occlufix_vcam.control.answers import refusals
from occlufix_vcam.control.builds import BuildStatus
from occlufix_vcam.control.forms import Field, settings_form
from occlufix_vcam.control.preview_stream import View
from occlufix_vcam.control.services import Services
from occlufix_vcam.core import deadline
from occlufix_vcam.core.settings import PRESETS, Reopens, Settings, save_settings, settings_that_reopen
from occlufix_vcam.core.status import Status
from occlufix_vcam.diagnostics.doctor import list_devices
from occlufix_vcam.runtime.daemon import Daemon

log = logging.getLogger(__name__)


class Enabled(BaseModel):
    """Whether hidden faces are restored."""

    enabled: bool


P = ParamSpec("P")
T = TypeVar("T")


class OneAtATime:
    """Runs slow work in a thread, one task after another: only the client that asks for much of it waits."""

    def __init__(self) -> None:
        self._turn = asyncio.Lock()

    async def __call__(self, work: Callable[P, T], *arguments: P.args, **named: P.kwargs) -> T:
        def in_time() -> T:
            deadline.check()
            return work(*arguments, **named)

        async with self._turn:
            return await asyncio.to_thread(in_time)


# ---- on, off, builds, devices ----


def steering(daemon: Daemon, services: Services) -> APIRouter:
    router = APIRouter(prefix="/v1", responses=refusals())
    in_turn = OneAtATime()

    @router.get("/status")
    async def status() -> Status:
        return daemon.status()

    @router.post("/toggle")
    async def toggle(enabled: Annotated[bool | None, Body(embed=True, strict=True)] = None) -> Enabled:
        """Switches restoring on or off; null, or no body, the other way."""
        return Enabled(enabled=daemon.toggle(enabled))

    @router.post("/bare")
    async def bare() -> Enabled:
        """Shows the untouched picture for two seconds."""
        daemon.show_bare()
        return Enabled(enabled=daemon.settings.enabled)

    @router.post("/stop")
    async def stop() -> dict[str, str]:
        daemon.stop()
        return {"state": "stopping"}

    @router.get("/devices")
    async def devices() -> dict[str, Any]:
        """Cameras, virtual cameras and backends of this machine."""
        return asdict(await in_turn(list_devices))

    @router.get("/builds")
    async def builds() -> BuildStatus:
        """How far the last build is."""
        return services.builds.status()

    @router.post("/builds", status_code=202, responses=refusals(409))
    async def start_build(models: Annotated[list[str] | None, Body(embed=True)] = None) -> BuildStatus:
        """Builds, checks and times engines as the settings say; all models, or those named."""
        return services.builds.start(models or [], daemon.settings)

    return router


# ---- settings ----

_PENDING: dict[str, Any] = {
    "model": Settings,
    "description": "What the settings name still opens. They are saved once they hold; else the status says why.",
}


def _keep_nothing() -> None:
    """The change ends with the daemon."""


def _changes_schema() -> dict[str, Any]:
    """For the documentation: the same as Settings, of which any part may be sent."""
    schema = Settings.model_json_schema()
    properties = {
        name: {key: value for key, value in told.items() if key != "default"}
        for name, told in schema["properties"].items()
    }
    body = {"type": "object", "additionalProperties": False, "properties": properties}
    return {"requestBody": {"required": True, "content": {"application/json": {"schema": body}}}}


def settings(daemon: Daemon) -> APIRouter:
    router = APIRouter(prefix="/v1/settings", responses=refusals())
    in_turn = OneAtATime()

    @router.get("")
    async def show() -> Settings:
        return daemon.settings

    @router.get("/form")
    async def form() -> list[Field]:
        """What there is to choose, how, and when it takes effect."""
        return settings_form()

    @router.get("/presets")
    async def presets() -> dict[str, dict[str, Any]]:
        """Sets of settings for an occasion, by name: what each changes."""
        return {name: dict(changes) for name, changes in PRESETS.items()}

    @router.patch("", responses={**refusals(409), 202: _PENDING}, openapi_extra=_changes_schema())
    async def change(changes: Annotated[dict[str, Any], Body()], response: Response, save: bool = False) -> Settings:
        """Changes settings at once, and where `save` is true also for the next start.

        409 where a camera, sinks or a pipeline could not be had, or a setting needs a restart and is not saved. 202
        where what the settings name still opens: they are saved once they hold, else the status says why they do not.
        """
        daemon.settings.but(**changes)
        waits = settings_that_reopen(Reopens.RESTART) if save else frozenset()
        at_once = {key: value for key, value in changes.items() if key not in waits}
        keep = partial(save_settings, changes) if save else _keep_nothing
        if not await in_turn(daemon.update, at_once, keep):
            response.status_code = 202
        return daemon.settings

    return router


# ---- pictures and events ----


def looking(daemon: Daemon, services: Services) -> APIRouter:
    router = APIRouter(prefix="/v1", responses=refusals())
    in_turn = OneAtATime()

    @router.get(
        "/snapshot", response_class=Response, responses={**refusals(409), 200: _binary("image/jpeg", "image/png")}
    )
    async def snapshot(view: View = "after", format: Literal["jpeg", "png"] = "jpeg") -> Response:
        """The picture that goes out now, at its full size; `both`: the one before above the one after."""
        picture = await in_turn(services.pictures.snapshot, view, format)
        if picture is None:
            raise HTTPException(409, {"message": "there is no frame yet", "hint": "try again in a moment"})
        return Response(picture, media_type=f"image/{format}")

    @router.get(
        "/preview",
        response_class=StreamingResponse,
        responses={**refusals(429), 200: _binary("multipart/x-mixed-replace")},
    )
    async def preview(view: View = "both") -> StreamingResponse:
        """The pictures that go out, reduced, at most 15 a second, as JPEG parts with X-Halves and X-Outlines."""
        if services.pictures.full():
            raise HTTPException(429, {"message": "too many previews are open", "hint": "close another preview"})
        return StreamingResponse(
            services.pictures.stream(view), media_type="multipart/x-mixed-replace; boundary=picture"
        )

    @router.get(
        "/events", response_class=StreamingResponse, responses={**refusals(429), 200: _binary("text/event-stream")}
    )
    async def events(every: Annotated[float | None, Query(ge=0.2, le=60)] = None) -> StreamingResponse:
        """Server-sent events `status`, `settings`, `builds` and `enrolment`: each once, then when it changes.

        With `every`, the status also comes each so many seconds, with its newest figures.
        """
        if services.events.full():
            raise HTTPException(429, {"message": "too many pages are open", "hint": "close another page"})
        return StreamingResponse(services.events.stream(every), media_type="text/event-stream")

    return router


def _binary(*kinds: str) -> dict[str, Any]:
    return {"content": {kind: {"schema": {"type": "string", "format": "binary"}} for kind in kinds}}
