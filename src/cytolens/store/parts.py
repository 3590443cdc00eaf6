"""Parts of a stage's result that were made apart: a file each, until the stage is finished.

``parts/<stage>/<hash>-<number>-of-<total>.npz``, the hash being what the stage will have: a part of
other settings or data is never taken for one of these. Files appear as a whole, and whoever makes a
part writes the same, so any number of processes may write at a time, on several machines.
"""

import shutil
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cytolens.store.encoding import decode, encode
from cytolens.store.files import file_name, write_bytes

PARTS = "parts"
"""Name of the folder in a run."""


@dataclass(frozen=True)
class PartFiles:
    """The parts of one stage in a run folder, by number from 0."""

    run: Path
    stage: str
    made_from: str  # the hash of the stage's inputs
    total: int

    def missing(self) -> Iterator[int]:
        """The numbers of the parts that are not there."""
        return (number for number in range(self.total) if not self._path(number).is_file())

    def read(self, number: int) -> Any:
        """What a part gave. Raises KeyError where it is not there, or damaged."""
        try:
            found = decode(self._path(number).read_bytes())
            if found["made_from"] != self.made_from:
                raise ValueError("it was renamed")
            return found["value"]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise KeyError(number) from error

    def write(self, number: int, value: Any) -> None:
        """Keep what a part gave. Raises RunError where the folder cannot be written to."""
        record = {"made_from": self.made_from, "value": value}
        write_bytes(self._path(number), encode(record, compressed=False))

    def _path(self, number: int) -> Path:
        name = f"{self.made_from}-{number + 1}-of-{self.total}.npz"
        return self.run / PARTS / file_name(self.stage) / name


def have_parts(run: Path, stage: str) -> bool:
    """Whether parts of a stage lie ready, of whatever inputs."""
    return (run / PARTS / file_name(stage)).is_dir()


def remove_parts(run: Path, stage: str) -> None:
    """Remove all parts of a stage: once it is finished they are no longer needed."""
    shutil.rmtree(run / PARTS / file_name(stage), ignore_errors=True)
    with suppress(OSError):  # of other stages there are some, or there is none
        (run / PARTS).rmdir()
