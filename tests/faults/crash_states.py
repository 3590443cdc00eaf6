"""Every state of a folder on the disk in which a crash could leave it."""

import os
import random
import shutil
import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

_CHANGING = ("replace", "rename", "unlink", "remove", "rmdir", "mkdir", "fsync", "ftruncate")


class CrashStates:
    """Copies of a folder, one after each step that changes what lies on the disk.

    Where there are more than ``most``, as many of them, drawn at random.

    A copy is what ``kill -9`` at this moment would leave: the system writes what it was given. A
    power cut leaves less: `unsynced` lists files that took their name before they were on the disk.
    """

    def __init__(self, folder: Path, into: Path, most: int, draw: random.Random) -> None:
        self.folder, self.states = folder, list[Path]()
        self.unsynced: list[str] = []
        self._into, self._most, self._draw, self._steps = into, most, draw, 0
        self._synced: dict[int, int] = {}  # inode: time of change of what was written
        self._kept = {path.stat().st_ino for path in folder.rglob("*")} if folder.exists() else ()
        self._last: Any = None
        self._copying = threading.RLock()  # Zarr writes in threads

    @contextmanager
    def watching(self) -> Generator[None]:
        """Within the block a copy is made after each step."""
        plain = {name: getattr(os, name) for name in _CHANGING}
        write_bytes = Path.write_bytes

        def stepped(name: str) -> Callable[..., Any]:
            def step(*given: Any, **more: Any) -> Any:
                if name == "fsync":
                    about = os.fstat(given[0])
                    self._synced[about.st_ino] = about.st_mtime_ns
                elif name in ("replace", "rename"):
                    self._note_unsynced(Path(given[0]), Path(given[1]))
                done = plain[name](*given, **more)
                self._copy(plain)
                return done

            return step

        def in_halves(path: Path, data: bytes) -> int:
            with path.open("wb") as file:
                self._copy(plain)
                file.write(data[: len(data) // 2])
                file.flush()
                self._copy(plain)
                file.write(data[len(data) // 2 :])
            self._copy(plain)
            return len(data)

        for name in _CHANGING:
            setattr(os, name, stepped(name))
        Path.write_bytes = in_halves
        try:
            yield
        finally:
            for name, function in plain.items():
                setattr(os, name, function)
            Path.write_bytes = write_bytes

    def restore(self, state: Path) -> None:
        """Put the folder back to a state."""
        shutil.rmtree(self.folder, ignore_errors=True)
        if (state / "nothing").exists():
            return
        shutil.copytree(state, self.folder, copy_function=self._take)

    def _copy(self, plain: dict[str, Callable[..., Any]]) -> None:
        with self._copying:
            now = self._signature()
            if now == self._last:
                return
            self._last, self._steps = now, self._steps + 1
            place = len(self.states)
            if place == self._most:
                place = self._draw.randrange(self._steps)
                if place >= self._most:
                    return
            state = self._into / f"{self._steps:04d}"
            patched = {name: getattr(os, name) for name in _CHANGING}
            for name, function in plain.items():
                setattr(os, name, function)
            try:
                if self.folder.exists():
                    shutil.copytree(self.folder, state, copy_function=self._take)
                else:
                    state.mkdir(parents=True)
                    (state / "nothing").touch()
            finally:
                for name, function in patched.items():
                    setattr(os, name, function)
            self.states[place : place + 1] = [state]

    def _take(self, source: str, target: str) -> None:
        """A copy; a second name where the file is one that was there from the beginning."""
        if Path(source).stat().st_ino in self._kept and not source.endswith(".lock"):
            os.link(source, target)
        else:
            shutil.copyfile(source, target)

    def _signature(self) -> Any:
        found: list[Any] = []
        for place, folders, files in os.walk(self.folder):
            found.append((place, sorted(folders)))
            for name in sorted(files):
                about = Path(place, name).stat()
                found.append((name, about.st_ino, about.st_size, about.st_mtime_ns))
        return found

    def _note_unsynced(self, source: Path, target: Path) -> None:
        if not target.is_relative_to(self.folder) or ".partial" in str(target.parent):
            return  # elsewhere; or in a folder that is not in its place yet
        files = [source] if source.is_file() else [p for p in source.rglob("*") if p.is_file()]
        for file in files:
            about = file.stat()
            known = about.st_ino in self._kept
            if not known and self._synced.get(about.st_ino) != about.st_mtime_ns:
                self.unsynced.append(f"'{target.name}' was not on the disk ('{file.name}')")
