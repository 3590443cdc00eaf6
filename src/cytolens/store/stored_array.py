"""Arrays of a run that stay on disk, and what stands between damage and a wrong number."""

import errno
import json
import shlex
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cytolens.errors import CytolensError, DamagedError, InputError, RunError
from cytolens.images.isolation import ask, is_isolated
from cytolens.store.files import checksum

_CODECS = {"bytes", "zstd", "crc32c", "sharding_indexed"}  # that `create_array` writes
_AT_ONCE = 128 << 20  # bytes that a process of its own is asked for
_SECONDS = 60.0  # of the processor, for these
_GATHERED = 32 << 20  # bytes that are read at once, to take rows from
_GAP = 8  # chunks between two that are wanted, which are read rather than left out


@dataclass(frozen=True)
class Origin:
    """Where a stored file comes from: the run, and the stage that made it, if a stage did."""

    run: Path
    stage: str | None

    @contextmanager
    def reading(self, path: Path) -> Generator[None]:
        """Whatever goes wrong within the block is damage of ``path``: raises DamagedError.

        Raises RunError where the user may not read the file.
        """
        try:
            yield
        except (CytolensError, MemoryError, ImportError):  # no fault of the file
            raise
        except Exception as error:
            if isinstance(error, OSError) and error.errno in (errno.EACCES, errno.EPERM):
                raise RunError(
                    f"'{path}' cannot be read: permission is denied; change its permissions"
                ) from error
            raise self.damage(path, error) from error

    def damage(self, path: Path, problem: object) -> DamagedError:
        """The error that says what is damaged, and which stage to make again."""
        if isinstance(problem, FileNotFoundError):
            problem = f"'{Path(str(problem.filename)).name}' is missing"
        advice = "make the run again in a new folder"
        if self.stage is not None:
            run = shlex.quote(str(self.run))
            advice = f"make it again with: cytolens stage {self.stage} {run} --remake"
        reason = " ".join(str(problem).split())
        return DamagedError(f"'{path}' is damaged ({reason}); {advice}", self.stage)


@dataclass(frozen=True)
class StoredArray:
    """An array (N, …) in Zarr format, cut along its first axis only; rows are read when indexed.

    Each axis is indexed by itself, as by ``numpy.ix_``. A chunk that is missing or has changed
    raises DamagedError.
    """

    path: Path
    origin: Origin
    checksum: str  # of its zarr.json

    @cached_property
    def _described(self) -> dict[str, Any]:
        with self.origin.reading(self.path):
            data = (self.path / "zarr.json").read_bytes()
            if checksum(data) != self.checksum:
                raise ValueError("the checksum of 'zarr.json' does not match")
            described = json.loads(data)
            strange = set(_codecs(described)) - _CODECS
            if strange or described["zarr_format"] != 3:
                raise ValueError(f"it is stored as no run is ({', '.join(sorted(strange))})")
            return described

    @cached_property
    def _array(self) -> Any:
        import zarr  # only when rows are read: it takes long to load

        return zarr.open_array(self.path, mode="r")

    @property
    def shape(self) -> tuple[int, ...]:
        """(N, …)."""
        return tuple(self._described["shape"])

    @property
    def dtype(self) -> np.dtype[Any]:
        """Of the numbers."""
        return np.dtype(self._described["data_type"])

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return len(self.shape)

    def __len__(self) -> int:
        return self.shape[0]

    @property
    def oindex(self) -> "StoredArray":
        """The array itself: Zarr's name for indexing each axis by itself."""
        return self

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        return np.asarray(self[:], dtype=dtype)

    def __getitem__(self, index: Any) -> NDArray[Any]:
        """Raises IndexError for an index that does not fit, DamagedError for damage."""
        parts = index if isinstance(index, tuple) else (index,)
        if len(parts) > self.ndim:
            raise IndexError(f"{len(parts)} indices came for an array of {self.ndim} axes")
        chosen = [np.arange(n)[part] for n, part in zip(self.shape, parts, strict=False)]
        rows, step = np.atleast_1d(chosen[0]), self._rows_per_file
        whole = all(not isinstance(p, slice) or (p.step or 1) > 0 for p in parts)
        with self.origin.reading(self.path):
            for number in np.unique(rows // step).tolist():
                name = "/".join(["c", str(number), *["0"] * (self.ndim - 1)])
                file = self.path / name
                if not file.is_file() or not file.stat().st_size:  # Zarr would read it as zeros
                    raise ValueError(f"'{name}' is missing or empty")
            if is_isolated():
                return self._read_elsewhere(chosen)
            if whole and not isinstance(parts[0], np.ndarray | list):
                return np.asarray(self._array.oindex[parts])
            return self._gathered(rows, tuple(chosen[1:]), single=np.ndim(chosen[0]) == 0)

    def _gathered(
        self, rows: NDArray[np.int64], others: tuple[Any, ...], *, single: bool
    ) -> NDArray[Any]:
        """Rows in any order, of neighbouring chunks at once: Zarr's own way takes 10 times as long
        and 20 times the memory, as it reads every chunk by itself and holds them all."""
        if single:
            return np.asarray(self._array.oindex[(int(rows[0]), *others)])
        order = np.argsort(rows, kind="stable")
        ordered = rows[order]
        length = int(self._array.chunks[0])
        chunks = ordered // length
        row = self.dtype.itemsize * int(np.prod(self.shape[1:], dtype=object))
        longest = max(_GATHERED // max(row * length, 1), 1)  # chunks
        sizes = [len(part) if np.ndim(part) else None for part in others]
        sizes += list(self.shape[1 + len(others) :])
        found = np.empty((len(rows), *(size for size in sizes if size is not None)), self.dtype)
        start = 0
        for stop in _runs(chunks, longest):
            first, last = int(chunks[start]) * length, (int(chunks[stop - 1]) + 1) * length
            block = np.asarray(self._array.oindex[(slice(first, last), *others)])
            found[order[start:stop]] = block[ordered[start:stop] - first]
            start = stop
        return found

    def _read_elsewhere(self, chosen: list[Any]) -> NDArray[Any]:
        """The same by a process of its own, a part of the rows at a time."""
        rows, *others = chosen
        if np.ndim(rows) == 0:
            return self._asked(chosen)
        row = self.dtype.itemsize * int(np.prod(self.shape[1:], dtype=object))
        step = max(_AT_ONCE // max(row, 1), 1)
        parts = [self._asked([rows[i : i + step], *others]) for i in range(0, len(rows), step)]
        return np.concatenate(parts) if parts else np.empty((0, *self.shape[1:]), self.dtype)

    def _asked(self, chosen: list[Any]) -> NDArray[Any]:
        index = [_as_json(np.asarray(part)) for part in chosen]
        try:
            _, (found,) = ask("rows", self.path, seconds=_SECONDS, index=index)
        except InputError as error:
            raise ValueError(str(error)) from None
        single = len(chosen) == self.ndim and not any(map(np.ndim, chosen))
        return found.reshape(()) if single else found  # a number comes as a row of one

    @property
    def _rows_per_file(self) -> int:
        return int(self._described["chunk_grid"]["configuration"]["chunk_shape"][0])

    def check(self) -> None:
        """Read all rows, a chunk at a time. Raises DamagedError."""
        with self.origin.reading(self.path):
            step = int(self._array.chunks[0])
        for start in range(0, len(self), step):
            self[start : start + step]


def _runs(chunks: NDArray[np.int64], longest: int) -> list[int]:
    """Where runs of neighbouring chunks end, in sorted chunks (n,); none is longer than asked.

    >>> _runs(np.array([0, 0, 1, 40, 41]), 8), _runs(np.array([0, 1, 2, 3]), 2)
    ([3, 5], [2, 4])
    """
    stops: list[int] = []
    start = 0
    for place in range(1, len(chunks)):
        apart = chunks[place] - chunks[place - 1] > _GAP
        if apart or chunks[place] - chunks[start] >= longest:
            stops.append(place)
            start = place
    return [*stops, len(chunks)] if len(chunks) else stops


def _codecs(described: dict[str, Any]) -> list[str]:
    """The names of the codecs, also of those within a shard."""
    names: list[str] = []
    for codec in described.get("codecs") or ():
        names.append(str(codec["name"]))
        inner = codec.get("configuration") or {}
        names += _codecs(inner)
        names += _codecs({"codecs": inner.get("index_codecs")})
    return names


def _as_json(part: NDArray[Any]) -> Any:
    """An index along one axis: a number, [start, stop], or {"at": numbers}."""
    if part.ndim == 0:
        return int(part)
    if len(part) and (np.diff(part) == 1).all():
        return [int(part[0]), int(part[-1]) + 1]
    return {"at": part.tolist()}


def create_array(
    path: Path, shape: tuple[int, ...], dtype: Any, *, rows: int, chunks_per_shard: int
) -> Any:
    """A new Zarr array to write to, in chunks of ``rows``; a checksum is kept with every chunk.

    Chunks of zeros are written like any other, so that a chunk that is missing is damage.
    """
    import zarr
    from zarr.codecs import Crc32cCodec, ZstdCodec

    rows = min(rows, max(1, shape[0]))
    shard = rows * chunks_per_shard
    return zarr.create_array(
        store=path,
        shape=shape,
        dtype=dtype,
        chunks=(rows, *shape[1:]),
        shards=(shard, *shape[1:]) if shape[0] > shard else None,
        compressors=[ZstdCodec(level=0), Crc32cCodec()],
        config={"write_empty_chunks": True},
    )


def checksum_of_array(path: Path) -> str:
    """What `StoredArray` wants to know of an array that was written: of its ``zarr.json``."""
    return checksum((path / "zarr.json").read_bytes())
