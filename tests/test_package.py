import pkgutil
import subprocess
import sys
from pathlib import Path

import pytest

import cytolens


def test_public_names_are_few_and_all_there():
    assert len(cytolens.__all__) <= 45
    for name in cytolens.__all__:
        assert getattr(cytolens, name) is not None


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'magic'"):
        cytolens.magic  # noqa: B018


def loads_torch(code: str) -> bool:
    """Whether ``code``, run in a fresh interpreter, brings torch in."""
    asked = f"import sys\n{code}\nprint('torch' in sys.modules)"
    return subprocess.check_output([sys.executable, "-c", asked], text=True).strip() == "True"


ROOMS = sorted(
    room.name
    for room in pkgutil.iter_modules(cytolens.__path__)
    if room.ispkg and room.name not in {"classifier", "activations", "features", "validation"}
)
COMPUTE = {
    "cytolens.embedding.tsne",  # makes a map
    "cytolens.embedding.on_gpu",  # the same on a GPU
    "cytolens.study.place",  # runs the network on new cells
    "cytolens.study.place_apart",  # the same in parts
}
"""Files that load torch, and are loaded themselves only where something is computed."""


@pytest.mark.parametrize("room", ROOMS)
def test_every_file_of_a_room_loads_without_torch(room: str):
    path = Path(cytolens.__path__[0]) / room
    files = [found.name for found in pkgutil.walk_packages([str(path)], f"cytolens.{room}.")]
    assert files
    names = [name for name in files if name not in COMPUTE]
    assert not loads_torch("\n".join(f"import {name}" for name in names))


def test_the_table_of_stages_loads_without_torch():
    assert not loads_torch("from cytolens.study.stage import table; assert table()")
