"""Waiting for a page in a real Chromium, however slow the machine is."""

import json
from typing import Any
from urllib.parse import quote

# The same words, fields and drawn maps for so long, looked at after frames of the page's own.
AT_REST = """async ([least, patience]) => {
    const look = () => document.documentElement.outerHTML +
        Array.from(document.querySelectorAll('input, select, textarea'), (e) => e.value).join();
    const frame = () => new Promise((done) => requestAnimationFrame(() => setTimeout(done, 30)));
    const start = performance.now();
    let [before, since, looks] = [look(), start, 0];
    for (let at = start; (at - since < least || looks < 4) && at - start < patience; ) {
        await frame();
        const now = look();
        looks += 1;
        at = performance.now();
        if (now !== before) [before, since, looks] = [now, at, 0];
    }
}"""


def settle(page: Any, milliseconds: int = 220) -> None:
    """Wait until the page has not changed for so long (at most 10 s)."""
    page.evaluate(AT_REST, [milliseconds, 10_000])


def link(address: str, **view: Any) -> str:
    """The address of a view, as the page writes it."""
    return f"{address}#{quote(json.dumps(view))}"
