"""The server of one run, on this machine alone unless told otherwise."""

import secrets
import socket
import tempfile
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import quote

import uvicorn
from starlette.applications import Starlette
from starlette.routing import Route
from starlette.types import ASGIApp

from cytolens.errors import CytolensError
from cytolens.explorer.answers import Answers, posted
from cytolens.explorer.asking import Network
from cytolens.explorer.guard import Guard
from cytolens.explorer.listening import is_loopback, listen, names_of
from cytolens.explorer.of_run import RunContent
from cytolens.explorer.page import policy
from cytolens.explorer.selecting import Selecting

PORT = 8400


def application(
    shown: RunContent,
    *,
    port: Callable[[], int],
    host: str = "127.0.0.1",
    token: str | None = None,
    framed: bool = False,
    network: Network | None = None,
    room: Callable[[], Path] | None = None,
    selecting: Selecting | None = None,
) -> ASGIApp:
    """The ASGI application that answers for a run; ``port`` is asked when a request comes.

    ``framed``: the page may stand inside a notebook of this machine. ``network``: what answers
    questions; without it none can be asked. ``room``: gives the folder for dropped files, without
    which none are taken. ``selecting``: the selection, shared with the program that serves this.
    """
    answers = Answers(shown, network, room, selecting)
    routes = [
        Route("/", answers.page),
        Route("/explorer.js", answers.script),
        Route("/explorer.css", answers.style),
        Route("/manifest.json", answers.manifest),
        Route("/part/crop/{cell:int}/{channel:int}", answers.crop),
        Route("/part/{name:path}", answers.part),
        *(
            Route(address, posted(act), methods=["POST"])
            for address, act in (
                ("/gates", answers.gate),
                ("/decisions", answers.decision),
                ("/order", answers.order),
                ("/selection", answers.selection),
                ("/ask", answers.ask),
                ("/compare", answers.compare),
                ("/explain", answers.explain),
                ("/ask/ready", answers.ready),
                ("/new/start", answers.start_new),
                ("/new/place", answers.place_new),
                ("/ask/{number:int}/cancel", answers.cancel),
            )
        ),
        Route("/ask/{number:int}", answers.answer),
        Route("/selected", answers.selected),
        Route("/new/{batch}", answers.drop, methods=["POST"]),
    ]
    headers = (
        ("Content-Security-Policy", policy(framed=framed)),
        ("X-Content-Type-Options", "nosniff"),
        ("Referrer-Policy", "no-referrer"),
        ("Cross-Origin-Resource-Policy", "same-origin"),
        ("Cross-Origin-Opener-Policy", "same-origin"),
        ("Cache-Control", "no-store"),
    )
    return Guard(
        Starlette(routes=routes), hosts=names_of(host), port=port, token=token, headers=headers
    )


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
        network: Network | None = None,
        selecting: Selecting | None = None,
    ) -> None:
        """Listens at once. Raises SettingError where it cannot.

        ``network``: what answers questions; it may have been started already. Without it the run's
        own, but for one that is code. ``selecting``: the selection, shared with this program.
        """
        self._network = network or Network.of(shown.run, trust_model=False)
        self._shown, self._selecting = shown, selecting
        self._socket, self._folder = listen(host, port), Path()
        self.port = int(self._socket.getsockname()[1])
        self.moved = self.port != port
        if token is None and not is_loopback(host):
            token = secrets.token_urlsafe(24)
        app = application(
            shown, port=lambda: self.port, host=host, token=token, framed=framed,
            network=self._network, room=lambda: self._folder, selecting=selecting,
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
        """Read a crop, which loads what reads crops, and the maps, while the browser opens."""
        with suppress(CytolensError):
            self._shown.crop(0)
            for name in self._shown.content.first_maps():
                self._shown.content.parts[name].make()

    def close(self) -> None:
        """Give the port back without having served."""
        self._socket.close()

    def stop(self) -> None:
        """End it soon; from any thread."""
        if self._selecting is not None:
            self._selecting.closed = True
        self._uvicorn.should_exit = True
