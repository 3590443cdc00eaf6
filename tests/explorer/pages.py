"""Waiting for a page in a real Chromium, however slow the machine is."""

import json
from typing import Any
from urllib.parse import quote

# Same words, fields and drawn maps in six looks, each after a frame of the page's own.
AT_REST = """async ([least, patience]) => {
    const look = () => document.documentElement.outerHTML +
        Array.from(document.querySelectorAll('input, select, textarea'), (e) => e.value).join();
    const frame = () => new Promise((done) => requestAnimationFrame(() => setTimeout(done, 35)));
    const start = performance.now();
    await new Promise((done) => setTimeout(done, least));
    let before = look();
    for (let same = 0; same < 6 && performance.now() - start < patience; ) {
        await frame();
        const now = look();
        same = now === before ? same + 1 : 0;
        before = now;
    }
}"""


def settle(page: Any, milliseconds: int = 220) -> None:
    """Wait this long, and then until the page no longer changes (at most 10 s)."""
    page.evaluate(AT_REST, [milliseconds, 10_000])


def link(address: str, **view: Any) -> str:
    """The address of a view, as the page writes it."""
    return f"{address}#{quote(json.dumps(view))}"
