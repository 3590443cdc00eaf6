"""The server of one run, on this machine alone unless told otherwise."""

import ipaddress
import logging
import secrets
import socket
from collections.abc import Callable
from typing import Any
from urllib.parse import quote

import uvicorn
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp

from cytolens.errors import CytolensError, SettingError
from cytolens.explorer.guard import Guard
from cytolens.explorer.of_run import RunContent
from cytolens.explorer.page import bundle, policy, served_page
from cytolens.explorer.pictures import png

PORT = 8400
_PORTS_TRIED = 50
_LOOPBACK = ("127.0.0.1", "localhost", "[::1]")
_log = logging.getLogger("cytolens.explorer")


def application(
    shown: RunContent,
    *,
    port: Callable[[], int],
    host: str = "127.0.0.1",
    token: str | None = None,
    framed: bool = False,
) -> ASGIApp:
    """The ASGI application that answers for a run; ``port`` is asked when a request comes.

    ``framed``: the page may stand inside a notebook of this machine.
    """
    answers = _Answers(shown)
    routes = [
        Route("/", answers.page),
        Route("/explorer.js", answers.script),
        Route("/explorer.css", answers.style),
        Route("/manifest.json", answers.manifest),
        Route("/part/crop/{cell:int}/{channel:int}", answers.crop),
        Route("/part/{name:path}", answers.part),
    ]
    hosts = _LOOPBACK if is_loopback(host) else (*_LOOPBACK, host.lower(), *_addresses(host))
    headers = (
        ("Content-Security-Policy", policy(framed=framed)),
        ("X-Content-Type-Options", "nosniff"),
        ("Referrer-Policy", "no-referrer"),
        ("Cross-Origin-Resource-Policy", "same-origin"),
        ("Cross-Origin-Opener-Policy", "same-origin"),
        ("Cache-Control", "no-store"),
    )
    return Guard(Starlette(routes=routes), hosts=hosts, port=port, token=token, headers=headers)


class _Answers:
    """What each address answers."""

    def __init__(self, shown: RunContent) -> None:
        self._shown, self._content = shown, shown.content

    async def page(self, request: Request) -> Response:
        del request
        return Response(served_page(self._content.title), media_type="text/html")

    async def script(self, request: Request) -> Response:
        del request
        return Response(bundle("explorer.js"), media_type="text/javascript")

    async def style(self, request: Request) -> Response:
        del request
        return Response(bundle("explorer.css"), media_type="text/css")

    async def manifest(self, request: Request) -> Response:
        del request
        return JSONResponse({**self._content.manifest, "live": True, "full_crops": True})

    async def part(self, request: Request) -> Response:
        part = self._content.parts.get(request.path_params["name"])
        if part is None:
            return PlainTextResponse("there is no such part of the run", 404)
        return await self._made(part.make, "application/octet-stream")

    async def crop(self, request: Request) -> Response:
        cell, channel = request.path_params["cell"], request.path_params["channel"]
        channels = 1 if self._shown.drawn.colour else self._shown.cells.shape[0]
        if cell >= self._content.n or channel >= channels:
            return PlainTextResponse("there is no such crop", 404)

        def make() -> bytes:
            crop = self._shown.crop(cell)
            return png(crop if self._shown.drawn.colour else crop[channel : channel + 1])

        return await self._made(make, "image/png")

    async def _made(self, make: Callable[[], bytes], media_type: str) -> Response:
        try:
            return Response(await run_in_threadpool(make), media_type=media_type)
        except CytolensError as error:
            _log.error("%s", error)  # it names paths, which no answer does
            return PlainTextResponse("the run cannot be read there; the terminal says more", 500)


def is_loopback(host: str) -> bool:
    """Whether a host is this machine alone.

    >>> is_loopback("127.0.0.1"), is_loopback("localhost"), is_loopback("0.0.0.0")
    (True, True, False)
    """
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _addresses(host: str) -> tuple[str, ...]:
    """Names under which others reach a server that listens on ``host``."""
    if host not in ("0.0.0.0", "::"):
        return ()
    name = socket.gethostname().lower()
    try:
        found = {str(entry[4][0]) for entry in socket.getaddrinfo(name, None)}
    except OSError:
        found = set[str]()
    return (name, *(f"[{at}]" if ":" in at else at for at in sorted(found)))


def listen(host: str, port: int) -> socket.socket:
    """A socket that listens on the port, or on the next that is free. Raises SettingError."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    last: OSError | None = None
    for number in range(port, min(port + _PORTS_TRIED, 65_536)):
        made = socket.socket(family, socket.SOCK_STREAM)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            made.bind((host, number))
            made.listen(128)
        except OSError as error:
            made.close()
            last = error
            continue
        return made
    reason = last.strerror if last else "no such port"
    raise SettingError(f"--host {host} --port {port}: the server cannot listen there ({reason})")


class Server:
    """A run that is served until `stop`, or until Ctrl-C."""

    def __init__(
        self,
        shown: RunContent,
        *,
        host: str = "127.0.0.1",
        port: int = PORT,
        framed: bool = False,
        token: str | None = None,
    ) -> None:
        """Listens at once. Raises SettingError where it cannot."""
        self._socket = listen(host, port)
        self.port = int(self._socket.getsockname()[1])
        self.moved = self.port != port
        if token is None and not is_loopback(host):
            token = secrets.token_urlsafe(24)
        app = application(shown, port=lambda: self.port, host=host, token=token, framed=framed)
        named = socket.gethostname() if host in ("0.0.0.0", "::") else host
        named = f"[{named}]" if ":" in named else named
        self.address = f"http://{named}:{self.port}/" + (f"?token={quote(token)}" if token else "")
        settings: dict[str, Any] = {
            "log_level": "error", "access_log": False, "server_header": False,
            "date_header": False, "timeout_keep_alive": 15, "limit_concurrency": 200,
            "timeout_graceful_shutdown": 2, "ws": "none", "lifespan": "off",
            "h11_max_incomplete_event_size": 32 * 1024,
        }  # fmt: skip
        self._uvicorn = uvicorn.Server(uvicorn.Config(app, **settings))  # pyright: ignore[reportArgumentType]

    @property
    def ready(self) -> bool:
        """Whether it answers already."""
        return self._uvicorn.started

    def run(self) -> None:
        """Serve until Ctrl-C."""
        self._uvicorn.run(sockets=[self._socket])

    def stop(self) -> None:
        """End it soon; from any thread."""
        self._uvicorn.should_exit = True
