"""The public names and their signatures are those of ``public_signatures.txt``.

A signature here is names, order, kinds and defaults: how annotations are written depends on the
versions of Python and NumPy, and pyright checks them.
"""

import difflib
import inspect
import sys
from collections.abc import Callable
from pathlib import Path

import cytolens

FILE = Path(__file__).with_name("public_signatures.txt")


def signatures() -> str:
    """Each public name with its signature; of a module, those of the functions it defines."""
    lines: list[str] = []
    for name in sorted(cytolens.__all__):
        value = getattr(cytolens, name)
        if inspect.ismodule(value):
            for inner, function in sorted(vars(value).items()):
                own = getattr(function, "__module__", None) == value.__name__
                if own and inspect.isfunction(function) and not inner.startswith("_"):
                    lines.append(f"{name}.{inner}{_signature(function)}")
        else:
            lines.append(f"{name}{_signature(value)}")
    return "\n".join(lines) + "\n"


def _signature(value: Callable[..., object]) -> str:
    if isinstance(value, type) and issubclass(value, Exception):
        return ": an exception"
    signature = inspect.signature(value)
    bare = [each.replace(annotation=each.empty) for each in signature.parameters.values()]
    return str(signature.replace(parameters=bare, return_annotation=signature.empty))


def test_public_signatures_are_those_written_down():
    given, found = FILE.read_text(encoding="utf-8"), signatures()
    changes = difflib.unified_diff(given.splitlines(), found.splitlines(), "file", "code", n=0)
    assert found == given, (
        "Public signatures have changed:\n"
        + "\n".join(changes)
        + "\nIf this is meant, write them down anew and say so in CHANGELOG.md:\n"
        + "    .venv/bin/python tests/test_public_signatures.py --renew"
    )


if __name__ == "__main__" and sys.argv[1:] == ["--renew"]:
    FILE.write_text(signatures(), encoding="utf-8")
