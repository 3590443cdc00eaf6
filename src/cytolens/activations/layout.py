"""Which axis of a value holds the channels, and where its token grid begins, followed along a pass.

Convolutions put channels at axis 1, linear maps at the last; what permutes and reshapes in between
is followed. A linear map along another axis than that of the channels mixes positions.
"""

from typing import Any

from torch import Tensor

AT_ONE = {
    *("conv1d", "conv2d", "conv3d", "conv_transpose2d", "batch_norm", "group_norm"),
    *("instance_norm", "local_response_norm", "max_pool2d", "avg_pool2d", "lp_pool2d"),
    *("adaptive_avg_pool2d", "adaptive_max_pool2d", "interpolate", "upsample", "pixel_shuffle"),
}
JOINS = {"cat", "concat", "concatenate"}
_RESHAPES = {"view", "reshape", "unflatten", "squeeze", "unsqueeze", "view_as", "reshape_as"}


def channel_axis(
    op: str, args: tuple[Any, ...], kwargs: dict[str, Any], source: Tensor, axis: int | None,
    result: Tensor,
) -> int | None:  # fmt: skip
    """The axis of the channels in what ``op`` made of ``source``, whose own is ``axis``.

    None where it cannot be told.
    """
    if result.ndim <= 2:
        return 1
    if op in AT_ONE:
        return 1
    if op == "linear":
        return axis if mixes_positions(source, axis) else result.ndim - 1
    if axis is None:
        return result.ndim - 1 if op in ("layer_norm", "rms_norm") else None
    if op == "permute":
        dims = args[1] if len(args) == 2 else args[1:]
        dims = kwargs.get("dims", dims)
        order = [d % source.ndim for d in (dims if isinstance(dims, (list, tuple)) else [dims])]
        return order.index(axis) if axis in order else None
    if op in ("transpose", "swapaxes", "swapdims", "mT", "t"):
        given = [*args[1:3], *kwargs.values()] if len(args) + len(kwargs) > 2 else [-2, -1]
        one, other = (int(d) % source.ndim for d in given[:2])
        return {one: other, other: one}.get(axis, axis)
    if op == "flatten":
        first = int(kwargs.get("start_dim", args[1] if len(args) > 1 else 0)) % source.ndim
        last = int(kwargs.get("end_dim", args[2] if len(args) > 2 else -1)) % source.ndim
        if axis < first:
            return axis
        return axis - (last - first) if axis > last else None
    if op in _RESHAPES:
        if axis == source.ndim - 1 and result.shape[-1] == source.shape[-1]:
            return result.ndim - 1
        return axis if source.shape[: axis + 1] == result.shape[: axis + 1] else None
    return axis if result.ndim == source.ndim else None


def mixes_positions(source: Tensor, axis: int | None) -> bool:
    """Whether a linear map of ``source`` goes along positions, its channels being at ``axis``."""
    return source.ndim > 2 and axis is not None and axis != source.ndim - 1


def first_token(
    op: str, args: tuple[Any, ...], kwargs: dict[str, Any], traced: set[int], source: Tensor,
    first: int | None, result: Tensor,
) -> int | None:  # fmt: skip
    """Tokens before the grid in what ``op`` made: those that were put before the traced ones.

    ``traced`` has the identities of the values that come from the image; ``first`` is that of
    ``source``. None where nothing was put before or behind.
    """
    if op in JOINS and result.ndim == 3:
        tensors = kwargs.get("tensors", args[0] if args else ())
        axis = int(kwargs.get("dim", args[1] if len(args) > 1 else 0))
        own = [id(tensor) in traced for tensor in tensors]
        if sum(own) == 1 and len(own) > 1:
            before = sum(int(t.shape[axis]) for t in tensors[: own.index(True)])
            return before + (first or 0)
    return first if sorted(result.shape) == sorted(source.shape) else None
