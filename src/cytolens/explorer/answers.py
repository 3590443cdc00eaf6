"""What the server answers at each address."""

import asyncio
import json
import logging
import re
import threading
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response

from cytolens.errors import CytolensError, ModelError, SettingError
from cytolens.explorer.asking import Network
from cytolens.explorer.dropped import Drops
from cytolens.explorer.gates import Gates, chosen_cells
from cytolens.explorer.of_run import RunContent
from cytolens.explorer.page import bundle, served_page
from cytolens.explorer.pictures import png
from cytolens.explorer.relabelling import Relabelling
from cytolens.explorer.selecting import Selecting

_LONGEST_WAIT = 10.0  # seconds in which an answer that does not change is held back
_log = logging.getLogger("cytolens.explorer")


def posted(
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


class Answers:
    """What each address answers."""

    def __init__(
        self,
        shown: RunContent,
        network: Network | None,
        room: Callable[[], Path] | None,
        selecting: Selecting | None,
    ) -> None:
        self._shown, self._content, self._network = shown, shown.content, network
        self._selecting = selecting
        run = shown.run.folder.path
        self._gates = Gates(run, shown.mapped)
        self._relabelling = Relabelling(run, shown.run.cells)
        self._place = {int(cell): at for at, cell in enumerate(shown.mapped)}
        self._writing = threading.Lock()
        self._drops = Drops(room)

    async def page(self, request: Request) -> Response:
        """The page, around the bundle."""
        del request
        return Response(served_page(self._content.title), media_type="text/html")

    async def script(self, request: Request) -> Response:
        """The bundle's script."""
        del request
        return Response(bundle("explorer.js"), media_type="text/javascript")

    async def style(self, request: Request) -> Response:
        """The bundle's style."""
        del request
        return Response(bundle("explorer.css"), media_type="text/css")

    async def manifest(self, request: Request) -> Response:
        """What there is, and what has been kept and decided so far."""
        del request
        return await self._made(self._manifest, "application/json")

    def _manifest(self) -> bytes:
        decided = self._relabelling.read().items()
        known = {
            "live": True,
            "full_crops": True,
            "followed": self._selecting is not None,
            "network": self._network is not None and self._network.allowed,
            "gates": self._gates.read(),
            "decisions": [[self._place[c], to] for c, to in decided if c in self._place],
        }
        return json.dumps({**self._content.manifest, **known}, allow_nan=False).encode()

    async def part(self, request: Request) -> Response:
        """An array or a sheet, by its name."""
        part = self._content.parts.get(request.path_params["name"])
        if part is None:
            return PlainTextResponse("there is no such part of the run", 404)
        return await self._made(part.make, "application/octet-stream")

    async def crop(self, request: Request) -> Response:
        """One image channel of one crop at its full size."""
        cell, channel = request.path_params["cell"], request.path_params["channel"]
        channels = 1 if self._shown.drawn.colour else self._shown.cells.shape[0]
        if cell >= self._content.n or channel >= channels:
            return PlainTextResponse("there is no such crop", 404)

        def make() -> bytes:
            crop = self._shown.crop(cell)
            return png(crop if self._shown.drawn.colour else crop[channel : channel + 1])

        return await self._made(make, "image/png")

    async def gate(self, request: Request, asked: dict[str, Any]) -> None:
        """Keep a gate, or forget it."""
        del request

        def act() -> None:
            with self._writing:
                if asked.get("forget") is True:
                    self._gates.forget(asked.get("name"))
                else:
                    self._gates.save(asked.get("name"), asked.get("steps"), asked.get("cells"))

        await run_in_threadpool(act)

    async def decision(self, request: Request, asked: dict[str, Any]) -> None:
        """Give cells another class, set them aside, or take that back."""
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
        """Cells by how typical they are, or how far from the rest."""
        del request
        cells, layer = self._cells(asked), _text(asked, "layer")
        away = asked.get("by") == "distant"
        found = await run_in_threadpool(
            lambda: self._shown.ordered(cells, layer, away=away).tolist()
        )
        return {"cells": found}

    async def selection(self, request: Request, asked: dict[str, Any]) -> None:
        """Take note of what is selected."""
        del request
        cells = self._cells(asked)
        if self._selecting is not None:
            seen = asked.get("seen", 0)
            if not isinstance(seen, int):
                raise SettingError("'seen' is a whole number")
            selecting = self._selecting
            await run_in_threadpool(lambda: selecting.tell(cells, seen=seen))

    async def selected(self, request: Request) -> Response:
        """What the program that serves the page has selected since ``after``; waits up to 10 s."""
        selecting = self._selecting
        if selecting is None:
            return PlainTextResponse("nobody selects here but the page", 404)
        seen, deadline = _after(request), time.monotonic() + _LONGEST_WAIT
        while selecting.version <= seen and time.monotonic() < deadline and not selecting.closed:
            await asyncio.sleep(0.1)
        new = selecting.version > seen
        cells = selecting.cells.tolist() if new else None
        return JSONResponse({"version": selecting.version, "cells": cells})

    async def ready(self, request: Request, asked: dict[str, Any]) -> None:
        """Start the network's process."""
        del request, asked
        if self._network is not None and self._network.allowed:
            await run_in_threadpool(self._network.start)

    async def ask(self, request: Request, asked: dict[str, Any]) -> Any:
        """What the network sees in cells."""
        del request
        cells, others, layer = self._question(asked)
        network = self._answering()
        number = await run_in_threadpool(
            lambda: network.ask(
                "see", layer=layer, cells=cells.tolist(),
                others=None if others is None else others.tolist(),
            )
        )  # fmt: skip
        return {"number": number}

    async def compare(self, request: Request, asked: dict[str, Any]) -> Any:
        """The same question in real cells, and the channels that tell them; without the network."""
        del request
        cells, others, layer = self._question(asked)
        real = await run_in_threadpool(lambda: self._shown.real_cells(cells, others, layer))
        channels = await run_in_threadpool(
            lambda: self._shown.telling_channels(cells, others, layer)
        )
        return {"channels": channels, "real": real}

    def _question(
        self, asked: dict[str, Any]
    ) -> tuple[NDArray[np.int64], NDArray[np.int64] | None, str]:
        cells, layer = self._cells(asked), _text(asked, "layer")
        others = None if asked.get("others") is None else self._cells(asked, "others")
        if not len(cells) or (others is not None and not len(others)):
            raise SettingError("choose cells to ask about")
        return cells, others, layer

    async def explain(self, request: Request, asked: dict[str, Any]) -> Any:
        """What decides one cell's class."""
        del request
        cell = asked.get("cell")
        if not isinstance(cell, int) or isinstance(cell, bool):
            raise SettingError("'cell' is a whole number")
        if not 0 <= cell < self._content.n:
            raise SettingError(f"cells lie between 0 and {self._content.n - 1}")
        layer = None if asked.get("layer") is None else _text(asked, "layer")
        network = self._answering()
        number = await run_in_threadpool(network.ask, "explain", cell=cell, layer=layer)
        return {"number": number}

    async def answer(self, request: Request) -> Response:
        """What is known of a question; waits up to 10 s for something newer than ``after``."""
        number = request.path_params["number"]
        seen, deadline = _after(request), time.monotonic() + _LONGEST_WAIT
        while True:
            found = None if self._network is None else self._network.answer(number)
            if found is None:
                return PlainTextResponse("there is no such question", 404)
            open_still = found.state in ("waiting", "working") and found.version <= seen
            if not open_still or time.monotonic() > deadline:
                return JSONResponse(found.as_json())
            await asyncio.sleep(0.03)

    async def cancel(self, request: Request, asked: dict[str, Any]) -> None:
        """Give a question up."""
        del asked
        await run_in_threadpool(self._answering().cancel, request.path_params["number"])

    async def start_new(self, request: Request, asked: dict[str, Any]) -> Any:
        """Room for dropped files; what was dropped before is removed."""
        del request, asked
        return {"batch": self._drops.start()}

    async def drop(self, request: Request) -> Response:
        """Keep a dropped file."""
        dropped = self._drops.find(request.path_params["batch"])
        if dropped is None:
            return PlainTextResponse("there is no such batch", 404)
        name, body = request.query_params.get("name", ""), await request.body()
        try:
            await run_in_threadpool(lambda: dropped.add(name, body))
        except SettingError as error:
            return PlainTextResponse(str(error), 400)
        return JSONResponse({})

    async def place_new(self, request: Request, asked: dict[str, Any]) -> Any:
        """Where the dropped cells lie on the maps."""
        del request
        dropped = self._drops.find(_text(asked, "batch"))
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


def _after(request: Request) -> int:
    """The version that the page has seen last; -1 where it says none."""
    after = request.query_params.get("after", "-1")
    return int(after) if re.fullmatch(r"-?[0-9]{1,9}", after) else -1


def _text(asked: dict[str, Any], key: str) -> str:
    value = asked.get(key)
    if not isinstance(value, str) or len(value) > 300:
        raise SettingError(f"'{key}' is text")
    return value
