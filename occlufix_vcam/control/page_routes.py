"""The control page's endpoints: links, sessions, its files. `sessions.py` decides who is let in."""

from __future__ import annotations

import asyncio
import functools
import html
from pathlib import Path
from typing import Annotated

from fastapi import APIRouter, HTTPException, Query, Request, Response
from fastapi.responses import FileResponse, HTMLResponse
from pydantic import BaseModel
from pydantic import Field as Limits

from occlufix_vcam.control.answers import refusals
from occlufix_vcam.control.guard import HINT
from occlufix_vcam.control.sessions import LINK_S, Admission, Session, Sessions

PAGE = Path(__file__).parent / "page"
#: Where the page finds its session when a link opens it.
NO_SESSION = '<meta name="session" content="">'
MEDIA_TYPES = {".css": "text/css", ".js": "text/javascript", ".json": "application/json", ".svg": "image/svg+xml"}
ShortText = Annotated[str, Limits(max_length=100)]


class Link(BaseModel):
    """Where the page opens, once and soon; `file`, where asked for, is one of this user alone that leads there."""

    path: str
    file: str | None = None


class PageSession(BaseModel):
    """What a page that is let in keeps in its memory.

    `session` goes into its requests' header, `Authorization: Bearer SESSION`. With `id` and `key` it comes back to the
    next daemon: see `POST /resume`.
    """

    session: str
    id: str
    key: str


class Resumed(PageSession):
    """`proof` is HMAC-SHA256(the earlier key, "daemon PORT CHALLENGE") in hex: no other program answers with it."""

    proof: str


class PageKey(BaseModel):
    """The page's key: see `POST /resume`."""

    key: str


class Challenge(BaseModel):
    """Good for one proof, within half a minute."""

    challenge: str


class Proof(BaseModel):
    id: ShortText
    challenge: Annotated[str, Limits(max_length=200)]
    proof: ShortText


class SignedOutPages(BaseModel):
    """How many pages that were."""

    signed_out: int


def page(sessions: Sessions) -> APIRouter:
    """All endpoints of the page."""
    router = APIRouter()
    for part in (_letting_in(sessions), _letting_in_again(sessions), _files()):
        router.include_router(part)
    return router


def _give_cookie(response: Response, sessions: Sessions, admission: Admission) -> None:
    response.set_cookie(sessions.cookie, admission.session.cookie, httponly=True, samesite="strict", path="/")


def _letting_in(sessions: Sessions) -> APIRouter:
    router = APIRouter()

    def session_of(request: Request) -> Session | None:
        return sessions.know(request.headers.get("authorization", "").removeprefix("Bearer "))

    @router.post("/v1/links", responses=refusals())
    async def make_link(file: bool = False) -> Link:
        """A link to the page that works once, within a minute; with `file`, a file that leads there and goes with it.

        A program that opens a browser hands it the file: a command line can be read by every user of the machine.
        """
        link = sessions.make_link(file)
        asyncio.get_running_loop().call_later(LINK_S + 1, sessions.drop_old_links)
        return Link(path=link.path, file=str(link.file) if link.file else None)

    @router.get("/v1/page-key", responses=refusals())
    async def page_key(request: Request) -> PageKey:
        """The key of the page that asks."""
        if (session := session_of(request)) is None:
            raise HTTPException(403, {"message": "only a page that was let in has a key", "hint": HINT})
        return PageKey(key=sessions.key_of(session))

    @router.post("/v1/sign-out", responses=refusals())
    async def sign_out(request: Request) -> SignedOutPages:
        """Signs out every other page, for good; all of them where the token asks."""
        return SignedOutPages(signed_out=sessions.sign_out_others(session_of(request)))

    @router.get("/open", response_class=Response, responses={**refusals(), 200: {"content": {"text/html": {}}}})
    async def open_link(key: Annotated[str, Query(max_length=100)]) -> Response:
        """The page, with its session, for a link that was not used yet."""
        if (admission := sessions.open(key)) is None:
            raise HTTPException(401, {"message": "this link was already used or has expired", "hint": HINT})
        given = PageSession(session=admission.session.secret, id=admission.session.page, key=admission.key)
        told = html.escape(given.model_dump_json(), quote=True)
        response = HTMLResponse(_index().replace(NO_SESSION, NO_SESSION.replace('""', f'"{told}"')))
        _give_cookie(response, sessions, admission)
        return response

    return router


def _letting_in_again(sessions: Sessions) -> APIRouter:
    router = APIRouter()

    @router.get("/resume", responses=refusals())
    async def challenge() -> Challenge:
        """What a page proves its key over, to come back."""
        return Challenge(challenge=sessions.challenge())

    @router.post("/resume", responses=refusals())
    async def resume(told: Proof, response: Response) -> Resumed:
        """A new session and key for HMAC-SHA256(the page's key, "PORT CHALLENGE") in hex; the old ones end."""
        admission = sessions.resume(told.id, told.challenge, told.proof)
        if admission is None:
            raise HTTPException(401, {"message": "this page was signed out, or is too old", "hint": HINT})
        _give_cookie(response, sessions, admission)
        session = admission.session
        return Resumed(session=session.secret, id=session.page, key=admission.key, proof=admission.proof)

    return router


def _files() -> APIRouter:
    router = APIRouter()

    @router.get("/", include_in_schema=False)
    async def index() -> FileResponse:
        return FileResponse(PAGE / "index.html", media_type="text/html")

    @router.get("/page/{name:path}", include_in_schema=False)
    async def asset(name: str) -> FileResponse:
        if name not in _assets():
            raise HTTPException(404, {"message": "there is no such file", "hint": "the page is at /"})
        return FileResponse(PAGE / name, media_type=MEDIA_TYPES[Path(name).suffix])

    return router


@functools.cache
def _assets() -> frozenset[str]:
    return frozenset(path.relative_to(PAGE).as_posix() for path in PAGE.rglob("*") if path.suffix in MEDIA_TYPES)


@functools.cache
def _index() -> str:
    return (PAGE / "index.html").read_text(encoding="utf-8")
