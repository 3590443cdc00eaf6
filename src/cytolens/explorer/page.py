"""The page: HTML around the bundle; and the same with all content inside, as one file."""

import base64
import hashlib
import html
import json
import zlib
from collections.abc import Iterator
from functools import cache
from importlib.resources import files
from pathlib import Path

from cytolens.explorer.content import Content
from cytolens.store.files import replacing

_NOSCRIPT = "<noscript>The explorer needs JavaScript, which this browser does not run.</noscript>"


@cache
def bundle(name: str) -> bytes:
    """A file of the bundle that was built from ``explorer/web``: explorer.js or explorer.css."""
    return files("cytolens.explorer").joinpath("static", name).read_bytes()


def policy(*, framed: bool = False) -> str:
    """The content-security policy of the served page: nothing from anywhere else."""
    frames = "http://localhost:* http://127.0.0.1:*" if framed else "'none'"
    return (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; "
        "connect-src 'self'; worker-src blob:; base-uri 'none'; form-action 'none'; "
        f"frame-ancestors {frames}"
    )


def served_page(title: str) -> str:
    """The page as the server gives it; content is asked for by relative addresses."""
    return _head(title) + (
        '<link rel="stylesheet" href="explorer.css"></head><body>'
        f'<div id="app">Opening …</div>{_NOSCRIPT}'
        '<script src="explorer.js"></script></body></html>'
    )


def write_export(path: Path, content: Content) -> Path:
    """One HTML file with the page and its content, that opens from ``file://`` without requests.

    Raises RunError where it cannot be written.
    """
    with replacing(path) as temporary, temporary.open("w", encoding="utf-8") as file:
        file.writelines(_export(content))
    return path


def _export(content: Content) -> Iterator[str]:
    script, style = bundle("explorer.js").decode(), bundle("explorer.css").decode()
    rules = (
        f"default-src 'none'; script-src {_hash(script)}; style-src {_hash(style)}; "
        "img-src data: blob:; worker-src blob:; base-uri 'none'; form-action 'none'"
    )
    yield _head(content.title, rules)
    yield f'<style>{style}</style></head><body><div id="app">Opening …</div>{_NOSCRIPT}\n'
    text = json.dumps(content.manifest, allow_nan=False).replace("<", "\\u003c")
    yield f'<script type="application/json" id="manifest">{text}</script>\n'
    for name, part in content.parts.items():
        if not part.exported:
            continue
        data = part.make()
        picture = name.startswith(("sheet/", "gallery/"))
        packed = data if picture else zlib.compress(data, 9)
        encoding = "" if picture else ' data-encoding="deflate"'
        yield (
            f'<script type="text/plain" data-part="{html.escape(name)}"{encoding}>'
            f"{base64.b64encode(packed).decode('ascii')}</script>\n"
        )
    yield f"<script>{script}</script></body></html>"


def _head(title: str, rules: str | None = None) -> str:
    meta = (
        ""
        if rules is None
        else f'<meta http-equiv="Content-Security-Policy" content="{html.escape(rules)}">'
    )
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8">{meta}'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{html.escape(title)} · cytolens</title>"
        '<link rel="icon" href="data:,">'
    )


def _hash(text: str) -> str:
    digest = hashlib.sha256(text.encode()).digest()
    return f"'sha256-{base64.b64encode(digest).decode('ascii')}'"
