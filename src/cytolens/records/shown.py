"""What a record shows of itself at a prompt and in a notebook: a few lines, and a few pictures."""

import base64
import html
import io
from collections.abc import Iterable, Mapping
from dataclasses import Field, dataclass, field, fields, is_dataclass
from itertools import islice
from typing import Any, TypeVar, dataclass_transform

import numpy as np
from numpy.typing import NDArray

LINES = 15
WIDTH = 100  # characters
Kind = TypeVar("Kind", bound=type)
_FEW = 6  # numbers of an array that are worth a look
_LONGEST_WORD = 20  # characters
_PIXELS = 64_000  # of all pictures together, which keeps their PNG below 100 kB as base64
_MOST_PICTURES = 12


@dataclass_transform(frozen_default=True, field_specifiers=(field, Field))
def record(kind: Kind) -> Kind:
    """A frozen dataclass whose ``repr`` is at most 15 lines; see `show`."""
    if "__repr__" not in vars(kind):
        setattr(kind, "__repr__", show)  # noqa: B010 (a method, which the type checker binds)
    return dataclass(frozen=True, repr=False)(kind)


def show(shown: Any) -> str:
    """The ``repr`` of a dataclass: its name and meaning, then a line for each field.

    Arrays are shown as dtype and shape, mappings as their keys, long tuples by their beginning.
    In the body of a dataclass, ``__repr__ = show`` makes it the ``repr``.
    """
    return listing(
        f"{type(shown).__name__}: {_meaning(type(shown))}",
        {entry.name: getattr(shown, entry.name) for entry in fields(shown)},
    )


def listing(title: str, values: Mapping[str, Any]) -> str:
    """A title and a line for each value, at most `LINES` of at most `WIDTH` characters."""
    wide = max((len(name) for name in values), default=0)
    lines = [f"  {name:<{wide}}  {describe(value)}" for name, value in values.items()]
    if len(lines) >= LINES:
        rest = list(values)[LINES - 2 :]
        lines[LINES - 2 :] = [f"  … {len(rest)} more: {', '.join(rest)}"]
    return "\n".join(_cut(line) for line in (title, *lines))


def describe(value: Any) -> str:
    """One line about any value that a record holds."""
    if value is None:
        return "none"
    if isinstance(value, str):
        return " ".join(value.split()) or "none"
    if isinstance(value, float | np.floating):
        return f"{value:.4g}"
    if isinstance(value, np.ndarray) and value.ndim == 1 and value.size <= _FEW:
        return _joined(value.tolist(), len(value))
    if hasattr(value, "shape") and hasattr(value, "dtype"):
        return f"{value.dtype} {tuple(value.shape)}"
    if isinstance(value, Mapping):
        return _joined((_entry(*item) for item in value.items()), len(value))
    if isinstance(value, tuple | list):
        return _joined(value, len(value))
    if is_dataclass(value) and type(value).__str__ is object.__str__:
        return describe(getattr(value, "name", None) or type(value).__name__)
    text = str(value)
    return text if "\n" not in text else type(value).__name__


def _entry(key: Any, value: Any) -> str:
    """The key alone, or with its value where that is a number, an estimate or a word."""
    number = isinstance(value, int | float | np.number)
    estimate = is_dataclass(value) and type(value).__str__ is not object.__str__
    word = isinstance(value, str) and len(value) <= _LONGEST_WORD
    return f"{key}={describe(value)}" if number or estimate or word else str(key)


def _joined(values: Iterable[Any], n: int) -> str:
    """The first values, as many as fit on a line, and how many there are if these are not all."""
    said: list[str] = []
    for value in islice(values, WIDTH):
        text = _cut(describe(value), WIDTH // 2)
        said.append(f"({text})" if isinstance(value, tuple | list) else text)
        if sum(map(len, said)) + 2 * len(said) > WIDTH - 30:
            break
    if len(said) == n:
        return ", ".join(said) or "none"
    return f"{', '.join(said[: max(len(said) - 1, 1)])}, … ({n})"


def _meaning(kind: type) -> str:
    """The first sentence of a docstring."""
    sentence = " ".join((kind.__doc__ or "").split("\n\n")[0].split()).split(". ")[0].rstrip(".")
    return sentence[:1].lower() + sentence[1:]


def _cut(line: str, width: int = WIDTH) -> str:
    return line if len(line) <= width else line[: width - 1] + "…"


def notebook(shown: object, pictures: NDArray[Any]) -> str:
    """HTML for a notebook: pictures (K, C, H, W) side by side, and the ``repr``.

    Of many pictures the first twelve are shown. Each is scaled from its darkest to its brightest
    pixel; three image channels are taken as red, green and blue, others stand below each other.
    """
    strip = _png(pictures[:_MOST_PICTURES]) if pictures.size else b""
    image = (
        f'<img style="image-rendering: pixelated; max-width: 100%" src="data:image/png;base64,'
        f'{base64.b64encode(strip).decode("ascii")}"/>'
    )
    return f"{image if strip else ''}<pre>{html.escape(repr(shown))}</pre>"


def _png(pictures: NDArray[Any]) -> bytes:
    """A strip of pictures (K, C, H, W), shrunk where they have too many pixels, as PNG."""
    from PIL import Image

    tiles = np.nan_to_num(np.asarray(pictures, dtype=np.float32))
    axes = (1, 2, 3) if tiles.shape[1] == 3 else (2, 3)
    tiles = tiles - tiles.min(axis=axes, keepdims=True)
    tiles *= 255 / np.maximum(tiles.max(axis=axes, keepdims=True), 1e-12)
    tiles = np.pad(tiles, ((0, 0), (0, 0), (0, 1), (0, 1)), constant_values=255)
    n, channels, height, width = tiles.shape
    if channels == 3:
        strip = tiles.transpose(2, 0, 3, 1).reshape(height, n * width, 3)
    else:
        strip = tiles.transpose(1, 2, 0, 3).reshape(channels * height, n * width)
    picture = Image.fromarray(strip.astype(np.uint8))
    shrink = (_PIXELS / strip.size) ** 0.5
    if shrink < 1:
        wide, high = (max(1, int(side * shrink)) for side in picture.size)
        picture = picture.resize((wide, high), Image.Resampling.BOX)
    buffer = io.BytesIO()
    picture.save(buffer, "PNG", optimize=True)
    return buffer.getvalue()
