"""Requests of a stranger: nothing is read, nothing written, and no path of the machine is told."""

import json
import re
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from served import serving

from cytolens.explorer import guard
from cytolens.explorer.of_run import RunContent
from cytolens.explorer.server import Server
from cytolens.simulation.optics import Optics
from cytolens.simulation.simulate import simulate
from cytolens.store.files import write_simulation
from cytolens.study.finished_run import open_run
from cytolens.study.settings import StudySettings
from cytolens.study.study import Study

PORT = 18_900  # away from those of the other files


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> RunContent:
    root = tmp_path_factory.mktemp("guarded")
    cells = simulate(60, size=32, difficulty=0.0, optics=Optics(pixel_size_um=0.5), rng=0)
    data = write_simulation(root / "cells", cells)
    settings = StudySettings(epochs=1, quick=True, methods=["pca"], layers=["conv3", "logits"])
    Study(root / "run", data, settings).make("maps")
    return RunContent(open_run(root / "run"))


@pytest.fixture(scope="module")
def guarded(small: RunContent) -> Iterator[Server]:
    yield from serving(small, port=PORT)


@pytest.fixture(scope="module")
def secret(small: RunContent) -> Iterator[Server]:
    yield from serving(small, port=PORT, token="right-token")


def send(server: Server, raw: bytes, *, patience: float = 10.0) -> bytes:
    with socket.create_connection(("127.0.0.1", server.port), timeout=patience) as link:
        link.sendall(raw)
        answer = b""
        try:
            while chunk := link.recv(65_536):
                answer += chunk
                head, found, body = answer.partition(b"\r\n\r\n")
                length = re.search(rb"content-length: (\d+)", head, re.I)
                if found and length and len(body) >= int(length[1]):
                    break
        except (TimeoutError, ConnectionResetError):
            pass
        return answer


def request(
    server: Server,
    method: str = "GET",
    path: str = "/",
    body: bytes = b"",
    host: str | None = None,
    **headers: str,
) -> tuple[int, bytes]:
    lines = [f"{method} {path} HTTP/1.1", f"Host: {host or f'127.0.0.1:{server.port}'}"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    if body or method == "POST":
        lines.append(f"Content-Length: {len(body)}")
    raw = "\r\n".join([*lines, "Connection: close", "", ""]).encode("latin-1") + body
    answer = send(server, raw)
    return (int(answer.split(b" ", 2)[1]) if answer.startswith(b"HTTP") else 0), answer


OURS = {"X_Cytolens": "1"}


def test_what_the_page_asks_is_answered(guarded: Server):
    assert request(guarded)[0] == 200
    assert request(guarded, path="/manifest.json", **OURS)[0] == 200
    status, answer = request(guarded, path="/part/column/class", **OURS)
    assert status == 200
    for header in (b"content-security-policy: default-src 'none'", b"nosniff", b"no-referrer"):
        assert header in answer.lower()
    assert b"access-control" not in answer.lower()


TRAVERSALS = [
    "/part/../../../../etc/passwd", "/part/..%2f..%2f..%2fetc%2fpasswd", "/part/%2e%2e/run.json",
    "/part//etc/passwd", "/part/run.json", "/part/..\\..\\run.json", "/../run.json", "/run.json",
    "/part/map/pca/../../run.json", "/part/column/%00", "/cells/table.npz", "/static/explorer.js",
    "/part/file:///etc/passwd", "/part/crop/../../run.json", "/part/crop/-1/0",
    "/part/crop/60/0", "/part/crop/0/7", "/part/crop/99999999999999999999/0",
    "/part/crop/0x1/0", "/explorer/../run.json", "/.lock", "/part/", "/new/../../x",
]  # fmt: skip


@pytest.mark.parametrize("path", TRAVERSALS)
def test_nothing_but_the_parts_of_the_run_is_read(guarded: Server, small: RunContent, path: str):
    status, answer = request(guarded, path=path, **OURS)
    assert status in (400, 404, 405)
    assert b"root:" not in answer
    assert str(small.run.folder.path).encode() not in answer


HOSTS = [
    "evil.example", "evil.example:{port}", "127.0.0.1", "127.0.0.1:1", "127.0.0.1.evil.example",
    "localhost.evil.example:{port}", "[::1].evil:{port}", "127.0.0.1:{port}@evil.example",
    "0:{port}", "127.1:{port}",
]  # fmt: skip


@pytest.mark.parametrize("host", HOSTS)
def test_another_name_of_this_machine_is_refused(guarded: Server, host: str):
    """DNS rebinding: a page of evil.example whose name now leads to this machine."""
    status, answer = request(guarded, host=host.format(port=guarded.port), **OURS)
    assert status in (400, 421)
    assert b"<html" not in answer


OTHERS = [
    {"Origin": "http://evil.example"},
    {"Origin": "null"},
    {"Origin": "http://127.0.0.1:1"},
    {"Origin": "https://127.0.0.1:{port}"},
    {"Origin": "http://127.0.0.1:{port}.evil.example"},
    {"Sec_Fetch_Site": "cross-site"},
    {"Sec_Fetch_Site": "same-site", "Sec_Fetch_Mode": "no-cors"},
    {"Sec_Fetch_Site": "cross-site", "Sec_Fetch_Mode": "navigate"},
]


@pytest.mark.parametrize("headers", OTHERS, ids=str)
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_pages_of_others_can_neither_read_nor_write(
    guarded: Server, method: str, headers: dict[str, str]
):
    given = {name: value.format(port=guarded.port) for name, value in headers.items()}
    path = "/manifest.json" if method == "GET" else "/gates"
    status, answer = request(guarded, method, path, b"{}" if method == "POST" else b"", **given)
    assert status == 403
    assert b"columns" not in answer


def test_a_form_of_another_page_changes_nothing(guarded: Server, small: RunContent):
    body = json.dumps({"name": "evil", "steps": [], "cells": [1]}).encode()
    status, _ = request(guarded, "POST", "/gates", body, Content_Type="text/plain")
    assert status == 403
    assert not (small.run.folder.path / "explorer").exists()


@pytest.mark.parametrize(
    "method", ["PUT", "DELETE", "OPTIONS", "TRACE", "PATCH", "CONNECT", "BREW"]
)
def test_other_methods_are_refused(guarded: Server, method: str):
    assert request(guarded, method, **OURS)[0] in (400, 405)


BODIES: list[tuple[str, bytes]] = [
    ("/gates", b"not json"), ("/gates", b"[]"), ("/gates", b"null"), ("/gates", b"[" * 100_000),
    ("/gates", b'{"name": 3, "steps": [], "cells": []}'),
    ("/gates", b'{"name": "", "steps": [], "cells": []}'),
    ("/gates", json.dumps({"name": "x" * 81, "steps": [], "cells": []}).encode()),
    ("/gates", b'{"name": "a", "steps": {}, "cells": []}'),
    ("/gates", b'{"name": "a", "steps": [], "cells": [-1]}'),
    ("/gates", b'{"name": "a", "steps": [], "cells": [60]}'),
    ("/gates", b'{"name": "a", "steps": [], "cells": [1.5]}'),
    ("/gates", b'{"name": "a", "steps": [], "cells": [true]}'),
    ("/gates", b'{"name": "a", "steps": [], "cells": "all"}'),
    ("/gates", b'{"name": "never made", "forget": true}'),
    ("/gates", b'{"name": "a", "steps": [], "cells": [99999999999999999999999]}'),
    ("/decisions", b'{"cells": [1], "label": "no such class"}'),
    ("/decisions", b'{"cells": [1], "label": 7}'), ("/decisions", b'{"cells": [1]}'),
    ("/decisions", b'{"cells": [1], "label": "=cmd|calc"}'),
    ("/order", b'{"cells": [1], "layer": "../../x"}'), ("/order", b'{"cells": [1], "layer": []}'),
    ("/ask", b'{"cells": [], "layer": "conv3"}'), ("/ask", b'{"cells": [1], "layer": 3}'),
    ("/compare", b'{"cells": [1], "layer": "../x"}'), ("/compare", b'{"cells": "all"}'),
    ("/compare", b'{"cells": [1], "layer": "conv3", "others": []}'),
    ("/new/place", b'{"batch": "../.."}'), ("/new/place", b"{}"),
]  # fmt: skip


@pytest.mark.parametrize(("path", "body"), BODIES)
def test_what_makes_no_sense_is_refused_in_words(
    guarded: Server, small: RunContent, path: str, body: bytes
):
    status, answer = request(guarded, "POST", path, body, **OURS)
    assert status == 400
    assert b"Traceback" not in answer
    assert str(small.run.folder.path).encode() not in answer


def test_requests_are_bounded_in_size(guarded: Server, monkeypatch: pytest.MonkeyPatch):
    assert request(guarded, path="/" + "a" * 3000, **OURS)[0] == 414
    assert request(guarded, path="/?" + "a" * 3000, **OURS)[0] == 414
    assert request(guarded, X_Long="b" * 70_000, **OURS)[0] in (0, 400, 431)
    monkeypatch.setattr(guard, "LARGEST_JSON", 1000)
    assert request(guarded, "POST", "/gates", b"x" * 2000, **OURS)[0] == 413
    host = f"Host: 127.0.0.1:{guarded.port}\r\nX-Cytolens: 1\r\n"
    chunk = b"3e8\r\n" + b"x" * 1000 + b"\r\n"
    raw = f"POST /gates HTTP/1.1\r\n{host}Transfer-Encoding: chunked\r\n\r\n".encode() + 3 * chunk
    assert b" 413 " in send(guarded, raw)[:20]
    body_of_get = f"GET / HTTP/1.1\r\n{host}Content-Length: 50\r\n\r\n".encode() + b"x" * 50
    assert b" 413 " in send(guarded, body_of_get)[:20]


def test_a_body_that_never_comes_is_given_up(guarded: Server, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(guard, "PATIENCE", 0.3)
    host = f"Host: 127.0.0.1:{guarded.port}\r\nX-Cytolens: 1\r\n"
    raw = f"POST /gates HTTP/1.1\r\n{host}Content-Length: 50\r\n\r\nabc".encode()
    assert b" 408 " in send(guarded, raw)[:20]


def test_too_many_requests_at_once_are_put_off(guarded: Server, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(guard, "AT_ONCE", 0)
    assert request(guarded, **OURS)[0] == 503


RAW = [
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\x00" * 64,
    b"GET / HTTP/1.1\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nHost: evil.example\r\n\r\n",
    b"GET http://169.254.169.254/ HTTP/1.1\r\nHost: 169.254.169.254\r\n\r\n",
    b"POST /gates HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nX-Cytolens: 1\r\n"
    b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nX-Cytolens: 1\r\nX-A: a\x00b\r\n\r\n",
    b"GET / HTTP/9.9\r\nHost: 127.0.0.1:{port}\r\n\r\n",
    b"GET /manifest.json HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nUpgrade: websocket\r\n"
    b"Connection: Upgrade\r\nSec-WebSocket-Key: x\r\nSec-WebSocket-Version: 13\r\n"
    b"Origin: http://evil.example\r\n\r\n",
]


@pytest.mark.parametrize("raw", RAW)
def test_broken_requests_end_without_content(guarded: Server, raw: bytes):
    answer = send(guarded, raw.replace(b"{port}", str(guarded.port).encode()), patience=2)
    assert b" 200 " not in answer[:20]
    assert b"Traceback" not in answer
    assert request(guarded)[0] == 200


@pytest.mark.parametrize("given", ["", "?token=", "?token=wrong", "?token=right-tokenx"])
def test_without_the_token_nothing_is_shown(secret: Server, given: str):
    for path in ("/", "/manifest.json", "/part/names"):
        status, answer = request(secret, path=path + given, **OURS)
        assert status == 401
        assert b"right-token" not in answer
    assert request(secret, path="/?token=right-token")[0] == 200
    authorised = {"Authorization": "Bearer right-token", **OURS}
    assert request(secret, path="/manifest.json", **authorised)[0] == 200


def test_no_answer_names_a_path_of_the_machine(guarded: Server, small: RunContent):
    home, folder = str(Path.home()).encode(), str(small.run.folder.path.parent).encode()
    for path in ("/", "/manifest.json", "/part/names", "/explorer.js", "/ask/1", "/nothing"):
        _, answer = request(guarded, path=path, **OURS)
        assert folder not in answer
        assert home + b"/" not in answer


def test_a_damaged_run_is_told_without_its_path(small: RunContent, tmp_path: Path):
    def broken() -> bytes:
        from cytolens.errors import DamagedError

        raise DamagedError(f"'{tmp_path}/x' is damaged")

    from cytolens.explorer.content import Part

    small.content.parts["broken"] = Part(broken)
    server = next(found := serving(small, port=PORT))
    status, answer = request(server, path="/part/broken", **OURS)
    assert status == 500
    assert str(tmp_path).encode() not in answer
    found.close()
    server.stop()
    del small.content.parts["broken"]


def test_a_run_that_names_code_is_opened_and_not_run(small: RunContent):
    from cytolens.errors import ModelError
    from cytolens.explorer.asking import Network

    network = Network(small.run.folder.path, trust_model=False, own_model=True)
    assert not network.allowed
    with pytest.raises(ModelError, match="--trust-model"):
        network.ask("see", layer="conv3", cells=[1], others=None)


def test_only_a_token_opens_the_server_to_others(small: RunContent):
    server = Server(small, host="0.0.0.0", port=18_950)
    assert "?token=" in server.address
    assert len(server.address.partition("?token=")[2]) >= 24
    server.close()
