"""Which prior makes feature images that tell which held-out cells drive a channel, if any does.

python benchmarks/predictivity.py [--data ../shared/data] [--only jurkat] [--out benchmarks/results]

Three data sets (Jurkat G2/Prophase DNA, T cells, simulated cells), the reference network trained
on each, at most ``--channels`` channels of each depth. For every layer: mean predictivity of one
image per channel under each prior; of what images of the default prior have to outdo (the cell
that each started from, the same ascent without the network, another channel from the same start,
the channels rotated, the images of the other channels together); of natural cells (the best, the
nine best, the top decile together). Natural cells come from the training cells, predictivity is
measured on the held-out ones, in two representations: random filters and scattering. Writes a
table and a contact sheet per data set.
"""

import argparse
import os
import time
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
from cytolens.features.controls import make_controls
from cytolens.features.faithfulness import prepare_yardstick
from cytolens.features.optimisation import feature_images
from cytolens.features.predictivity import draw_held_out, judge
from cytolens.features.priors import PRIORS, fit_prior
from cytolens.images.arrays import cells_from_arrays
from cytolens.images.reading import read_cells
from cytolens.records.cells import Cells, Split
from cytolens.records.features import FeatureImages
from cytolens.simulation.simulate import simulate

Points = NDArray[np.float32]
COMPARED = (
    "start_cell", "hold_only", "wrong_channel", "rotation", "others", "own_best",
    "best_cell", "nine_best_cells", "driving_cells", "random_cell",
)  # fmt: skip


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


def study(name: str, arguments: argparse.Namespace) -> list[str]:
    started, used = time.monotonic(), time.process_time()
    cells = read(name, arguments.data)
    split = split_cells(cells, rng=0)
    network = network_for(name, cells, split, arguments.cache)
    held_out = cells.read(np.sort(np.concatenate([split.validation, split.test])))
    prior = fit_prior(cells.subset(split.train), n_cells=1000, rng=0)
    layers = [la for la in find_layers(network, cells.shape) if la.kind in ("conv", "linear")][:-1]
    layers = [la for la in layers if not arguments.layers or la.name in arguments.layers]
    yardstick = prepare_yardstick(network, layers, prior=prior, held_out=held_out)
    ready = time.process_time() - used
    lines: list[str] = []
    rng = np.random.default_rng(0)
    seconds = dict.fromkeys((*PRIORS, "controls"), 0.0)
    sheet: list[tuple[str, Points]] = []
    for layer in layers:
        score, outside = (a.score[layer.name] for a in (yardstick.made_from, yardstick.held_out))
        lively = np.flatnonzero(score.std(0) > 1e-6 * np.abs(score).max())
        chosen = np.sort(rng.permutation(lively)[: arguments.channels])
        options: dict[str, Any] = {
            "layer": layer.name,
            "input_shape": cells.shape,
            "channels": chosen.tolist(),
        }
        made: dict[str, FeatureImages] = {}
        for kind in PRIORS:
            before = time.process_time()
            made[kind] = feature_images(network, prior=prior.named(kind), rng=0, **options)
            seconds[kind] += time.process_time() - before
        before = time.process_time()
        controls = make_controls(
            network, made["cells"], score,
            prior=prior, input_shape=cells.shape, count=len(chosen), rng=0,
        )  # fmt: skip
        seconds["controls"] += time.process_time() - before
        sheet += [(f"{layer.name}: {kind}", made[kind].images[:8]) for kind in PRIORS]
        held = draw_held_out(outside, None, rng)
        random = rng.integers(len(score), size=len(chosen))
        for space, known in yardstick.spaces.items():
            found = {
                kind: judge(
                    known, images, score[:, chosen], held,
                    unconstrained=None, controls=controls if kind == "cells" else None,
                    random=random, rng=rng,
                )
                for kind, images in made.items()
            }  # fmt: skip
            best = found["cells"].estimates
            ahead = best["above_start"]
            values = [
                *(found[kind].estimates["predictivity"].value for kind in PRIORS),
                *(best[control].value if control in best else np.nan for control in COMPARED),
                ahead.value,
            ]
            numbers = " | ".join(f"{value:.3f}" for value in values)
            lines.append(
                f"| {name} | {layer.name} | {len(chosen)} | {space} | {numbers} "
                f"| {ahead.low:.3f}…{ahead.high:.3f} | {int(found['cells'].ahead.sum())} |"
            )
            print(lines[-1], flush=True)
    _draw(sheet, prior.value_range, arguments.out / f"priors_{name}.png")
    parts = ", ".join(f"{kind} {value:.0f}" for kind, value in seconds.items())
    print(
        f"{name}: {len(cells)} cells, {len(held_out)} held out; prior and yardstick {ready:.0f} "
        f"CPU s; CPU s by prior: {parts}; {time.monotonic() - started:.0f} s in all",
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
    parser.add_argument("--channels", type=int, default=16, help="of a layer, drawn at random")
    arguments = parser.parse_args()
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "2")))
    columns = " | ".join((*PRIORS, *(name.replace("_", " ") for name in COMPARED)))
    head = f"| data | layer | channels | compared by | {columns} | image - start | 95 % | predict |"
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
