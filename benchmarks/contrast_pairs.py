"""What contrast pairs tell: questions answered by each display.

python benchmarks/contrast_pairs.py RUN [RUN …] [--out benchmarks/results]

For finished runs: real pairs of classes and of four channels a layer, with components tempered by
several powers of their s.d. (the library's is 0.75), against the cells that drive a target most.
Edits of planted cells are measured by planted_twins.py.
"""

import argparse
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import torch

from cytolens.features.contrast.axis import TEMPERING
from cytolens.features.contrast.matching import clearest_pairs
from cytolens.features.contrast.pairs import SHOWN, make_pairs
from cytolens.features.contrast.questions import ask
from cytolens.features.contrast.subject import prepare_subject
from cytolens.features.contrast.targets import channel_target, class_targets
from cytolens.features.priors import fit_prior
from cytolens.images.preparation import prepared_background
from cytolens.study.finished_run import open_run
from cytolens.study.stages.classifier import layers_with_channels

POWERS = (1.0, 0.75, 0.5, 0.25, 0.0)
CHANNELS = 4  # of each layer
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
    made = make_pairs(subject, targets)
    controls = {name: made.control(name).value for name in made.pairs[0].controls}
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
        *(
            f"| pairs of a control: {name.replace('_', ' ')} | {value:.3f} | |"
            for name, value in controls.items()
        ),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("runs", nargs="+", type=Path)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"))
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    lines = [
        "# Contrast pairs",
        "",
        "`python benchmarks/contrast_pairs.py`, 2 virtual cores (AMD EPYC), one thread. Share of "
        "the questions answered; chance is 0.5.",
    ]
    for path in arguments.runs:
        lines += questions(path)
    text = "\n".join(lines) + "\n"
    arguments.out.mkdir(parents=True, exist_ok=True)
    (arguments.out / "contrast_pairs.md").write_text(text)
    print(text)


if __name__ == "__main__":
    main()
