"""Named selections, kept in the run as ``explorer/gates.json``.

A gate has the steps that the page makes it from (a line on a map, a range of a property …) and
its cells, as places in the run, so that other tools need not repeat the steps::

    {"format": 1, "gates": [{"name": "bright", "steps": [...], "cells": [3, 17]}]}
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cytolens.errors import SettingError
from cytolens.store.files import write_json

_LONGEST_NAME = 80
_MOST_GATES = 500
_MOST_STEPS = 200


class Gates:
    """The gates of a run; the file is read anew each time, so that two pages agree."""

    def __init__(self, run: Path, mapped: NDArray[np.int64]) -> None:
        """mapped: the cells on the maps (n,), as places in the run."""
        self._path, self._mapped = run / "explorer" / "gates.json", mapped

    def read(self) -> list[dict[str, Any]]:
        """Name, steps and number of cells of each gate; none where the file is not a gate file."""
        return [
            {"name": gate["name"], "steps": gate["steps"], "cells": len(gate["cells"])}
            for gate in self._stored()
        ]

    def members(self) -> dict[str, NDArray[np.int64]]:
        """The cells of each gate, as places in the run, by its name."""
        return {gate["name"]: np.array(gate["cells"], dtype=np.int64) for gate in self._stored()}

    def save(self, name: Any, steps: Any, cells: Any) -> None:
        """Keep a gate; one of the same name is replaced.

        ``cells``: places on the maps. Raises SettingError for what is no gate.
        """
        name = _name(name)
        if not isinstance(steps, list) or len(steps) > _MOST_STEPS:
            raise SettingError(f"a gate has a list of at most {_MOST_STEPS} steps")
        chosen = chosen_cells(cells, len(self._mapped))
        gate = {"name": name, "steps": steps, "cells": self._mapped[chosen].tolist()}
        others = [other for other in self._stored() if other["name"] != name]
        if len(others) >= _MOST_GATES:
            raise SettingError(f"a run keeps at most {_MOST_GATES} gates; forget some")
        self._write([*others, gate])

    def forget(self, name: Any) -> None:
        """Remove a gate. Raises SettingError where there is none of that name."""
        name, stored = _name(name), self._stored()
        kept = [gate for gate in stored if gate["name"] != name]
        if len(kept) == len(stored):
            raise SettingError("there is no gate of that name")
        self._write(kept)

    def _write(self, gates: list[dict[str, Any]]) -> None:
        write_json(self._path, {"format": 1, "gates": gates})

    def _stored(self) -> list[dict[str, Any]]:
        try:
            gates = json.loads(self._path.read_bytes())["gates"]
            return [
                gate
                for gate in gates
                if isinstance(gate["name"], str)
                and isinstance(gate["steps"], list)
                and isinstance(gate["cells"], list)
            ]
        except (OSError, ValueError, KeyError, TypeError):
            return []


def chosen_cells(cells: Any, n: int) -> NDArray[np.int64]:
    """A list of places below ``n``, each once, in order. Raises SettingError for anything else."""
    if not isinstance(cells, list) or len(cells) > n:
        raise SettingError("cells are a list of their places, each once")
    if not all(isinstance(cell, int) and not isinstance(cell, bool) for cell in cells):
        raise SettingError("cells are whole numbers")
    if cells and (min(cells) < 0 or max(cells) >= n):
        raise SettingError(f"cells lie between 0 and {n - 1}")
    return np.unique(np.array(cells, dtype=np.int64))


def _name(name: Any) -> str:
    if not isinstance(name, str) or not name.strip() or len(name) > _LONGEST_NAME:
        raise SettingError(f"a gate has a name of 1 to {_LONGEST_NAME} characters")
    return " ".join(name.split())
