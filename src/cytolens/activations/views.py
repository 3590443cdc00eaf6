"""How values that do not lie as (N, C, h, w) are looked at as maps, and put back.

Transformers and mixers hold tokens (N, T, D), some networks (N, h, w, C) or (T, N, D). Channels are
the embedding dimensions, maps are token grids, and a class token is a layer of its own, (N, D). A
view is written behind the side of a place: ``"output.tokens(1,7,7)"``.

| view | takes | gives |
|---|---|---|
| ``tokens(first,h,w)`` | (N, T, D), h·w tokens from ``first`` on | (N, D, h, w) |
| ``token(i)`` | (N, T, D) | (N, D), token i |
| ``all_tokens`` | (N, T, D), tokens in no grid | (N, D), their mean |
| ``unflatten(h,w)`` | (N, C, h·w) | (N, C, h, w) |
| ``channels_last`` | (N, h, w, C) | (N, C, h, w) |
| ``images_second`` | (T, N, D) | (N, T, D), for a view behind it |
"""

import re
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

_WRITTEN = re.compile(r"([a-z_]+)(?:\((\d+(?:,\d+)*)\))?")


@dataclass(frozen=True)
class View:
    """A way to look at a value, and the way back."""

    take: Callable[[Tensor], Tensor]
    put_back: Callable[[Tensor, Tensor], Tensor]
    """(what was taken, perhaps changed; the value it was taken from) to such a value."""


def parts_of(side: str) -> tuple[str, str, tuple[str, ...]]:
    """Side, function (or "") and views of a place's third entry.

    >>> parts_of("output.gelu.tokens(1,7,7)")
    ('output', 'gelu', ('tokens(1,7,7)',))
    """
    side, *rest = side.split(".")
    views = tuple(part for part in rest if _kind(part) in _MAKERS)
    functions = [part for part in rest if part not in views]
    return side, ".".join(functions), views


def with_views(side: str, views: tuple[str, ...]) -> str:
    """A place's third entry with views behind it."""
    return ".".join((side, *views))


def view_of(names: tuple[str, ...]) -> View | None:
    """The views one after the other as one; None where there are none.

    >>> view = view_of(("tokens(1,2,2)",))
    >>> value = torch.arange(10.).view(1, 5, 2)
    >>> maps = view.take(value)
    >>> maps.shape, bool((view.put_back(maps, value) == value).all())
    (torch.Size([1, 2, 2, 2]), True)
    """
    if not names:
        return None
    first = _made(names[0])
    rest = view_of(names[1:])
    if rest is None:
        return first

    def put_back(new: Tensor, value: Tensor) -> Tensor:
        return first.put_back(rest.put_back(new, first.take(value)), value)

    return View(lambda value: rest.take(first.take(value)), put_back)


def _kind(name: str) -> str:
    match = _WRITTEN.fullmatch(name)
    return match[1] if match else ""


def _made(name: str) -> View:
    match = _WRITTEN.fullmatch(name)
    assert match is not None
    numbers = [int(number) for number in (match[2] or "").split(",") if number]
    return _MAKERS[match[1]](*numbers)


def _tokens(first: int, height: int, width: int) -> View:
    after = first + height * width

    def take(value: Tensor) -> Tensor:
        grid = value[:, first:after].unflatten(1, (height, width))
        return grid.permute(0, 3, 1, 2)

    def put_back(new: Tensor, value: Tensor) -> Tensor:
        value = _as_many(value, new)
        tokens = new.permute(0, 2, 3, 1).flatten(1, 2)
        return torch.cat([value[:, :first], tokens, value[:, after:]], dim=1)

    return View(take, put_back)


def _token(index: int) -> View:
    def put_back(new: Tensor, value: Tensor) -> Tensor:
        value = _as_many(value, new)
        return torch.cat([value[:, :index], new[:, None], value[:, index + 1 :]], dim=1)

    return View(lambda value: value[:, index], put_back)


def _all_tokens() -> View:
    def put_back(new: Tensor, value: Tensor) -> Tensor:
        value = _as_many(value, new)
        return value - value.mean(1, keepdim=True) + new[:, None]

    return View(lambda value: value.mean(1), put_back)


def _unflatten(height: int, width: int) -> View:
    return View(
        lambda value: value.unflatten(2, (height, width)), lambda new, value: new.flatten(2)
    )


def _channels_last() -> View:
    return View(lambda value: value.permute(0, 3, 1, 2), lambda new, value: new.permute(0, 2, 3, 1))


def _images_second() -> View:
    return View(lambda value: value.transpose(0, 1), lambda new, value: new.transpose(0, 1))


def _as_many(value: Tensor, new: Tensor) -> Tensor:
    """The value once for each copy of the images in ``new``."""
    copies = len(new) // len(value)
    return value if copies == 1 else value.repeat(copies, *(1,) * (value.ndim - 1))


_MAKERS: dict[str, Callable[..., View]] = {
    "tokens": _tokens,
    "token": _token,
    "all_tokens": _all_tokens,
    "unflatten": _unflatten,
    "channels_last": _channels_last,
    "images_second": _images_second,
}
