"""Any record as one ``.npz`` file without pickles: its arrays, and a JSON tree that names them.

A checksum of all before it is the comment of the zip file, so that any change is noticed.
"""

import io
import json
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from importlib import import_module
from pkgutil import iter_modules
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cytolens import records
from cytolens.errors import RunError
from cytolens.numerics.estimates import Estimate
from cytolens.store.files import checksum

_TREE = "tree"
_ROOM = "cytolens.records"
_COMMENT_LENGTH = (8).to_bytes(2, "little")  # the file ends with its checksum as zip comment


def encode(value: Any, *, compressed: bool = True) -> bytes:
    """``value`` (records, mappings with string keys, tuples, lists, arrays, scalars) as npz bytes.

    Raises RunError for anything else, so that nothing is stored which cannot be read back.
    """
    arrays: dict[str, NDArray[Any]] = {}
    tree = _to_tree(value, arrays)
    buffer = io.BytesIO()
    text = np.frombuffer(json.dumps(tree).encode(), dtype=np.uint8)
    save = np.savez_compressed if compressed else np.savez
    save(buffer, allow_pickle=False, **{_TREE: text}, **arrays)
    sealed = buffer.getvalue()[:-2] + _COMMENT_LENGTH
    return sealed + checksum(sealed).encode()


def decode(data: bytes) -> Any:
    """What ``encode`` was given.

    Raises ValueError when ``data`` have changed, and ValueError, KeyError or TypeError when they
    hold records of another version.
    """
    if checksum(data[:-8]).encode() != data[-8:]:
        raise ValueError("its checksum does not match")
    with np.load(io.BytesIO(data), allow_pickle=False) as archive:
        arrays = {name: archive[name] for name in archive.files}
    return _from_tree(json.loads(arrays.pop(_TREE).tobytes()), arrays)


def _to_tree(value: Any, arrays: dict[str, NDArray[Any]]) -> Any:
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, np.ndarray):
        if value.dtype == object:
            raise RunError("an array of Python objects cannot be stored; give numbers or strings")
        key = f"a{len(arrays)}"
        arrays[key] = value
        return {"$array": key}
    name = _name_of(type(value))
    if name is not None:
        parts = {f.name: _to_tree(getattr(value, f.name), arrays) for f in fields(value)}
        return {"$record": name, "fields": parts}
    if isinstance(value, Mapping):
        return {"$map": [[str(key), _to_tree(item, arrays)] for key, item in value.items()]}
    if isinstance(value, tuple):
        return {"$tuple": [_to_tree(item, arrays) for item in value]}
    if isinstance(value, list):
        return [_to_tree(item, arrays) for item in value]
    raise RunError(f"a {type(value).__name__} cannot be stored in a run folder")


def _from_tree(tree: Any, arrays: Mapping[str, NDArray[Any]]) -> Any:
    if isinstance(tree, list):
        return [_from_tree(item, arrays) for item in tree]
    if not isinstance(tree, dict):
        return tree
    if "$array" in tree:
        return arrays[tree["$array"]]
    if "$tuple" in tree:
        return tuple(_from_tree(item, arrays) for item in tree["$tuple"])
    if "$map" in tree:
        return {key: _from_tree(item, arrays) for key, item in tree["$map"]}
    parts = {name: _from_tree(item, arrays) for name, item in tree["fields"].items()}
    return _record_of(tree["$record"])(**parts)


def _name_of(kind: type) -> str | None:
    """ "maps.Embedding" for a record of that topic; None for anything that is no record."""
    if kind is Estimate:
        return "Estimate"
    room, _, topic = kind.__module__.rpartition(".")
    return f"{topic}.{kind.__name__}" if room == _ROOM and is_dataclass(kind) else None


def _record_of(name: str) -> type:
    """The record of that name. Raises KeyError for any other name: a file can name records only."""
    if name == "Estimate":
        return Estimate
    topic, _, kind = name.partition(".")
    if topic not in {module.name for module in iter_modules(records.__path__)}:
        raise KeyError(name)
    found = vars(import_module(f"{_ROOM}.{topic}"))[kind]
    if not isinstance(found, type) or _name_of(found) != name:
        raise KeyError(name)
    return found
