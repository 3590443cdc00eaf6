"""What contrast pairs tell: questions answered by each display, and planted twins recovered.

python benchmarks/contrast_pairs.py RUN [RUN …] [--twins granule rim …] [--out benchmarks/results]

For finished runs: real pairs of classes and of four channels a layer, with components tempered by
several powers of their s.d. (the library's is 0.75), against the cells that drive a target most.
For twins: networks trained to tell cells with a planted feature from the same cells without it; the
plant is edited away, and the edit is compared with the twin, which is the truth, and shown to two
judges of other seeds and halves. CPU seconds, one thread.
"""

import argparse
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy import ndimage

from cytolens.classifier.training import TrainingSettings, train
from cytolens.features.contrast.axis import TEMPERING
from cytolens.features.contrast.editing import Filling, fill_in, sparse_edits
from cytolens.features.contrast.judging import read_target, train_judges
from cytolens.features.contrast.matching import clearest_pairs, goals_of
from cytolens.features.contrast.pairs import SHOWN
from cytolens.features.contrast.questions import ask
from cytolens.features.contrast.subject import prepare_subject
from cytolens.features.contrast.targets import channel_target, class_targets
from cytolens.features.decision import logits_of
from cytolens.features.priors import fit_prior
from cytolens.images.preparation import prepared_background
from cytolens.simulation.simulate import Plant
from cytolens.study.finished_run import open_run
from cytolens.study.stages.classifier import layers_with_channels
from cytolens.validation.planting import plant_pairs

POWERS = (1.0, 0.75, 0.5, 0.25, 0.0)
CHANNELS = 4  # of each layer
CELLS = 24  # planted cells that are edited, at most
Rows = list[str]


def questions(path: Path) -> Rows:
    """Share of questions answered by each display, mean over targets, in each representation."""
    run = open_run(path)
    cells, split, layers, model = run.cells, run["split"], run.layers, run["network"]
    paper = prepared_background(cells.preparation)
    prior = fit_prior(cells.subset(split.train), background=paper, n_cells=1000, rng=0)
    properties: dict[str, Any] = {}
    for name, values in run["properties"].values.items():
        properties[name] = np.full(len(cells), np.nan)
        properties[name][run["properties"].cells] = values
    shown = layers_with_channels(layers)
    subject = prepare_subject(
        model, [*shown, layers[-1]], cells,
        prior=prior, known=split.train[prior.rows],
        held_out=np.sort(np.concatenate([split.validation, split.test])),
        properties=properties, rng=0,
    )  # fmt: skip
    targets = list(class_targets(layers[-1], model.class_names))
    for layer in shown:
        chosen = run["ranking"][layer.name].representatives[:CHANNELS]
        targets += [channel_target(layer, int(channel)) for channel in chosen]
    share: dict[tuple[str, str], list[float]] = defaultdict(list)
    deviations = 1 / np.linalg.norm(subject.space.axes, axis=0) ** (1 / TEMPERING)
    plain = subject.space.known * deviations**TEMPERING  # components as they are
    for target in targets:
        known, asked = subject.scores(target)
        found = ask(subject.near, asked, None)
        slope = subject.axes.slope(known) / deviations**TEMPERING  # of the plain components
        order = np.argsort(-known, kind="stable")
        best, worst = order[:SHOWN], order[::-1][:SHOWN]
        pairs = {}
        for power in POWERS:
            scaled = plain / deviations**power
            less, more, _ = clearest_pairs(
                scaled, known, slope * deviations**power, most=SHOWN, rng=np.random.default_rng(0)
            )
            pairs[f"pairs, power {power}"] = (less, more)
        for name, points in subject.known_as.items():
            mean = points.mean(0)
            ways = {key: points[m].mean(0) - points[le].mean(0) for key, (le, m) in pairs.items()}
            ways |= {
                "nine most active": points[best].mean(0) - mean,
                "nine most and least": points[best].mean(0) - points[worst].mean(0),
                "most active": points[best[0]] - mean,
                "regression": subject.axes_as[name].slope(known),
            }
            for key, way in ways.items():
                share[key, name].append(found.answered(subject.asked_as[name], way, rng=0).value)
    names = list(subject.known_as)
    keys = list(dict.fromkeys(key for key, _ in share))
    return [
        f"\n**{path.name}**, {len(targets)} targets, {len(subject.asked)} held-out cells\n",
        "| display | " + " | ".join(names) + " |",
        "|---|" + "---|" * len(names),
        *(
            f"| {key} | "
            + " | ".join(f"{np.nanmean(share[key, name]):.3f}" for name in names)
            + " |"
            for key in keys
        ),
    ]


def twins(kind: str, seed: int, n: int) -> Rows:
    """How well edits towards less find the twin without the plant."""
    pairs = plant_pairs(n, Plant(kind=kind), rng=seed)
    cells, split = pairs.cells, pairs.split
    settings = TrainingSettings(epochs=30, patience=30)
    network = train(cells, split=split, settings=settings, rng=seed).model.network
    prior = fit_prior(cells.subset(split.train), n_cells=1000, rng=seed)
    asked = np.sort(split.test)
    judges = train_judges(cells, split, known=prior.crops, held_out=asked, epochs=30, seed=seed)

    def margin(crops: Any) -> Any:
        found = logits_of(network, crops).astype(np.float64)
        return found[:, 1] - found[:, 0]

    def differentiable(images: torch.Tensor) -> torch.Tensor:
        found = network(images)
        return found[:, 1] - found[:, 0]

    known, scores = margin(prior.crops), margin(cells.read(asked))
    readings = [read_target(judge, asked, known, scores) for judge in judges]
    planted = pairs.planted()
    start, twin = cells.read(planted), cells.read(pairs.plain_of(planted))
    used = (margin(start) > 0) & (margin(twin) < 0)
    planted, start, twin = planted[used][:CELLS], start[used][:CELLS], twin[used][:CELLS]
    goals = np.maximum(goals_of(known)[0], margin(twin))  # no further than the truth
    everywhere = np.ones((len(start), *start.shape[2:]), bool)
    spent = time.process_time()
    sparse = sparse_edits(
        differentiable, start, goals,
        measured=everywhere, deviation=float(known.std()), value_range=prior.value_range, seed=seed,
    )  # fmt: skip
    filling = Filling(prior, rng=np.random.default_rng(seed))
    filled = fill_in(margin, start, [float(np.median(goals))], filling, measured=everywhere)[0]
    spent = time.process_time() - spent
    change = twin - start
    near = np.stack(
        [ndimage.binary_dilation(m, iterations=2) for m in pairs.of(planted, pairs.masks)]
    )
    rows: Rows = []
    for name, made in (("sparse", sparse), ("filled in", filled)):
        edit = made - start
        axes = (1, 2, 3)
        cosine = (edit * change).sum(axes) / np.sqrt(
            (edit**2).sum(axes) * (change**2).sum(axes) + 1e-12
        )
        size = np.abs(edit).sum(axes) / np.abs(change).sum(axes)
        inside = (np.abs(edit) * near[:, None]).sum(axes) / np.maximum(np.abs(edit).sum(axes), 1e-9)
        truth = [reading(twin) - reading(start) for reading in readings]
        seen = [reading(made) - reading(start) for reading in readings]
        own = (margin(made) - margin(start)) / (margin(twin) - margin(start))
        transfer = [np.median(s / t) for s, t in zip(seen, truth, strict=True)]
        rows.append(
            f"| {kind} | {seed} | {name} | {len(start)} | {np.median(cosine):.2f} | "
            f"{np.median(inside):.2f} | {np.median(size):.2f} | {np.median(own):.2f} | "
            + " / ".join(f"{t:.2f}" for t in transfer)
            + f" | {spent:.0f} |"
        )
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("runs", nargs="*", type=Path)
    parser.add_argument("--twins", nargs="*", default=[])
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--cells", type=int, default=800)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"))
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    lines = [
        "# Contrast pairs",
        "",
        "`python benchmarks/contrast_pairs.py`, 2 virtual cores (AMD EPYC), one thread.",
    ]
    if arguments.runs:
        lines += ["", "## Questions answered (chance 0.5)"]
    for path in arguments.runs:
        lines += questions(path)
    if arguments.twins:
        lines += [
            "", "## Planted features edited away",
            "", "Against the twin without them, the truth; medians over cells. Own network and "
            "judges: of the effect that the truth has on them.",
            "", "| plant | seed | way | cells | cosine | inside the plant | L1 | own network | "
            "judges | CPU s, both ways |",
            "|---|---|---|---|---|---|---|---|---|---|",
        ]  # fmt: skip
    for kind in arguments.twins:
        for seed in range(arguments.seeds):
            lines += twins(kind, seed, arguments.cells)
    text = "\n".join(lines) + "\n"
    arguments.out.mkdir(parents=True, exist_ok=True)
    (arguments.out / "contrast_pairs.md").write_text(text)
    print(text)


if __name__ == "__main__":
    main()
