"""Throughput of ``extract`` against a bare ``model(x)`` loop, in one run.

    python benchmarks/bench_extraction.py [--cells 4096] [--batch 256] [--rounds 7] [--widths 8 32]

Both read the same cells from memory in batches of the same size and run the network in eval and
inference mode. ``extract`` gives all layers besides, reduced by mean and streamed to sharded,
compressed Zarr on disk. The two take turns; the figure is the median of the rounds' ratios
(at least 0.9 is asked for), as other work on the machine slows both alike.
"""

import argparse
import platform
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
import zarr
from torch import nn

from cytolens.activations.capture import evaluating
from cytolens.activations.extraction import extract
from cytolens.classifier.networks import CellNet
from cytolens.records.cells import Cells, Preparation

SIZE = 48


class Images:
    """Random crops in memory, handed out as prepared cells."""

    def __init__(self, n: int) -> None:
        self.data = np.random.default_rng(0).random((n, 1, SIZE, SIZE), np.float32)
        self.shape = self.data.shape

    def read(self, index: Any) -> np.ndarray:
        """Crops, float32 (n, 1, H, W)."""
        return self.data[index]

    read_raw = read

    def masks(self, index: Any) -> np.ndarray:
        """All pixels are measured."""
        return np.ones((len(self.data[index]), SIZE, SIZE), bool)


def random_cells(n: int) -> Cells:
    preparation = Preparation((SIZE, SIZE), "none", (0.0,), (1.0,), (0.0,), "float32")
    return Cells(
        images=Images(n),
        labels=np.arange(n) % 2,
        class_names=("a", "b"),
        channel_names=("DNA",),
        names=np.arange(n).astype(str),
        preparation=preparation,
        original_sizes=np.full((n, 2), SIZE),
    )


def clocks() -> tuple[float, float]:
    """Wall clock and this process's CPU time, in seconds."""
    return time.perf_counter(), time.process_time()


def since(start: tuple[float, float]) -> tuple[float, float]:
    now = clocks()
    return now[0] - start[0], now[1] - start[1]


def bare_loop(model: nn.Module, cells: Cells, batch: int) -> tuple[float, float]:
    start = clocks()
    with evaluating(model), torch.inference_mode():
        for _, images in cells.batches(batch):
            model(torch.from_numpy(images))
    return since(start)


def extraction(model: nn.Module, cells: Cells, batch: int) -> tuple[float, float]:
    with tempfile.TemporaryDirectory() as folder:
        group = zarr.open_group(Path(folder) / "activations.zarr", mode="w")

        def sink(name: str, shape: tuple[int, int], dtype: np.dtype[Any]) -> Any:
            shards = (min(4096, shape[0]), shape[1])
            chunks = (min(1024, shape[0]), shape[1])
            return group.create_array(name, shape=shape, dtype=dtype, chunks=chunks, shards=shards)

        start = clocks()
        extract(model, cells, batch_size=batch, sink=sink)
        return since(start)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cells", type=int, default=4096)
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--widths", type=int, nargs="+", default=[8, 32])
    settings = parser.parse_args()
    cells = random_cells(settings.cells)
    print(f"{platform.machine()}, {torch.get_num_threads()} threads, torch {torch.__version__}")
    print(f"{settings.cells} cells of {SIZE} px, batch {settings.batch}, all layers, zarr on disk")
    for width in settings.widths:
        compare(CellNet((1, SIZE, SIZE), 2, width=width), width, cells, settings)


def compare(model: nn.Module, width: int, cells: Cells, settings: argparse.Namespace) -> None:
    bare_loop(model, cells.subset(np.arange(settings.batch)), settings.batch)
    bare, full = [], []
    for _ in range(settings.rounds):
        bare.append(bare_loop(model, cells, settings.batch))
        full.append(extraction(model, cells, settings.batch))
    for name, clock in (("wall clock", 0), ("CPU time", 1)):
        plain = [times[clock] for times in bare]
        rich = [times[clock] for times in full]
        ratios = sorted(b / f for b, f in zip(plain, rich, strict=True))
        print(
            f"reference net, width {width:2}, {name:10}"
            f"  bare {settings.cells / statistics.median(plain):6.0f} cells/s,"
            f" extract {settings.cells / statistics.median(rich):6.0f} cells/s,"
            f" ratio {statistics.median(ratios):.2f}"
            f" (rounds {ratios[0]:.2f} to {ratios[-1]:.2f}; asked 0.9)"
        )


if __name__ == "__main__":
    main()
