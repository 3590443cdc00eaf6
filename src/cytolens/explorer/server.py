"""The server of one run, on this machine alone unless told otherwise."""

import asyncio
import ipaddress
import json
import logging
import re
import secrets
import shutil
import socket
import tempfile
import threading
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
import uvicorn
from numpy.typing import NDArray
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp

from cytolens.errors import CytolensError, ModelError, SettingError
from cytolens.explorer.asking import Network
from cytolens.explorer.gates import Gates, chosen_cells
from cytolens.explorer.guard import Guard
from cytolens.explorer.of_run import RunContent
from cytolens.explorer.page import bundle, policy, served_page
from cytolens.explorer.pictures import png
from cytolens.explorer.relabelling import Relabelling

PORT = 8400
_PORTS_TRIED = 50
_LONGEST_WAIT = 10.0  # seconds in which an answer that does not change is held back
_TAKEN = (".npz", ".npy", ".tif", ".tiff", ".png", ".jpg", ".jpeg", ".bmp")
_MOST_FILES, _MOST_BYTES = 5000, 256 * 1024 * 1024  # of one drop
_LOOPBACK = ("127.0.0.1", "localhost", "[::1]")
_log = logging.getLogger("cytolens.explorer")


def application(
    shown: RunContent,
    *,
    port: Callable[[], int],
    host: str = "127.0.0.1",
    token: str | None = None,
    framed: bool = False,
    network: Network | None = None,
    room: Callable[[], Path] | None = None,
    chosen: Callable[[NDArray[np.int64]], None] | None = None,
) -> ASGIApp:
    """The ASGI application that answers for a run; ``port`` is asked when a request comes.

    ``framed``: the page may stand inside a notebook of this machine. ``network``: what answers
    questions; without it none can be asked. ``room``: gives the folder for dropped files, without
    which none are taken. ``chosen`` is called with each selection.
    """
    answers = _Answers(shown, network, room, chosen)
    routes = [
        Route("/", answers.page),
        Route("/explorer.js", answers.script),
        Route("/explorer.css", answers.style),
        Route("/manifest.json", answers.manifest),
        Route("/part/crop/{cell:int}/{channel:int}", answers.crop),
        Route("/part/{name:path}", answers.part),
        *(
            Route(address, _posted(act), methods=["POST"])
            for address, act in (
                ("/gates", answers.gate),
                ("/decisions", answers.decision),
                ("/order", answers.order),
                ("/selection", answers.selection),
                ("/ask", answers.ask),
                ("/ask/ready", answers.ready),
                ("/new/start", answers.start_new),
                ("/new/place", answers.place_new),
                ("/ask/{number:int}/cancel", answers.cancel),
            )
        ),
        Route("/ask/{number:int}", answers.answer),
        Route("/new/{batch}", answers.drop, methods=["POST"]),
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


def _posted(
    act: Callable[[Request, dict[str, Any]], Awaitable[Any]],
) -> Callable[[Request], Awaitable[Response]]:
    """An address that takes a JSON object and answers with JSON, or with words and 4xx."""

    async def answer(request: Request) -> Response:
        try:
            asked = json.loads(await request.body() or b"{}")
        except (ValueError, RecursionError):
            return PlainTextResponse("that is no JSON", 400)
        if not isinstance(asked, dict):
            return PlainTextResponse("a JSON object is needed", 400)
        try:
            return JSONResponse(await act(request, asked) or {})
        except (SettingError, ModelError) as error:
            return PlainTextResponse(str(error), 400)
        except CytolensError as error:
            _log.error("%s", error)
            return PlainTextResponse("that failed; the terminal says more", 500)

    return answer


class _Answers:
    """What each address answers."""

    def __init__(
        self,
        shown: RunContent,
        network: Network | None,
        room: Callable[[], Path] | None,
        chosen: Callable[[NDArray[np.int64]], None] | None,
    ) -> None:
        self._room = room
        self._shown, self._content, self._network = shown, shown.content, network
        self._chosen = chosen
        run = shown.run.folder.path
        self._gates = Gates(run, shown.mapped)
        self._relabelling = Relabelling(run, shown.run.cells)
        self._place = {int(cell): at for at, cell in enumerate(shown.mapped)}
        self._writing = threading.Lock()
        self._dropped: dict[str, _Dropped] = {}

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
        return await self._made(self._manifest, "application/json")

    def _manifest(self) -> bytes:
        decided = self._relabelling.read().items()
        known = {
            "live": True,
            "full_crops": True,
            "network": self._network is not None and self._network.allowed,
            "gates": self._gates.read(),
            "decisions": [[self._place[c], to] for c, to in decided if c in self._place],
        }
        return json.dumps({**self._content.manifest, **known}, allow_nan=False).encode()

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

    async def gate(self, request: Request, asked: dict[str, Any]) -> None:
        del request

        def act() -> None:
            with self._writing:
                if asked.get("forget") is True:
                    self._gates.forget(asked.get("name"))
                else:
                    self._gates.save(asked.get("name"), asked.get("steps"), asked.get("cells"))

        await run_in_threadpool(act)

    async def decision(self, request: Request, asked: dict[str, Any]) -> None:
        del request
        chosen = self._shown.mapped[self._cells(asked)].tolist()
        label = asked.get("label")
        if label is not None and not isinstance(label, str):
            raise SettingError("a class is text")

        def act() -> None:
            with self._writing:
                if asked.get("back") is True:
                    self._relabelling.take_back(chosen)
                elif "label" in asked:
                    self._relabelling.decide(chosen, label)
                else:
                    raise SettingError("say which class the cells have, or null")

        await run_in_threadpool(act)

    async def order(self, request: Request, asked: dict[str, Any]) -> Any:
        del request
        cells, layer = self._cells(asked), _text(asked, "layer")
        away = asked.get("by") == "distant"
        found = await run_in_threadpool(
            lambda: self._shown.ordered(cells, layer, away=away).tolist()
        )
        return {"cells": found}

    async def selection(self, request: Request, asked: dict[str, Any]) -> None:
        del request
        cells = self._cells(asked)
        if self._chosen is not None:
            self._chosen(cells)

    async def ready(self, request: Request, asked: dict[str, Any]) -> None:
        del request, asked
        if self._network is not None and self._network.allowed:
            await run_in_threadpool(self._network.start)

    async def ask(self, request: Request, asked: dict[str, Any]) -> Any:
        del request
        cells, layer = self._cells(asked), _text(asked, "layer")
        others = None if asked.get("others") is None else self._cells(asked, "others")
        if not len(cells) or (others is not None and not len(others)):
            raise SettingError("choose cells to ask about")
        network = self._answering()
        number = await run_in_threadpool(
            network.ask, "see", layer=layer, cells=cells, others=others
        )
        channels = await run_in_threadpool(
            lambda: self._shown.telling_channels(cells, others, layer)
        )
        return {"number": number, "channels": channels}

    async def answer(self, request: Request) -> Response:
        """What is known of a question; waits up to 10 s for something newer than ``after``."""
        number = request.path_params["number"]
        after = request.query_params.get("after", "-1")
        seen = int(after) if after.lstrip("-").isdigit() and len(after) < 10 else -1
        deadline = time.monotonic() + _LONGEST_WAIT
        while True:
            found = None if self._network is None else self._network.answer(number)
            if found is None:
                return PlainTextResponse("there is no such question", 404)
            open_still = found.state in ("waiting", "working") and found.version <= seen
            if not open_still or time.monotonic() > deadline:
                return JSONResponse(found.as_json())
            await asyncio.sleep(0.03)

    async def cancel(self, request: Request, asked: dict[str, Any]) -> None:
        del asked
        await run_in_threadpool(self._answering().cancel, request.path_params["number"])

    async def start_new(self, request: Request, asked: dict[str, Any]) -> Any:
        """Room for dropped files; what was dropped before is removed."""
        del request, asked
        if self._room is None:
            raise SettingError("this server takes no files")
        for old in self._dropped.values():
            shutil.rmtree(old.folder, ignore_errors=True)
        batch = secrets.token_hex(8)
        self._dropped = {batch: _Dropped(self._room() / batch)}
        return {"batch": batch}

    async def drop(self, request: Request) -> Response:
        dropped = self._dropped.get(request.path_params["batch"])
        if dropped is None:
            return PlainTextResponse("there is no such batch", 404)
        name, body = request.query_params.get("name", ""), await request.body()
        try:
            await run_in_threadpool(lambda: dropped.add(name, body))
        except SettingError as error:
            return PlainTextResponse(str(error), 400)
        return JSONResponse({})

    async def place_new(self, request: Request, asked: dict[str, Any]) -> Any:
        del request
        dropped = self._dropped.get(_text(asked, "batch"))
        if dropped is None or not dropped.files:
            raise SettingError("drop some files first")
        network, folder = self._answering(), str(dropped.folder)
        number = await run_in_threadpool(network.ask, "place", folder=folder)
        return {"number": number}

    def _answering(self) -> Network:
        if self._network is None:
            raise SettingError("this server has no network")
        return self._network

    def _cells(self, asked: dict[str, Any], key: str = "cells") -> NDArray[np.int64]:
        return chosen_cells(asked.get(key), self._content.n)

    async def _made(self, make: Callable[[], bytes], media_type: str) -> Response:
        try:
            return Response(await run_in_threadpool(make), media_type=media_type)
        except CytolensError as error:
            _log.error("%s", error)  # it names paths, which no answer does
            return PlainTextResponse("the run cannot be read there; the terminal says more", 500)


class _Dropped:
    """Files that were dropped onto the page, in a folder of their own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.folder.mkdir()
        self.files, self._bytes = 0, 0

    def add(self, name: str, data: bytes) -> None:
        """Keep a file. Raises SettingError for names and kinds that are not taken."""
        safe = re.sub(r"[^A-Za-z0-9._-]", "_", Path(name.replace("\\", "/")).name).lstrip(".")
        if Path(safe).suffix.lower() not in _TAKEN or len(safe) > 150:
            raise SettingError(f"these files are taken: {', '.join(_TAKEN)}")
        self.files, self._bytes = self.files + 1, self._bytes + len(data)
        if self.files > _MOST_FILES or self._bytes > _MOST_BYTES:
            raise SettingError("that is too much at once; use: cytolens place NEW --on RUN")
        (self.folder / f"{self.files:05d}_{safe}").write_bytes(data)


def _text(asked: dict[str, Any], key: str) -> str:
    value = asked.get(key)
    if not isinstance(value, str) or len(value) > 300:
        raise SettingError(f"'{key}' is text")
    return value


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
        trust_model: bool = False,
        chosen: Callable[[NDArray[np.int64]], None] | None = None,
    ) -> None:
        """Listens at once. Raises SettingError where it cannot.

        ``trust_model``: the Python file that a run may name as its network is run when it is
        asked. ``chosen`` is called with the cells (n,) of each selection, as places on the maps.
        """
        run = shown.run
        self._network = Network(
            run.folder.path, trust_model=trust_model, own_model=run.settings.model is not None
        )
        self._shown = shown
        self._socket, self._folder = listen(host, port), Path()
        self.port = int(self._socket.getsockname()[1])
        self.moved = self.port != port
        if token is None and not is_loopback(host):
            token = secrets.token_urlsafe(24)
        app = application(
            shown, port=lambda: self.port, host=host, token=token, framed=framed,
            network=self._network, room=lambda: self._folder, chosen=chosen,
        )  # fmt: skip
        named = socket.gethostname() if host in ("0.0.0.0", "::") else host
        named = f"[{named}]" if ":" in named else named
        self.address = f"http://{named}:{self.port}/" + (f"?token={quote(token)}" if token else "")
        settings: dict[str, Any] = {
            "log_level": "error", "access_log": False, "server_header": False,
            "date_header": False, "timeout_keep_alive": 15, "limit_concurrency": 200,
            "timeout_graceful_shutdown": 2, "ws": "none",
            "http": "h11", "lifespan": "off",
            "h11_max_incomplete_event_size": 32 * 1024,
        }  # fmt: skip
        self._uvicorn = uvicorn.Server(uvicorn.Config(app, **settings))  # pyright: ignore[reportArgumentType]

    @property
    def ready(self) -> bool:
        """Whether it answers already."""
        return self._uvicorn.started

    def run(self) -> None:
        """Serve until Ctrl-C, or until `stop`."""
        threading.Thread(target=self._warm_up, daemon=True).start()
        with tempfile.TemporaryDirectory(prefix="cytolens-new-") as folder:
            self._folder = Path(folder)
            try:
                self._uvicorn.run(sockets=[self._socket])
            finally:
                self._network.stop()

    def _warm_up(self) -> None:
        """Read a crop, which loads what reads crops, while the browser opens."""
        with suppress(CytolensError):
            self._shown.crop(0)

    def close(self) -> None:
        """Give the port back without having served."""
        self._socket.close()

    def stop(self) -> None:
        """End it soon; from any thread."""
        self._uvicorn.should_exit = True
