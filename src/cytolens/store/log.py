"""What was done with a run, and when: lines of text in its folder, for whoever asks why."""

import platform
from contextlib import suppress
from datetime import datetime
from pathlib import Path

from cytolens.numerics.machine import cores, free_disk, memory

LOG = "log.txt"
"""Name of the log in a run folder."""


def write_log(run: Path, text: str) -> None:
    """Add lines to the log of a run, each with date and time.

    A log that cannot be written to is no reason to stop: nothing is raised.
    """
    now = datetime.now().astimezone().isoformat(sep=" ", timespec="seconds")
    lines = "".join(f"{now}  {line}\n" for line in text.splitlines())
    with suppress(OSError), (run / LOG).open("a", encoding="utf-8") as file:
        file.write(lines)


def machine(run: Path) -> str:
    """The machine in a line: Python, cores, memory and disk that are free."""
    _, free = memory()
    held = "" if free is None else f", {free / 1e9:.1f} GB of memory free"
    return (
        f"Python {platform.python_version()} on {platform.system()} {platform.machine()}, "
        f"{cores()} cores{held}, {free_disk(run) / 1e9:.0f} GB of disk free"
    )
