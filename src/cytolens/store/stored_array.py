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

from cytolens.errors import CytolensError, DamagedError, RunError
from cytolens.store.files import checksum


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
            return json.loads(data)

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
            return np.asarray(self._array.oindex[parts if whole else tuple(chosen)])

    @property
    def _rows_per_file(self) -> int:
        return int(self._described["chunk_grid"]["configuration"]["chunk_shape"][0])

    def check(self) -> None:
        """Read all rows, a chunk at a time. Raises DamagedError."""
        with self.origin.reading(self.path):
            step = int(self._array.chunks[0])
        for start in range(0, len(self), step):
            self[start : start + step]


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
