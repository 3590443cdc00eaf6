"""Where the code of a network of the user's own is: a file or module, and a function in it.

Nothing is run here, and torch is not needed; `wrapping.load_module` runs a factory.
"""

from collections.abc import Sequence
from importlib.machinery import PathFinder
from pathlib import Path

from cytolens.errors import ModelError

PACKAGES = {"timm": "timm", "hf": "transformers"}
"""Packages whose networks are named as ``timm:NAME`` or ``hf:REPO``, and what is imported."""
CARDS = (".json", ".yaml", ".yml")


def of_package(text: str) -> tuple[str, str] | None:
    """The package and the name in it, of ``timm:resnet18`` or ``hf:owner/repo``; else None."""
    package, colon, name = text.partition(":")
    return (package, name) if colon and package in PACKAGES and name else None


def is_card(text: str) -> bool:
    """Whether a ``--model`` is a model card, which names the network."""
    return text.lower().endswith(CARDS) and of_package(text) is None


def resolve_factory(text: str, base: Path | str | None = None) -> str:
    """A factory that means the same from any folder: the path of its file is made absolute.

    Relative paths start from ``base``, by default the current folder; those of dotted modules
    stay as they are. Nothing is run, and the file need not exist. Raises ModelError where the
    text is no factory.

    >>> resolve_factory("my_model.py:build", base="/home/ada")
    '/home/ada/my_model.py:build'
    >>> resolve_factory("lab.networks:build")
    'lab.networks:build'
    """
    if is_card(text):
        return str((Path(base or Path.cwd()) / Path(text).expanduser()).resolve())
    named = of_package(text)
    if named is not None:
        folder = Path(base or Path.cwd()) / Path(named[1]).expanduser()
        return f"{named[0]}:{folder.resolve()}" if folder.is_dir() else text
    place, name = factory_parts(text)
    if not place.endswith(".py"):
        return text
    return f"{(Path(base or Path.cwd()) / Path(place).expanduser()).resolve()}:{name}"


def source_files(factory: str, weights: Path | str | None = None) -> list[Path]:
    """The files that decide what `load_module` gives, absolute: of the code, and of the weights.

    Found without running anything, also for a dotted module. What these files import in turn is
    not among them. Raises ModelError where one does not exist.
    """
    named = of_package(factory)
    if named is not None:
        folder = Path(named[1])
        found = [*folder.glob("*.json"), *folder.glob("*.safetensors")] if folder.is_dir() else []
        found.sort()
    else:
        place, _ = factory_parts(factory)
        found = [Path(place).expanduser() if place.endswith(".py") else _module_file(place)]
    if weights is not None:
        found.append(Path(weights).expanduser())
    for file in found:
        if not file.is_file():
            raise ModelError(f"'{file}' does not exist; give the path of the file to load")
    return [file.resolve() for file in found]


def factory_parts(factory: str) -> tuple[str, str]:
    """The file or dotted module of a factory, and the name of its function."""
    place, colon, name = factory.rpartition(":")
    dotted = all(part.isidentifier() for part in place.split("."))
    if not colon or not name.isidentifier() or not (place.endswith(".py") or dotted):
        raise ModelError(
            f"'{factory}' is no factory; give path/to/file.py:function, package.module:function, "
            "timm:NAME, hf:REPO, or a model card (.json, .yaml; of bioimage.io the rdf.yaml in an "
            "unpacked package)"
        )
    return place, name


def _module_file(dotted: str) -> Path:
    """The file of a module that Python could import; no package is run to find it."""
    where: Sequence[str] | None = None
    spec = None
    names = dotted.split(".")
    for depth in range(1, len(names) + 1):
        spec = PathFinder.find_spec(".".join(names[:depth]), where)
        if spec is None or (where := spec.submodule_search_locations) is None:
            break
    if spec is None or spec.origin is None or spec.name != dotted:
        raise ModelError(f"no module '{dotted}' can be imported from here")
    return Path(spec.origin)
