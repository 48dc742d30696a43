"""The server of the page: it answers this machine, or whoever knows its token, and changes nothing."""

import ipaddress
import json
import secrets
import socket
from collections.abc import Callable
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, RedirectResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from analysis.dashboard import page
from analysis.dashboard.views import Views
from search.errors import UserError, expect, masked

FILES = {"js": "text/javascript", "css": "text/css"}
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; "
    "img-src data: blob:; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}
LOCAL = ("127.0.0.1", "localhost", "[::1]")
COOKIE = "odyssey"


class _Json(JSONResponse):
    def render(self, content: Any) -> bytes:
        return json.dumps(content, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()


class Guard:
    """Lets through what comes from the page itself: requests under the server's own name, from no other site, and
    where the server is not for this machine alone, with its token.

    A name that another site has pointed at this machine (DNS rebinding) is not the server's own.

    Args:
        app: what is guarded.
        names: hosts with port by which the server may be called; empty if any may, for there is a token.
        token: to be known; empty if none is needed.
    """

    def __init__(self, app: ASGIApp, names: tuple[str, ...], token: str):
        self._app, self._names, self._token = app, names, token

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request = Request(scope)
        host, origin = request.headers.get("host", ""), request.headers.get("origin")
        refused: Response | None = None
        if self._names and host not in self._names:
            refused = PlainTextResponse("this server does not go by that name", 403)
        elif origin is not None and origin != f"http://{host}":
            refused = PlainTextResponse("asked from another site", 403)
        elif self._token and not self._knows(request):
            refused = PlainTextResponse("expected the address with the token that the command has printed", 403)
        elif self._token and "token" in request.query_params and request.url.path == "/":
            refused = RedirectResponse("/", 303)  # so that the token stands in no history and no screenshot
            refused.set_cookie(COOKIE, self._token, httponly=True, samesite="strict")
        if refused:
            refused.headers.update(HEADERS)
        await (refused or self._app)(scope, receive, send)

    def _knows(self, request: Request) -> bool:
        given = (request.query_params.get("token", ""), request.cookies.get(COOKIE, ""))
        return any(secrets.compare_digest(text.encode(), self._token.encode()) for text in given)


def application(views: Views, names: tuple[str, ...], token: str = "") -> ASGIApp:
    """The ASGI application.

    Args:
        views: what it answers from.
        names, token: as of `Guard`.
    """

    def index(request: Request) -> Response:
        return Response(page.live(), media_type="text/html", headers=HEADERS)

    def asset(request: Request) -> Response:
        name = request.path_params["name"]
        if name not in (*page.SCRIPTS, page.STYLE):
            return PlainTextResponse("no such file", 404, HEADERS)
        # What comes with the project does not change while the server runs.
        kept = HEADERS | {"Cache-Control": "max-age=3600"}
        return Response(page.asset(name), media_type=FILES[name.rpartition(".")[2]], headers=kept)

    async def api(request: Request) -> Response:
        try:
            params = {key: value for key, value in request.query_params.items() if key != "token"}
            answer = await run_in_threadpool(views.answer, request.path_params["name"], params)
        except UserError as error:
            return _Json({"error": masked(str(error))}, 400, HEADERS)
        return _Json(answer, headers=HEADERS)

    routes = [Route("/", index), Route("/assets/{name}", asset), Route("/api/{name}", api)]
    return Guard(Starlette(routes=routes), names, token)


def bound(host: str, port: int) -> socket.socket:
    """A socket that listens on a port of an address, or on a free one if that is taken.

    Raises:
        UserError: there is no such address here.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    for wanted in (port, 0):
        listening = socket.socket(family, socket.SOCK_STREAM)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listening.bind((host, wanted))
            listening.listen()  # whoever is told the address may come at once
            return listening
        except OSError as error:
            listening.close()
            expect(wanted != 0, "host", host, f"an address of this machine ({error.strerror})")
    raise AssertionError


def serve(views: Views, host: str, port: int, say: Callable[[str], None]) -> None:
    """Serves until it is interrupted; `say` is told the address.

    Raises:
        UserError: `host` is no address of this machine.
    """
    with bound(host, port) as listening:
        at = listening.getsockname()[1]
        alone = _is_loopback(host)
        token = "" if alone else secrets.token_urlsafe(24)
        names = tuple(f"{name}:{at}" for name in LOCAL) if alone else ()
        shown = f"[{host}]" if ":" in host else host
        say(f"http://{shown}:{at}/" + (f"?token={token}" if token else ""))
        config = uvicorn.Config(application(views, names, token), log_level="warning", access_log=False, lifespan="off")
        server = uvicorn.Server(config)
        server.run(sockets=[listening])


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
