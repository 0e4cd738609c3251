"""What an endpoint answers where it can't do what was asked: a message, a hint and a status."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel
from starlette.exceptions import HTTPException as StarletteError

from engines.errors import EngineError
from occlufix_vcam.control.builds import BuildUnderWay
from occlufix_vcam.core import deadline
from occlufix_vcam.core.errors import OccluFixError, trouble_of
from occlufix_vcam.core.telemetry import SaidOnce
from occlufix_vcam.enrollment.session import EnrollmentBusy
from occlufix_vcam.runtime.supervisor import NeedsRestart, SwitchFailed

log = logging.getLogger(__name__)


class ErrorDetail(BaseModel):
    """What happened, and what to do about it; `code` and `values` say the same to clients that have their own words."""

    message: str
    hint: str
    code: str = ""
    values: dict[str, str] = {}


class ErrorResponse(BaseModel):
    """Every answer that is none of the good ones."""

    detail: ErrorDetail


def refusals(*more: int) -> dict[int | str, dict[str, Any]]:
    """What each endpoint may refuse with; 401, 403, 408 and 413 come from the guard."""
    return {status: {"model": ErrorResponse} for status in (400, 401, 403, 408, 413, 422, *more)}


def explain_errors(app: FastAPI) -> None:
    """What goes wrong in an endpoint becomes a message, a hint and a status."""
    faults = SaidOnce(log)

    @app.exception_handler(OccluFixError)
    @app.exception_handler(EngineError)
    def explain(request: Request, error: OccluFixError | EngineError) -> JSONResponse:
        conflict = isinstance(error, (NeedsRestart, SwitchFailed, BuildUnderWay, EnrollmentBusy))
        status = 408 if isinstance(error, deadline.TooLate) else 409 if conflict else 422
        why = trouble_of(error)
        return _refuse(status, ErrorDetail(message=why.what, hint=why.hint, code=why.code, values=dict(why.values)))

    @app.exception_handler(RequestValidationError)
    def explain_validation(request: Request, error: RequestValidationError) -> JSONResponse:
        first = error.errors()[0]
        where = ".".join(str(step) for step in first["loc"])
        what = f"{where}: {first['msg'].lower()}"
        return _refuse(422, ErrorDetail(message=what, hint="see docs/api.md for what can be sent"))

    @app.exception_handler(Exception)
    def explain_fault(request: Request, error: Exception) -> JSONResponse:
        faults.warning("the control API failed: %r", error)
        return _refuse(500, ErrorDetail(message=f"unexpected: {error!r}", hint="read the log for details"))

    @app.exception_handler(StarletteError)
    def explain_others(request: Request, error: StarletteError) -> Response:
        if isinstance(error.detail, dict):
            return JSONResponse({"detail": error.detail}, error.status_code, headers=error.headers)
        detail = ErrorDetail(message=error.detail, hint="see docs/api.md for the endpoints")
        return _refuse(error.status_code, detail, error.headers)


def _refuse(status: int, detail: ErrorDetail, headers: Mapping[str, str] | None = None) -> JSONResponse:
    # What was sent may hold half of a character, which no answer can.
    text = json.dumps({"detail": detail.model_dump()}, ensure_ascii=False).encode(errors="replace")
    return JSONResponse(json.loads(text), status, headers=headers)
