"""A server for the tests, which ends with them."""

import threading
import time
from collections.abc import Iterator
from typing import Any

from cytolens.explorer.of_run import RunContent
from cytolens.explorer.server import Server


def serving(shown: RunContent, *, port: int = 18_400, **options: Any) -> Iterator[Server]:
    server = Server(shown, port=port, **options)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    deadline = time.monotonic() + 10
    while not server.ready and time.monotonic() < deadline:
        time.sleep(0.01)
    yield server
    server.stop()
    thread.join(10)
