"""What a GPU gives: extraction, feature images and maps, each beside the card's own limit.

    python benchmarks/gpu.py [--cells 1000000] [--only limit extract images map study]

limit: products of 8192 x 8192 matrices, copies on the card and from pinned memory. extract: cells/s
of `extract` (all layers, from memory, into memory) and of the bare network on crops that lie on the
card. images: seconds for 64 channels and for all channels of a ResNet-18, at equal steps, and what
a bare loop of forward and backward passes of the same batch takes. map: t-SNE of so many cells in
128 dimensions, step by step, with the share of the ten nearest neighbours that stay. study: a whole
study of 2,000 simulated cells, by stage. Each figure is the median of three after a warm-up, unless
it says "once".
"""

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

sys.path.insert(0, str(Path(__file__).parent))

from cytolens.activations.extraction import extract
from cytolens.classifier.networks import build_network
from cytolens.embedding.methods import FIRST, embed
from cytolens.embedding.on_gpu import find_neighbours_on, joint_affinities_on
from cytolens.embedding.tsne import Phase, optimise
from cytolens.features.ascent import Ascent
from cytolens.features.optimisation import feature_images
from cytolens.images.sources import ArrayImages
from cytolens.numerics.neighbours import find_neighbours
from cytolens.records.cells import Cells, Preparation
from peers import networks


def timed(work: Callable[[], Any], rounds: int = 3) -> float:
    """Seconds, the median of the rounds after one that is not counted."""
    seconds: list[float] = []
    for _ in range(rounds + 1):
        torch.cuda.synchronize()
        started = time.perf_counter()
        work()
        torch.cuda.synchronize()
        seconds.append(time.perf_counter() - started)
    return statistics.median(seconds[1:])


def row(*entries: object) -> None:
    print("| " + " | ".join(map(str, entries)) + " |", flush=True)


def limit(device: str) -> None:
    n = 8192
    for name, dtype, tf32 in (
        ("float32", torch.float32, False),
        ("TF32", torch.float32, True),
        ("bfloat16", torch.bfloat16, True),
    ):
        torch.backends.cuda.matmul.allow_tf32 = tf32
        a = torch.randn(n, n, device=device, dtype=dtype)
        took = timed(partial(torch.matmul, a, a))
        row("matrix product", name, f"{2e-12 * n**3 / took:.0f} TFLOP/s")
    torch.backends.cuda.matmul.allow_tf32 = False
    large = torch.empty(2**31, dtype=torch.uint8, device=device)
    row("copy on the card", "", f"{2 * 2**31 / timed(large.clone) / 1e12:.2f} TB/s")
    host = torch.empty(2**30, dtype=torch.uint8).pin_memory()
    row("copy to the card", "pinned", f"{2**30 / timed(lambda: host.to(device)) / 1e9:.1f} GB/s")


def reference(side: int, width: int = 8) -> nn.Module:
    return build_network((1, side, side), 2, width=width).eval()


def cells_of(crops: np.ndarray) -> Cells:
    """Cells whose prepared crops (N, C, H, W) lie in memory."""
    n, _, height, width = crops.shape
    preparation = Preparation((height, width), "none", (0.0,), (1.0,), (0.0,), "float32")
    sizes = np.tile((height, width), (n, 1))
    labels, names = np.arange(n) % 2, np.arange(n).astype(str)
    source = ArrayImages(crops, sizes, preparation)
    return Cells(source, labels, ("a", "b"), ("DNA",), names, preparation, sizes)


def extraction(device: str) -> None:
    row("network", "crops", "batches", "cells/s", "bare, on the card", "the same in bfloat16")
    for name, side, n, model in (
        ("reference network", 48, 200_000, reference(48)),
        ("reference network, four times as wide", 48, 200_000, reference(48, 32)),
        ("ResNet-18", 224, 16_384, networks.resnet().eval()),
    ):
        data = np.random.default_rng(0).random((4096, 1, side, side), np.float32)
        cells = cells_of(np.tile(data, (n // 4096, 1, 1, 1)))
        for batch in (256, 2048):
            took = timed(partial(extract, model, cells, batch_size=batch, device=device), 1)
            block = torch.from_numpy(data[:batch]).to(device)
            bare, half = bare_loop(model.to(device), block)
            model.to("cpu")
            entries = (f"{count:,.0f}" for count in (len(cells) / took, bare, half))
            row(name, f"{side} px", batch, *entries)


def bare_loop(model: nn.Module, block: torch.Tensor, passes: int = 20) -> tuple[float, float]:
    """Crops/s of forward passes of one block: float32, and bfloat16 with channels last."""

    def work() -> None:
        for _ in range(passes):
            model(block)

    with torch.inference_mode():
        plain = timed(work)
        model.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
        with torch.autocast("cuda", torch.bfloat16):
            half = timed(work)
    return passes * len(block) / plain, passes * len(block) / half


def images(device: str) -> None:
    for name, model, side, layer, count in (
        ("VGG-like, 64 channels of conv4", networks.vgg(), 48, "conv4", 64),
        ("ResNet-18, 256 channels of stage 3", networks.resnet(), 224, "stage3_0.second", 256),
    ):
        network = model.eval()
        for where, steps in ((device, 128), ("cpu", 8)):
            make = partial(
                feature_images, network, layer=layer, channels=list(range(count)),
                input_shape=(1, side, side), ascent=Ascent(steps=steps), rng=0, device=where,
            )  # fmt: skip
            took = timed(make, 1)
            row(name, where, f"{1e3 * took / steps:.1f} ms a step", f"{steps} steps: {took:.1f} s")
        row(name, "whole network there and back", f"{1e3 * bare_step(network, side, count):.1f} ms")


def bare_step(network: nn.Module, side: int, count: int) -> float:
    """Seconds of one forward and backward pass of so many images through the whole network."""
    placed = network.to("cuda")
    block = torch.rand(count, 1, side, side, device="cuda", requires_grad=True)
    took = timed(lambda: torch.autograd.grad(placed(block).sum(), block))
    network.to("cpu")
    return took


def clouds(n: int, d: int = 128) -> np.ndarray:
    draw = np.random.default_rng(0)
    centres = draw.normal(size=(64, d)) * 2
    return (centres[draw.integers(0, 64, n)] + draw.normal(size=(n, d))).astype(np.float32)


def maps(device: str, n: int) -> None:
    features = clouds(n)
    started = time.perf_counter()
    found = find_neighbours_on(features, 90, device)
    row("neighbours, exact", device, f"{time.perf_counter() - started:.1f} s")
    started = time.perf_counter()
    joint = joint_affinities_on(found, 30, device)
    torch.cuda.synchronize()
    row("affinities", device, f"{time.perf_counter() - started:.1f} s")
    start = 1e-4 * features[:, :2] / features[:, :2].std()
    started = time.perf_counter()
    places, divergence = optimise(joint, start, [Phase(*one) for one in FIRST], device=device)
    row("750 iterations", device, f"{time.perf_counter() - started:.1f} s, KL {divergence:.2f}")
    asked = np.random.default_rng(1).choice(n, 2000, replace=False)
    near = find_neighbours(places, 10, asked=asked).indices
    kept = [len(set(a) & set(b)) for a, b in zip(near.tolist(), found.indices[asked, :10].tolist())]
    row("recall@10", "", f"{np.mean(kept) / 10:.3f}")
    started = time.perf_counter()
    made = embed(features, landmarks=n, device=device, rng=0)
    row("all of it: `embed`", device, f"{time.perf_counter() - started:.1f} s, {made.quality}")


def study(device: str) -> None:
    from cytolens.simulation.simulate import simulate

    with tempfile.TemporaryDirectory() as folder:
        made = simulate(2000, size=48, rng=0)
        np.savez(Path(folder) / "cells.npz", images=made.images, labels=made.labels)
        for where in (device, "cpu"):
            started = time.perf_counter()
            words = ["run", f"{folder}/cells.npz", "--out", f"{folder}/{where}", "--device", where]
            done = subprocess.run(
                [sys.executable, "-m", "cytolens", *words], capture_output=True, text=True
            )
            row("study of 2,000 cells, once", where, f"{time.perf_counter() - started:.0f} s")
            print("\n".join(done.stderr.replace("\r", "\n").splitlines()[-45:]), flush=True)


def main() -> None:
    parts = ("limit", "extract", "images", "map", "study")
    parser = argparse.ArgumentParser()
    parser.add_argument("--cells", type=int, default=1_000_000)
    parser.add_argument("--only", nargs="+", choices=parts, default=parts)
    given = parser.parse_args()
    name = torch.cuda.get_device_name() if torch.cuda.is_available() else "no GPU"
    print(f"{name}, PyTorch {torch.__version__}\n", flush=True)
    if "limit" in given.only:
        limit("cuda")
    if "extract" in given.only:
        extraction("cuda")
    if "images" in given.only:
        images("cuda")
    if "map" in given.only:
        maps("cuda", given.cells)
    if "study" in given.only:
        study("cuda")


if __name__ == "__main__":
    main()
