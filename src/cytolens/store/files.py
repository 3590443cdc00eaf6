"""Single files, written whole or not at all."""

import json
import os
import shutil
import tempfile
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from cytolens.errors import SettingError
from cytolens.records.cells import Simulation


def write_bytes(path: Path, data: bytes) -> None:
    """Write a file so that a reader sees the old one or the new one, never a part."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).chmod(0o644)
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def write_text(path: Path, text: str) -> None:
    """Write UTF-8 text, atomically."""
    write_bytes(path, text.encode())


def write_json(path: Path, value: Any) -> None:
    """Write strict JSON, atomically; NaN and infinity, which JSON lacks, become null."""
    write_text(path, json.dumps(_plain(value), indent=2, allow_nan=False) + "\n")


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, np.ndarray):
        return _plain(value.tolist())
    if isinstance(value, np.generic):
        return _plain(value.item())
    if isinstance(value, float) and not np.isfinite(value):
        return None
    if isinstance(value, Path):
        return str(value)
    return value


def write_simulation(out: Path, simulation: Simulation) -> Path:
    """Write simulated cells as ``cells.npz``, the truth as ``truth.npz``, settings as JSON.

    ``read_cells(out)`` reads them back. Refuses a folder that holds anything else. Returns the
    path of ``cells.npz``.
    """
    ours = {"cells.npz", "truth.npz", "simulation.json", "demo.json"}
    if out.exists() and (not out.is_dir() or {entry.name for entry in out.iterdir()} - ours):
        raise SettingError(f"'{out}' exists and holds other things; name a new folder")
    write_json(out / "simulation.json", asdict_plain(simulation.settings))
    _write_npz(
        out / "truth.npz",
        {**simulation.masks, **simulation.properties, "labels": simulation.labels},
    )
    _write_npz(
        out / "cells.npz",
        {
            "images": simulation.images,
            "labels": simulation.labels,
            "class_names": np.array(simulation.class_names),
            "channel_names": np.array(["fluorescence"]),
            "pixel_size": np.array(simulation.pixel_size),
            **simulation.properties,
        },
    )
    return out / "cells.npz"


def asdict_plain(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings with any dataclass among them as a plain mapping."""
    return {
        key: asdict(item) if hasattr(item, "__dataclass_fields__") else item
        for key, item in settings.items()
    }


def _write_npz(path: Path, arrays: Mapping[str, Any]) -> None:
    with replacing(path) as temporary:
        np.savez_compressed(temporary, allow_pickle=False, **arrays)


@contextmanager
def replacing(path: Path) -> Generator[Path]:
    """A temporary path to write to, put in the place of ``path`` when all went well."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".partial-{path.name}")
    try:
        yield temporary
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def replacing_folder(path: Path, *, knows: tuple[str, ...]) -> Generator[Path]:
    """A temporary folder to fill, put in the place of ``path`` when all went well.

    A folder that stands there is replaced only if it is empty or holds one of the files ``knows``,
    by which an earlier one of the kind is known. Raises SettingError for any other.
    """
    if path.exists() and not (path.is_dir() and _replaceable(path, knows)):
        raise SettingError(f"'{path}' exists and holds other things; name a new folder")
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary, old = (path.with_name(f".{word}-{path.name}") for word in ("partial", "old"))
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir()
    try:
        yield temporary
        shutil.rmtree(old, ignore_errors=True)
        if path.exists():
            path.replace(old)
        temporary.replace(path)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
        shutil.rmtree(old, ignore_errors=True)


def _replaceable(path: Path, knows: tuple[str, ...]) -> bool:
    return not any(path.iterdir()) or any((path / name).exists() for name in knows)
