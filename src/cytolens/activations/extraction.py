"""All layers of all cells in one forward pass, streamed to where the caller wants them."""

from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from cytolens.activations.capture import (
    Model,
    Place,
    capture,
    device_of,
    evaluating,
    network_of,
    on_device,
)
from cytolens.activations.forward import cells_at_once, fast_layout, laid_out
from cytolens.activations.layers import find_layers
from cytolens.activations.reduction import n_features, reduce_activations, reduction_named
from cytolens.errors import InputError, ModelError
from cytolens.records.cells import Cells, Progress
from cytolens.records.layers import Activations, Layer

Sink = Callable[[str, tuple[int, int], np.dtype[Any]], Any]
"""Called with (layer name, (N, F), dtype); gives an array-like that takes ``array[a:b] = rows``."""


def extract(
    model: Model,
    cells: Cells,
    *,
    layers: Sequence[str | Layer] | None = None,
    reduction: str = "mean",
    sink: Sink | None = None,
    batch_size: int | None = None,
    device: str | torch.device | None = None,
    progress: Progress | None = None,
) -> Activations:
    """Features (N, F), float32, of every cell at every layer, from one forward pass per cell.

    ``layers``: names or Layers; all of them by default, the flattened input pixels among them.
    ``reduction`` of (C, H, W) layers, after the non-linearity: "mean", "max", "centre" or "flat"
    (see ``reduce_activations``); dense layers stay as they are, logits before any softmax.

    ``sink`` decides where the features go, by default into memory. Rows are written in order, a
    shard (or chunk) of the sink's array at a time and by a thread of its own, so memory does not
    grow with the number of cells: it holds about two shards per layer. The next crops are read
    while a batch is computed.

    The network is in eval mode meanwhile and left as found, on the ``device`` it was on. On the
    CPU it runs with channels last in memory where it can (measured: 1.4 to 1.9 times as fast),
    so numbers may differ from ``model(x)`` by rounding. ``batch_size``: None is 128, on a GPU 2048.

    Raises InputError for no cells, ModelError if a layer gives numbers that are not finite.

    >>> from cytolens.images.arrays import cells_from_arrays
    >>> images = np.random.default_rng(0).integers(0, 255, size=(20, 1, 16, 16), dtype=np.uint8)
    >>> module = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(784, 2))
    >>> found = extract(module, cells_from_arrays(images, ["G1", "M"] * 10))
    >>> {name: found[name].shape for name in found}
    {'input': (20, 256), '0': (20, 4), 'pre_softmax': (20, 784), 'logits': (20, 2)}
    """
    reduction_named(reduction)
    if len(cells) == 0:
        raise InputError("there are no cells to extract; hand in at least one")
    network = network_of(model)
    chosen = _choose_layers(network, cells.shape, layers)
    target = torch.device(device) if device is not None else device_of(network)
    make = sink or _in_memory
    n = len(cells)
    arrays = {
        layer.name: make(layer.name, (n, _width(layer, reduction)), np.dtype(np.float32))
        for layer in chosen
    }
    inputs = [layer for layer in chosen if layer.kind == "input"]  # the crops, as they come
    by_place: dict[Place, list[Layer]] = {}
    for layer in chosen:
        if layer not in inputs:
            by_place.setdefault(layer.activation, []).append(layer)

    with ExitStack() as stack:
        writer = stack.enter_context(_writing(arrays))

        found: list[tuple[str, Tensor]] = []  # of one batch, on the device

        def consume(place: Place, value: Tensor) -> None:
            for layer in by_place[place]:
                found.append((layer.name, reduce_activations(value, reduction=reduction).float()))

        stack.enter_context(on_device(network, target))
        stack.enter_context(evaluating(network))
        layout = stack.enter_context(fast_layout(network, cells.shape, target, by_place))
        stack.enter_context(capture(network, by_place, stop_at_last=True, consume=consume))
        stack.enter_context(torch.inference_mode())
        done = 0
        size = cells_at_once(batch_size, target)
        for images in _ahead(batch for _, batch in cells.batches(size)):
            if by_place:
                network(laid_out(torch.from_numpy(images).to(target), layout))
            for name, rows in _together(found):
                if not np.isfinite(rows).all():
                    raise ModelError(
                        f"layer '{name}' gives numbers that are not finite; check the"
                        " network's weights and the cells' intensities"
                    )
                writer.add(name, rows)
            found.clear()
            for layer in inputs:
                writer.add(layer.name, images.reshape(len(images), -1))
            done += len(images)
            if progress is not None:
                progress(done, n, "activations")
        writer.flush()
    return Activations(layers=chosen, features=arrays, reduction=reduction)


def gather(
    blocks: Iterable[Mapping[str, NDArray[np.float32]]],
    layers: Sequence[Layer],
    n: int,
    *,
    reduction: str,
    sink: Sink,
) -> Activations:
    """Features of ``n`` cells from those of blocks of them, by layer and in order.

    Blocks are written by a thread of its own while the next one is made. Raises ValueError where
    they are not of ``n`` cells.
    """
    arrays = {
        layer.name: sink(layer.name, (n, _width(layer, reduction)), np.dtype(np.float32))
        for layer in layers
    }
    with _writing(arrays) as writer:
        for block in blocks:
            for name, rows in block.items():
                writer.add(name, rows)
        writer.flush()
        if set(writer.written.values()) != {n}:
            raise ValueError(f"blocks of {writer.written} cells came where there are {n}")
    return Activations(tuple(layers), arrays, reduction)


def _together(found: list[tuple[str, Tensor]]) -> Iterator[tuple[str, NDArray[np.float32]]]:
    """Rows (n, F) by layer, brought to the CPU at once: every trip waits for all computed."""
    if found:
        joined = torch.cat([rows for _, rows in found], dim=1).cpu().numpy()
        first = 0
        for name, rows in found:
            yield name, joined[:, first : first + rows.shape[1]]
            first += rows.shape[1]


def _choose_layers(
    model: nn.Module, shape: tuple[int, int, int], layers: Sequence[str | Layer] | None
) -> tuple[Layer, ...]:
    """Layers in depth order; Layers stay as they are, names are looked up."""
    if layers is None:
        return find_layers(model, shape)
    names = [layer for layer in layers if isinstance(layer, str)]
    ready = [layer for layer in layers if isinstance(layer, Layer)]
    found = find_layers(model, shape, names=names) if names else ()
    return tuple(sorted((*found, *ready), key=lambda layer: layer.depth))


def _width(layer: Layer, reduction: str) -> int:
    how = "flat" if layer.kind == "input" else reduction
    return n_features(layer.shape, reduction=how)


def _in_memory(name: str, shape: tuple[int, int], dtype: np.dtype[Any]) -> NDArray[Any]:
    return np.empty(shape, dtype)


def _ahead(batches: Iterator[NDArray[np.float32]]) -> Iterator[NDArray[np.float32]]:
    """The same batches, the next one already being read in a thread."""
    with ThreadPoolExecutor(max_workers=1, thread_name_prefix="read-cells") as pool:
        coming = pool.submit(next, batches, None)
        while (batch := coming.result()) is not None:
            coming = pool.submit(next, batches, None)
            yield batch


class _Writer:
    """Collects rows into blocks that match the arrays' shards, and writes them in one thread."""

    def __init__(self, arrays: dict[str, Any], pool: ThreadPoolExecutor) -> None:
        self.arrays = arrays
        self.pool = pool
        self.pending: list[Future[None]] = []
        self.filled = dict.fromkeys(arrays, 0)
        self.written = dict.fromkeys(arrays, 0)
        self.blocks: dict[str, NDArray[np.float32]] = {}

    def add(self, name: str, rows: NDArray[np.float32]) -> None:
        """Take over a copy of the rows; full blocks go to the thread."""
        array = self.arrays[name]
        length = _rows_per_write(array)
        while len(rows):
            if name not in self.blocks:
                n_left = array.shape[0] - self.written[name]
                self.blocks[name] = np.empty((min(length, n_left), *rows.shape[1:]), np.float32)
            block, filled = self.blocks[name], self.filled[name]
            taken = rows[: len(block) - filled]
            block[filled : filled + len(taken)] = taken
            self.filled[name] = filled + len(taken)
            rows = rows[len(taken) :]
            if self.filled[name] == len(block):
                self._send(name)

    def _send(self, name: str) -> None:
        """Hand a full block over; wait when a block per layer is already waiting."""
        block, start = self.blocks.pop(name), self.written[name]
        self.filled[name] = 0
        self.written[name] = start + len(block)
        while len(self.pending) > len(self.arrays):
            self.pending.pop(0).result()
        self.pending.append(self.pool.submit(self._write, name, start, block))

    def _write(self, name: str, start: int, block: NDArray[np.float32]) -> None:
        self.arrays[name][start : start + len(block)] = block

    def flush(self) -> None:
        """Wait until everything is written; a failed write is raised here."""
        for write in self.pending:
            write.result()
        self.pending.clear()


@contextmanager
def _writing(arrays: dict[str, Any]) -> Generator[_Writer, None, None]:
    """A writer whose thread ends with the block; what still waits after an error is dropped."""
    pool = ThreadPoolExecutor(max_workers=1, thread_name_prefix="write-activations")
    try:
        yield _Writer(arrays, pool)
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _rows_per_write(array: Any) -> int:
    """Rows of one shard, of one chunk, or of a batch's order for plain arrays."""
    for attribute in ("shards", "chunks"):
        lengths = getattr(array, attribute, None)
        if lengths:
            return int(lengths[0])
    return 4096
