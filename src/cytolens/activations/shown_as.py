"""What the values of a traced operation are looked at as: features, maps, or tokens on a grid."""

import math
from dataclasses import dataclass

from torch import nn

from cytolens.activations.trace import Node, Trace, trace

_MOST_EXTRA = 16  # tokens beside the grid: class, distillation, registers


@dataclass(frozen=True)
class Shown:
    """The shape (C, h, w) or (D,) that a value is seen in, and the views that show it so."""

    shape: tuple[int, ...]
    views: tuple[str, ...]
    extra: int = 0  # tokens before the grid, the class token the first of them


class Viewer:
    """Knows how values of a traced network are looked at; a second pass decides doubtful cases."""

    def __init__(self, network: nn.Module, traced: Trace) -> None:
        self._network = network
        self._traced = traced
        self._three: Trace | None = None

    def __call__(self, node: Node) -> Shown | str:
        """How the value is looked at; or why it cannot be, as an end of a sentence."""
        shape, axis = (node.batch, *node.shape), node.axis
        prefix: tuple[str, ...] = ()
        if node.batch != 2:
            images = self._axis_of_images(node)
            if images == 1 and len(shape) == 3:
                shape, prefix = (shape[1], shape[0], shape[2]), ("images_second",)
                axis = {0: 1, 1: 0}.get(axis or 2, axis)
            else:
                return (
                    f"its first axis holds {node.batch} values for 2 images: parts of images, such "
                    "as windows, not images"
                )
        if len(shape) == 2:
            return Shown(shape[1:], prefix)
        if len(shape) == 3:
            return self._of_tokens(node, shape[1:], prefix, axis)
        if len(shape) == 4:
            if axis == 3 or (axis is None and shape[1] == shape[2] != shape[3]):
                return Shown((shape[3], *shape[1:3]), ("channels_last",))
            return Shown(shape[1:], prefix)
        sizes = " x ".join(map(str, shape))
        return f"its values, {sizes} for 2 images, are neither features, maps nor tokens"

    def _axis_of_images(self, node: Node) -> int | None:
        if self._three is None:
            self._three = trace(self._network, self._traced.input_shape, images=3)
        if len(self._three.nodes) != len(self._traced.nodes):
            return None
        other = self._three.nodes[node.index]
        pairs = zip((node.batch, *node.shape), (other.batch, *other.shape), strict=False)
        changed = [(axis, pair) for axis, pair in enumerate(pairs) if pair[0] != pair[1]]
        return changed[0][0] if [pair for _, pair in changed] == [(2, 3)] else None

    def _of_tokens(
        self, node: Node, shape: tuple[int, ...], prefix: tuple[str, ...], axis: int | None
    ) -> Shown:
        if axis == 1:  # (N, C, positions)
            grid = self._grid(node, shape[1])
            if grid is not None and grid[0] * grid[1] == shape[1]:
                return Shown((shape[0], *grid), (*prefix, f"unflatten({grid[0]},{grid[1]})"))
            return Shown(shape, prefix)
        tokens, channels = shape
        grid = self._grid(node, tokens)
        if grid is None:
            return Shown((channels,), (*prefix, "all_tokens"))
        extra = tokens - grid[0] * grid[1]
        first = extra if node.first is None else min(node.first, extra)
        view = f"tokens({first},{grid[0]},{grid[1]})"
        return Shown((channels, *grid), (*prefix, view), first)

    def _grid(self, node: Node, tokens: int) -> tuple[int, int] | None:
        """Rows and columns of the grid: of maps before it, or in the ratio of the image's sides.

        With as few further tokens as possible, and at least one where some were put to the grid.
        """
        grids: list[tuple[int, int]] = []
        for earlier in reversed(self._traced.nodes[1 : node.index]):
            if earlier.batch == 2 and len(earlier.shape) == 3 and earlier.axis in (1, 3):
                sides = earlier.shape[1:] if earlier.axis == 1 else earlier.shape[:2]
                grids.append((sides[0], sides[1]))
        grids += _of_ratio(tokens, *self._traced.input_shape[1:])
        fewest = 0 if node.first is None else 1
        fitting = [g for g in grids if fewest <= tokens - g[0] * g[1] <= _MOST_EXTRA and max(g) > 1]
        return min(fitting, key=lambda grid: tokens - grid[0] * grid[1], default=None)


def _of_ratio(tokens: int, height: int, width: int) -> list[tuple[int, int]]:
    """Grids of at most so many positions in the ratio of height and width."""
    shared = math.gcd(height, width)
    rows, columns = height // shared, width // shared
    most = math.isqrt(tokens // (rows * columns))
    return [(k * rows, k * columns) for k in range(most, 0, -1)]
