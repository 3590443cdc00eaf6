"""Files that were dropped onto the page, kept until others are."""

import re
import secrets
import shutil
from collections.abc import Callable
from pathlib import Path

from cytolens.errors import SettingError

_TAKEN = (".npz", ".npy", ".tif", ".tiff", ".png", ".jpg", ".jpeg", ".bmp")
_MOST_FILES, _MOST_BYTES = 5000, 256 * 1024 * 1024  # of one drop


class Drops:
    """The drops of one page, the last one at a time."""

    def __init__(self, room: Callable[[], Path] | None) -> None:
        """``room`` gives the folder for files; without it none are taken."""
        self._room = room
        self._batches: dict[str, Dropped] = {}

    def start(self) -> str:
        """Room for a new drop, by its name; what was dropped before is removed.

        Raises SettingError where no files are taken.
        """
        if self._room is None:
            raise SettingError("this server takes no files")
        for old in self._batches.values():
            shutil.rmtree(old.folder, ignore_errors=True)
        batch = secrets.token_hex(8)
        self._batches = {batch: Dropped(self._room() / batch)}
        return batch

    def find(self, batch: str) -> "Dropped | None":
        """A drop by its name."""
        return self._batches.get(batch)


class Dropped:
    """The files of one drop, in a folder of their own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.folder.mkdir()
        self.files, self._bytes = 0, 0

    def add(self, name: str, data: bytes) -> None:
        """Keep a file. Raises SettingError for names and kinds that are not taken."""
        safe = re.sub(r"[^A-Za-z0-9._-]", "_", Path(name.replace("\\", "/")).name).lstrip(".")
        if Path(safe).suffix.lower() not in _TAKEN or len(safe) > 150:
            raise SettingError(f"these files are taken: {', '.join(_TAKEN)}")
        self.files, self._bytes = self.files + 1, self._bytes + len(data)
        if self.files > _MOST_FILES or self._bytes > _MOST_BYTES:
            raise SettingError("that is too much at once; use: cytolens place NEW --on RUN")
        (self.folder / f"{self.files:05d}_{safe}").write_bytes(data)
