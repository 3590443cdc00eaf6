"""Who may ask the server, and for how much: checked before anything else looks at a request.

A page of another site must not be able to read a run or to write into it, even when its name is
made to resolve to this machine (DNS rebinding): the Host must be ours, and so must the Origin. A
request that changes something carries a header that other sites cannot send without asking.
"""

import asyncio
import hmac
from collections.abc import Callable, Iterable
from urllib.parse import parse_qs

from starlette.types import ASGIApp, Message, Receive, Scope, Send

LONGEST = 2048  # characters of an address
MOST_HEADERS = 32 * 1024  # bytes of all headers
LARGEST = 64 * 1024 * 1024  # bytes of a dropped file
LARGEST_JSON = 16 * 1024 * 1024  # bytes of any other body: a list of a million cells
AT_ONCE = 64  # requests in progress
PATIENCE = 30.0  # seconds in which a body must arrive
_OPEN = ("/explorer.js", "/explorer.css")  # the same for everyone: no token
_MARK = b"x-cytolens"  # every request of the page carries it


class Guard:
    """ASGI middleware that answers what is not allowed, and hands on the rest."""

    def __init__(
        self,
        app: ASGIApp,
        *,
        hosts: Iterable[str],
        port: Callable[[], int],
        token: str | None,
        headers: Iterable[tuple[str, str]],
    ) -> None:
        """``hosts``: names under which the server is reached; ``headers``: of every answer."""
        self._app, self._hosts, self._port, self._token = app, tuple(hosts), port, token
        self._headers = [(name.lower().encode(), value.encode()) for name, value in headers]
        self._running = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Raises nothing: what goes wrong behind it is answered with 500 and no detail."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        if scope["type"] != "http":
            await send({"type": "websocket.close", "code": 1008})
            return
        started = False

        async def answer(message: Message) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                message = {**message, "headers": [*message.get("headers", ()), *self._headers]}
            await send(message)

        refused = self._refusal(scope)
        if refused is not None:
            await _say(answer, *refused)
            return
        if self._running >= AT_ONCE:
            await _say(answer, 503, "too many requests at once; try again")
            return
        self._running += 1
        try:
            body = await _body(receive, self._limit(scope))
            if isinstance(body, str):
                await _say(answer, 413 if "large" in body else 408, body)
                return
            await self._app(scope, _replay(body, receive), answer)
        except Exception:
            if not started:
                await _say(answer, 500, "that failed; the terminal says more")
            raise
        finally:
            self._running -= 1

    def _refusal(self, scope: Scope) -> tuple[int, str] | None:
        """Status and words for a request that is not allowed; None for one that is."""
        headers = _Headers(scope["headers"])
        path, query = scope["path"], scope.get("query_string", b"")
        if len(scope.get("raw_path") or path.encode()) > LONGEST or len(query) > LONGEST:
            return 414, "the address is too long"
        if sum(len(name) + len(value) for name, value in scope["headers"]) > MOST_HEADERS:
            return 431, "the headers are too long"
        if scope["http_version"] not in ("1.0", "1.1"):
            return 505, "HTTP 1.1 is spoken here"
        if scope["method"] not in ("GET", "HEAD", "POST"):
            return 405, "only GET, HEAD and POST are known here"
        host = headers.only(b"host")
        if host is None or not self._ours(host):
            return 421, "this is not the name of this server"
        origin = headers.all(b"origin")
        if origin and (len(origin) > 1 or not self._same_origin(origin[0])):
            return 403, "requests of other pages are refused"
        site = headers.only(b"sec-fetch-site") or ""
        opens = scope["method"] == "GET" and headers.only(b"sec-fetch-mode") == "navigate"
        if site not in ("", "same-origin", "none") and not (opens and path == "/"):
            return 403, "requests of other pages are refused"
        if scope["method"] == "POST" and headers.only(_MARK) != "1":
            return 403, "only the page itself may change something"
        if not self._known(headers, query) and path not in _OPEN:
            return 401, "the address of this page has a token, which is missing or wrong"
        length = headers.only(b"content-length")
        if length is not None and (not length.isdigit() or int(length) > self._limit(scope)):
            return 413, "that is too large"
        return None

    def _ours(self, host: str) -> bool:
        name, _, port = host.rpartition(":") if not host.endswith("]") else (host, "", "")
        if not name:
            name, port = host, "80"
        return name.lower() in self._hosts and port == str(self._port())

    def _same_origin(self, origin: str) -> bool:
        scheme, _, rest = origin.partition("://")
        return scheme == "http" and self._ours(rest)

    def _known(self, headers: "_Headers", query: bytes) -> bool:
        if self._token is None:
            return True
        given = (headers.only(b"authorization") or "").removeprefix("Bearer ")
        if not given:
            given = (parse_qs(query.decode("latin-1")).get("token") or [""])[-1]
        return hmac.compare_digest(given.encode(), self._token.encode())

    def _limit(self, scope: Scope) -> int:
        if scope["method"] != "POST":
            return 0
        return LARGEST if scope["path"] == "/new" else LARGEST_JSON


class _Headers:
    """The headers of a request, whose names may be given more than once."""

    def __init__(self, pairs: Iterable[tuple[bytes, bytes]]) -> None:
        self._pairs = list(pairs)

    def all(self, name: bytes) -> list[str]:
        return [value.decode("latin-1") for key, value in self._pairs if key == name]

    def only(self, name: bytes) -> str | None:
        """The value of a header that was given once; None for none, "" for several."""
        found = self.all(name)
        return None if not found else found[0] if len(found) == 1 else ""


async def _body(receive: Receive, limit: int) -> bytes | str:
    """The body, or words for why there is none."""
    parts: list[bytes] = []
    size = 0
    try:
        async with asyncio.timeout(PATIENCE):
            while True:
                message = await receive()
                if message["type"] != "http.request":
                    return "the request ended early"
                parts.append(message.get("body", b""))
                size += len(parts[-1])
                if size > limit:
                    return "that is too large"
                if not message.get("more_body", False):
                    return b"".join(parts)
    except TimeoutError:
        return "the request took too long to arrive"


def _replay(body: bytes, receive: Receive) -> Receive:
    given = False

    async def again() -> Message:
        nonlocal given
        if not given:
            given = True
            return {"type": "http.request", "body": body, "more_body": False}
        return await receive()

    return again


async def _say(send: Send, status: int, text: str) -> None:
    data = text.encode()
    headers = [
        (b"content-type", b"text/plain; charset=utf-8"),
        (b"content-length", str(len(data)).encode()),
    ]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": data})
