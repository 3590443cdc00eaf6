"""Which prior makes feature images that tell which held-out cells drive a channel.

python benchmarks/predictivity.py [--data ../shared/data] [--only jurkat] [--out benchmarks/results]

Three data sets (Jurkat G2/Prophase DNA, T cells, simulated cells), the reference network trained
on each, all channels at all depths. For every layer: mean predictivity of one image per channel
under each prior, of the best and the nine best natural cells, of the mean of the top decile of
cells (about the ceiling), of a random cell; of nine diverse images together. Natural cells come
from the training cells, predictivity is measured on the held-out ones. The comparing
representation is that of the library (random filters); `wavelets` repeats it with one of another
kind, rotation-averaged scattering coefficients, so that it can be seen whether the ranking hangs
on the choice. Writes a table and a contact sheet per data set.
"""

import argparse
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_model, save_model

from cytolens.activations.layers import find_layers
from cytolens.classifier.networks import build_network
from cytolens.classifier.splitting import split_cells
from cytolens.classifier.training import train
from cytolens.features.ascent import Ascent
from cytolens.features.comparison import measure_predictivity
from cytolens.features.faithfulness import prepare_yardstick
from cytolens.features.optimisation import feature_images
from cytolens.features.priors import PRIORS, fit_prior
from cytolens.images.arrays import cells_from_arrays
from cytolens.images.reading import read_cells
from cytolens.records.cells import Cells, Split
from cytolens.simulation.simulate import simulate

Points = NDArray[np.float32]


def read(name: str, data: Path) -> Cells:
    if name == "jurkat":
        return read_cells(
            data / "jurkat_ifc_cellcycle" / "jurkat_ifc.npz",
            classes=["G2", "Prophase"],
            channels=["DNA"],
            intensity="image",
        )
    if name == "tcells":
        return read_cells(data / "tcell_autofluorescence" / "images")
    made = simulate(2000, rng=0)
    return cells_from_arrays(made.images, made.labels, class_names=made.class_names)


def network_for(name: str, cells: Cells, split: Split, cache: Path) -> torch.nn.Module:
    network = build_network(cells.shape, len(cells.class_names), seed=0)
    path = cache / f"{name}.safetensors"
    if path.exists():
        load_model(network, path)
        return network.eval()
    network = train(cells, split=split, rng=0).model.network
    cache.mkdir(parents=True, exist_ok=True)
    save_model(network, str(path))
    return network.eval()


def wavelets(images: Points, batch: int = 32) -> Points:
    """Scattering coefficients of two orders, means over positions and rotations (Bruna 2013)."""
    rows: list[Points] = []
    for start in range(0, len(images), batch):
        x = torch.from_numpy(images[start : start + batch]).flatten(0, 1)
        found = torch.stack(list(_scatter(x)), 1)
        rows.append(found.view(-1, images.shape[1] * found.shape[1]).numpy())
    return np.concatenate(rows)


def _scatter(x: torch.Tensor, turns: int = 6) -> Iterator[torch.Tensor]:
    side = x.shape[-1]
    scales = int(np.log2(side)) - 1
    down, across = torch.fft.fftfreq(side)[:, None], torch.fft.fftfreq(side)[None]
    filters: list[torch.Tensor] = []
    for j in range(scales):
        centre, width = 0.375 / 2**j, 0.11 / 2**j
        turned: list[torch.Tensor] = []
        for turn in range(turns):
            c, s = np.cos(np.pi * turn / turns), np.sin(np.pi * turn / turns)
            u, v = across * c + down * s, down * c - across * s
            turned.append(torch.exp(-((u - centre) ** 2 + 0.6 * v**2) / (2 * width**2)))
        filters.append(torch.stack(turned))
    yield x.mean((1, 2))
    yield x.flatten(1).std(1)
    spectrum = torch.fft.fft2(x)[:, None]
    for j in range(scales):
        first = torch.fft.ifft2(spectrum * filters[j]).abs()  # (n, turns, side, side)
        yield first.mean((1, 2, 3))
        yield first.square().mean((1, 2, 3)).sqrt()
        yield first.mean((2, 3)).std(1)
        transformed = torch.fft.fft2(first)
        for k in range(j + 1, scales):
            for between in range(turns // 2 + 1):
                bank = filters[k].roll(-between, 0)
                yield torch.fft.ifft2(transformed * bank).abs().mean((1, 2, 3))


def study(name: str, arguments: argparse.Namespace) -> list[str]:
    started, used = time.monotonic(), time.process_time()
    cells = read(name, arguments.data)
    split = split_cells(cells, rng=0)
    network = network_for(name, cells, split, arguments.cache)
    held_out = cells.read(np.sort(np.concatenate([split.validation, split.test])))
    prior = fit_prior(cells.subset(split.train), rng=0)
    fitted = time.process_time() - used
    layers = [la for la in find_layers(network, cells.shape) if la.kind in ("conv", "linear")][:-1]
    layers = [la for la in layers if not arguments.layers or la.name in arguments.layers]
    yardstick = prepare_yardstick(network, layers, prior=prior, held_out=held_out)
    spaces: dict[str, tuple[Callable[[Points], Points], Points, Points]] = {
        "library": (yardstick.comparison, yardstick.points, yardstick.held_out_points)
    }
    if arguments.wavelets:
        known = wavelets(prior.crops)
        mean, deviation = known.mean(0), known.std(0) + 1e-9

        def by_wavelets(images: Points) -> Points:
            return (wavelets(images) - mean) / deviation

        spaces["wavelets"] = (by_wavelets, (known - mean) / deviation, by_wavelets(held_out))
    columns = ["top decile", "nine cells", "nine images", "best cell", "random cell", *PRIORS]
    lines: list[str] = []
    rng = np.random.default_rng(0)
    seconds = dict.fromkeys(PRIORS, 0.0)
    ratio = float("nan")
    sheet: list[tuple[str, Points]] = []
    made_all: dict[str, dict[str, list[float]]] = {space: {} for space in spaces}
    for layer in layers:
        score, outside = (a.score[layer.name] for a in (yardstick.made_from, yardstick.held_out))
        lively = np.flatnonzero(score.std(0) > 1e-6 * np.abs(score).max())
        options: dict[str, Any] = {
            "layer": layer.name,
            "input_shape": cells.shape,
            "channels": lively.tolist(),
        }
        order = np.argsort(-score[:, lively], axis=0, kind="stable")
        images: dict[str, Points] = {}
        for kind in PRIORS:
            before = time.process_time()
            made = feature_images(network, prior=prior.named(kind), rng=0, **options)
            seconds[kind] += time.process_time() - before
            images[kind] = made.images
            if kind == "cells":
                ratio = float(
                    np.median(made.activation / np.maximum(score[:, lively].max(0), 1e-9))
                )
        nine = feature_images(
            network, prior=prior, ascent=Ascent(variants=9), rng=0, **options
        ).images
        shown = min(8, len(lively))
        sheet += [(f"{layer.name}: {kind}", images[kind][:shown]) for kind in PRIORS]
        for space, (compare, known, outer) in spaces.items():
            tenth = len(known) // 10
            points = {
                "top decile": known[order[:tenth]].mean(0),
                "nine cells": known[order[:9]].mean(0),
                "nine images": compare(nine).reshape(len(lively), 9, -1).mean(1),
                "best cell": known[order[0]],
                "random cell": known[rng.integers(len(known), size=len(lively))],
                **{kind: compare(images[kind]) for kind in PRIORS},
            }
            values: list[float] = []
            for column in columns:
                each = [
                    measure_predictivity(points[column][i], outer, outside[:, channel])[0]
                    for i, channel in enumerate(lively)
                ]
                values.append(float(np.nanmean(each)))
                made_all[space].setdefault(column, []).append(values[-1])
            numbers = " | ".join(f"{value:.3f}" for value in values)
            lines.append(f"| {name} | {layer.name} | {len(lively)} | {space} | {numbers} "
                         f"| {ratio:.2f} |")  # fmt: skip
            print(lines[-1], flush=True)
    _draw(sheet, prior.value_range, arguments.out / f"priors_{name}.png")
    parts = ", ".join(f"{kind} {value:.0f}" for kind, value in seconds.items())
    print(
        f"{name}: {len(cells)} cells, {len(held_out)} held out; prior {fitted:.0f} CPU s; images of"
        f" all channels, CPU s by prior: {parts}; {time.monotonic() - started:.0f} s in all",
        flush=True,
    )
    return lines


def _draw(rows: list[tuple[str, Points]], limits: NDArray[np.float64], path: Path) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.4, 0.86 * len(rows)))
    axes = figure.subplots(len(rows), 8, squeeze=False)
    for line, (title, images) in zip(axes, rows):
        for axis, image in zip(line, [*images, *[None] * 8]):
            axis.axis("off")
            if image is not None:
                axis.imshow(image[0], cmap="gray", vmin=limits[0, 0], vmax=limits[0, 1])
        line[0].set_title(title, fontsize=7, loc="left", pad=2)
    figure.subplots_adjust(0, 0, 1, 0.99, 0.03, 0.22)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=90)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    here = Path(__file__).parent
    parser.add_argument("--data", type=Path, default=here.parents[1] / "shared" / "data")
    parser.add_argument("--only", choices=["jurkat", "tcells", "simulated"])
    parser.add_argument("--out", type=Path, default=here / "results")
    parser.add_argument("--cache", type=Path, default=Path("/tmp/cytolens-predictivity"))
    parser.add_argument("--layers", nargs="*", default=[], help="only these layers")
    parser.add_argument("--wavelets", action="store_true", help="also by a second representation")
    arguments = parser.parse_args()
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "2")))
    columns = "top decile | nine cells | nine images | best cell | random cell | "
    head = f"| data | layer | channels | compared by | {columns}{' | '.join(PRIORS)} | ratio |"
    rule = "|" + "---|" * (head.count("|") - 1)
    lines = [head, rule]
    print(head)
    for name in [arguments.only] if arguments.only else ["jurkat", "tcells", "simulated"]:
        lines += study(name, arguments)
        (arguments.out / f"predictivity{'_' + name if arguments.only else ''}.md").write_text(
            "\n".join(lines) + "\n"
        )


if __name__ == "__main__":
    main()
