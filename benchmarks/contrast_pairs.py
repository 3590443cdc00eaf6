"""What contrast pairs tell: questions answered by each display.

python benchmarks/contrast_pairs.py RUN [RUN …] [--out benchmarks/results]

For finished runs: real pairs of classes and of four channels a layer, with components tempered by
several powers of their s.d. (the library's is 0.75), against the cells that drive a target most.
Where images of channels began as cells, also against that cell, the image, and the same ascent
without the network (hold only), with intervals over these channels. Edits of planted cells are
measured by planted_twins.py.
"""

import argparse
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import torch

from cytolens.classifier.model import Classifier
from cytolens.features.contrast.axis import TEMPERING
from cytolens.features.contrast.matching import clearest_pairs
from cytolens.features.contrast.pairs import SHOWN, make_pairs
from cytolens.features.contrast.questions import ask
from cytolens.features.contrast.subject import PROPERTIES, SCATTERING, Subject, prepare_subject
from cytolens.features.contrast.targets import channel_target, class_targets
from cytolens.features.controls import make_controls
from cytolens.features.priors import Prior, fit_prior
from cytolens.images.preparation import prepared_background
from cytolens.study.finished_run import FinishedRun, open_run
from cytolens.study.stages.classifier import layers_with_channels

POWERS = (1.0, 0.75, 0.5, 0.25, 0.0)
LIBRARY = f"pairs, power {TEMPERING}"
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
    from_cells = images_from_cells(run, subject, prior, model)
    share: dict[tuple[str, str], list[float]] = defaultdict(list)
    beside: dict[tuple[str, str], list[float]] = defaultdict(list)
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
            for key, point in from_cells.get((target.name, name), {}).items():
                right = found.answered(subject.asked_as[name], point - mean, rng=0).value
                beside[key, name].append(right)
            if (target.name, name) in from_cells:
                for key in (LIBRARY, "nine most active", "regression"):
                    beside[key, name].append(share[key, name][-1])
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
        *next_to_images(beside, names),
    ]


def images_from_cells(
    run: FinishedRun, subject: Subject, prior: Prior, model: Classifier
) -> dict[tuple[str, str], dict[str, np.ndarray]]:
    """By channel and representation: its start cell, its image, and hold only, as points (F,)."""
    found: dict[tuple[str, str], dict[str, np.ndarray]] = {}
    for gallery in run["features"].channels:
        if gallery.starts is None:
            continue
        images = gallery.of(
            [k for k in range(len(gallery.targets)) if not gallery.dead[k]][:CHANNELS]
        )
        known, _ = subject.answers[images.layer]
        controls = make_controls(model, images, known, prior=prior, count=CHANNELS, rng=0)
        assert images.starts is not None
        rows = np.array(
            [int(np.abs(prior.crops - s).sum((1, 2, 3)).argmin()) for s in images.starts]
        )
        pictures = {
            "start cell": images.starts, "feature image": images.images,
            "hold only": controls.hold_only,
        }  # fmt: skip
        for key, crops in pictures.items():
            points = {SCATTERING: subject.represent(crops)}
            if PROPERTIES in subject.known_as:
                moved = subject.shifts(subject.known[rows], images.starts, crops)
                way = [moved.get(p, np.zeros(len(rows))) for p in subject.properties]
                points[PROPERTIES] = subject.known_as[PROPERTIES][rows] + np.nan_to_num(
                    np.stack(way, axis=1)
                )
            for name, each in points.items():
                for channel, point in zip(images.channels, each, strict=True):
                    found.setdefault((f"{images.layer}, channel {channel}", name), {})[key] = point
    return found


def next_to_images(beside: dict[tuple[str, str], list[float]], names: list[str]) -> Rows:
    """The displays of the channels whose images began as cells, and how far pairs are ahead."""
    count = len(beside[LIBRARY, names[0]])
    if not count:
        return []
    draws = np.random.default_rng(0).integers(0, count, (2000, count))

    def cell(key: str, name: str) -> str:
        values = np.array(beside[key, name])
        ahead = np.array(beside[LIBRARY, name]) - values
        low, high = np.nanquantile(np.nanmean(ahead[draws], axis=1), (0.025, 0.975))
        text = f"{np.nanmean(values):.3f}"
        return (
            text if key == LIBRARY else f"{text}; {np.nanmean(ahead):+.3f} [{low:.3f}, {high:.3f}]"
        )

    return [
        f"\nOf the {count} channels whose images began as cells; then pairs minus the "
        "display, with 95 % intervals over channels\n",
        "| display | " + " | ".join(names) + " |",
        "|---|" + "---|" * len(names),
        *(
            f"| {key} | " + " | ".join(cell(key, name) for name in names) + " |"
            for key in (
                LIBRARY,
                "nine most active",
                "start cell",
                "hold only",
                "feature image",
                "regression",
            )
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
