"""Do edits of cells find the twin without a planted feature, and is what was planted named first?

python benchmarks/planted_twins.py [--seeds 3] [--networks 1] [--cells 500] [--work FOLDER]

Four kinds of plants at three contrasts. Each case: cells with the plant and the same cells without
it, networks trained to distinguish them, two judges of other seeds and halves. Planted held-out
cells are edited until the network sees no more of the plant than in the twin, which is the truth;
the first judge chooses between the two ways. In real pairs of training cells, of which no twins are
among one another, measured properties are named; the truth is the property that the plant shifts
most in the twins. One row a case and network is written to cases.jsonl in ``--work`` as it is
found, and what is there is not measured again. CPU seconds, one thread.
"""

import argparse
import json
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy import ndimage

from cytolens.activations.layers import find_layers
from cytolens.classifier.training import TrainingSettings, train
from cytolens.features.contrast.editing import Filling, fill_in, sparse_edits
from cytolens.features.contrast.judging import Judge, read_target, train_judges
from cytolens.features.contrast.matching import goals_of
from cytolens.features.contrast.pairs import make_pairs
from cytolens.features.contrast.subject import Subject, prepare_subject
from cytolens.features.contrast.targets import class_targets
from cytolens.features.decision import logits_of
from cytolens.features.priors import fit_prior
from cytolens.images.preparation import prepared_background
from cytolens.numerics.estimates import bootstrap
from cytolens.properties.measurement import measure_cells
from cytolens.simulation.simulate import Plant
from cytolens.validation.planting import Pairs, plant_pairs
from cytolens.validation.suite import KINDS

CONTRASTS = (1.0, 0.7, 0.5)  # of the plant's usual contrast
EDITED = 12  # planted cells, at most
FEWEST = 5  # edited cells, below which nothing is said of edits
WAYS = ("sparse", "filled in")
Row = dict[str, Any]


def case(kind: str, contrast: float, seed: int, *, n: int, networks: int, epochs: int) -> list[Row]:
    """What came out for each network of one case."""
    plain = Plant(kind=kind)
    pairs = plant_pairs(n, replace(plain, contrast=contrast * plain.peak), rng=seed)
    cells, split = pairs.cells, pairs.split
    draw = np.random.default_rng([seed, 7])
    once = split.train % n + n * draw.integers(0, 2, n)[split.train % n]  # of twins, one
    once = np.unique(once)
    paper = prepared_background(cells.preparation)
    prior = fit_prior(cells.subset(once), background=paper, n_cells=1000, rng=seed)
    known, asked = once[prior.rows], np.sort(np.concatenate([split.validation, split.test]))
    measured = measure_cells(cells)[0]
    truth = true_shifts(pairs, measured)
    judges: tuple[Judge, ...] = ()
    rows: list[Row] = []
    for number in range(networks):
        spent = time.process_time()
        model = train(
            cells,
            split=split,
            settings=TrainingSettings(epochs=epochs, patience=epochs),
            rng=seed + 50 * number,
        ).model
        layers = find_layers(model.network, model.input_shape)
        target = class_targets(layers[-1], model.class_names)[0]
        subject = prepare_subject(
            model, layers[-1:], cells,
            prior=prior, known=known, held_out=asked, properties=measured, rng=seed,
        )  # fmt: skip
        judges = judges or train_judges(
            cells, split, known=prior.crops, held_out=subject.asked, epochs=epochs, seed=seed
        )
        found = make_pairs(subject, [target], judges=judges, test=split.test, seed=seed).pairs[0]
        row: Row = {"kind": kind, "contrast": contrast, "seed": seed, "network": number}
        row["truth"] = sorted(truth.items(), key=lambda item: -abs(item[1]))
        row["shifts"] = [[s.name, s.natural.value, s.named] for s in found.shifts]
        row["edits"] = None if found.edits is None else found.edits.accepted.sum(0).tolist()
        row |= twins(pairs, model.network, subject, judges, seed)
        row["cpu_s"] = time.process_time() - spent
        rows.append(row)
    return rows


def true_shifts(pairs: Pairs, measured: dict[str, Any]) -> dict[str, float]:
    """What the plant does to each property, in s.d. of all cells: mean over held-out twins."""
    planted = pairs.planted()
    found: dict[str, float] = {}
    for name, values in measured.items():
        deviation = float(np.nanstd(values))
        if deviation > 1e-9:
            step = values[planted] - values[pairs.plain_of(planted)]
            found[name] = float(np.nanmean(step)) / deviation
    return found


def twins(pairs: Pairs, network: torch.nn.Module, subject: Subject, judges: Any, seed: int) -> Row:
    """How well edits towards less find the twin without the plant; medians over cells."""
    cells, prior, n = pairs.cells, subject.prior, len(pairs.masks)

    def margin(crops: Any) -> Any:
        found = logits_of(network, crops).astype(np.float64)
        return found[:, 1] - found[:, 0]

    def differentiable(images: torch.Tensor) -> torch.Tensor:
        found = network(images)
        return found[:, 1] - found[:, 0]

    known, scores = margin(prior.crops), margin(subject.crops)
    readings = [read_target(judge, subject.asked, known, scores) for judge in judges]
    planted = pairs.planted()
    start, twin = cells.read(planted), cells.read(pairs.plain_of(planted))
    right = ((margin(start) > 0).mean() + (margin(twin) < 0).mean()) / 2
    used = (margin(start) > 0) & (margin(twin) < 0)
    row: Row = {"accuracy": float(right), "used": float(used.mean()), "cells": 0}
    row["fits"] = [reading.fit for reading in readings]
    planted, start, twin = planted[used][:EDITED], start[used][:EDITED], twin[used][:EDITED]
    if len(start) < FEWEST:
        return row
    row["cells"] = len(start)
    goals = np.maximum(goals_of(known)[0], margin(twin))  # no further than the truth
    everywhere = np.ones((len(start), *start.shape[2:]), bool)
    filling = Filling(prior, rng=np.random.default_rng(seed))
    made = (
        sparse_edits(
            differentiable, start, goals,
            measured=everywhere, deviation=float(known.std()),
            value_range=prior.value_range, seed=seed,
        ),
        fill_in(margin, start, [float(np.median(goals))], filling, measured=everywhere)[0],
    )  # fmt: skip
    near = np.stack([ndimage.binary_dilation(m, iterations=2) for m in pairs.masks[planted % n]])
    row["ways"] = {
        way: _against(start, twin, crops, near, margin, readings)
        for way, crops in zip(WAYS, made, strict=True)
    }
    row["way"] = max(WAYS, key=lambda way: row["ways"][way]["chosen by"])
    return row


def _against(start: Any, twin: Any, made: Any, near: Any, margin: Any, readings: Any) -> Row:
    edit, change, axes = made - start, twin - start, (1, 2, 3)
    power = (edit**2).sum(axes) * (change**2).sum(axes)
    sizes = np.abs(edit).sum(axes)
    truth = [reading(twin) - reading(start) for reading in readings]
    seen = [reading(made) - reading(start) for reading in readings]
    shares = [s / t for s, t in zip(seen, truth, strict=True)]
    found = {
        "cosine": (edit * change).sum(axes) / np.sqrt(power + 1e-12),
        "inside": (np.abs(edit) * near[:, None]).sum(axes) / np.maximum(sizes, 1e-9),
        "L1": sizes / np.abs(change).sum(axes),
        "own": (margin(made) - margin(start)) / (margin(twin) - margin(start)),
        "chosen by": shares[0].clip(0, 1),
    }
    return {name: float(np.median(values)) for name, values in found.items()} | {
        "judges": [float(np.median(share)) for share in shares]
    }


def best_of(row: Row) -> Row | None:
    """What came out of the way that the first judge chose."""
    if "way" not in row:
        return None
    found = row["ways"][row["way"]]
    return {**found, "judge": found["judges"][-1], "least judge": min(found["judges"])}


def naming(row: Row) -> Row:
    """Whether the first property that is named is the one that the plant shifts most."""
    truth = dict(row["truth"])
    order = list(truth)
    first = next(((name, value) for name, value, named in row["shifts"] if named), None)
    if first is None:
        return {"named": None, "first": False, "of three": False, "right": False}
    name, value = first
    same = name in truth and truth[name] * value > 0
    return {
        "named": name,
        "first": same and name == order[0],
        "of three": same and name in order[:3],
        "right": same and abs(truth[name]) >= 0.3,
    }


def table(rows: list[Row], *, seconds: float) -> str:
    """The results, by plant and contrast, and over all cases."""
    lines = [
        "# Planted twins",
        "",
        "`python benchmarks/planted_twins.py`, 2 virtual cores (AMD EPYC), one thread, "
        f"{seconds / 60:.0f} CPU minutes. A case is a plant, a contrast and a seed of the cells.",
        "",
        "Medians over cells, then means over cases and networks; intervals at 95 % over cases. "
        "Cosine of the edit with the true change, share of it within 2 px of the plant, its sum of "
        "absolute values over the truth's; share of the truth's effect on the network and on the "
        "judge that had no part in choosing the way.",
        "",
        "| plant | contrast | networks | accuracy | way | cosine | inside | L1 | network | judge | "
        "named first | among three | truth |",
        "|---|---|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for kind in dict.fromkeys(row["kind"] for row in rows):
        of_kind = [row for row in rows if row["kind"] == kind]
        for contrast in sorted({row["contrast"] for row in of_kind}, reverse=True):
            some = [row for row in of_kind if row["contrast"] == contrast]
            lines.append(_line(kind, f"{contrast:g}", some))
    lines.append(_line("all", "", rows, intervals=True))
    return "\n".join(lines) + "\n"


def _line(kind: str, contrast: str, rows: list[Row], *, intervals: bool = False) -> str:
    found = [best_of(row) for row in rows]
    groups = np.array([f"{r['kind']} {r['contrast']} {r['seed']}" for r in rows])

    def mean(values: list[float]) -> str:
        array = np.array(values, dtype=np.float64)
        known = np.isfinite(array)
        if not known.any():
            return "–"
        if not intervals:
            return f"{array[known].mean():.2f}"
        some, of = array[known], groups[known]
        e = bootstrap(lambda k: float(some[k].mean()), len(some), groups=of, resamples=1000, rng=0)
        return f"{e.value:.2f} [{e.low:.2f}, {e.high:.2f}]"

    quantities = ("cosine", "inside", "L1", "own", "judge")
    numbers = [mean([np.nan if f is None else f[q] for f in found]) for q in quantities]
    named = [naming(row) for row in rows]
    ways = [row["way"] for row in rows if "way" in row]
    way = ", ".join(f"{w} {ways.count(w)}" for w in WAYS if w in ways) or "–"
    truths = [row["truth"][0][0] for row in rows]
    truth = "" if intervals else max(set(truths), key=truths.count)
    cells = [
        kind, contrast, str(len(rows)), mean([row["accuracy"] for row in rows]), way, *numbers,
        mean([n["first"] for n in named]), mean([n["of three"] for n in named]), truth,
    ]  # fmt: skip
    return "| " + " | ".join(cells) + " |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--networks", type=int, default=1)
    parser.add_argument("--cells", type=int, default=500)
    parser.add_argument("--epochs", type=int, default=16)
    parser.add_argument("--most", type=int, default=1000, help="cases, at most")
    parser.add_argument("--work", type=Path, default=Path("/tmp/planted_twins"))
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"))
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    arguments.work.mkdir(parents=True, exist_ok=True)
    kept = arguments.work / "cases.jsonl"
    rows: list[Row] = (
        [json.loads(line) for line in kept.read_text().splitlines()] if kept.exists() else []
    )
    done = {(row["kind"], row["contrast"], row["seed"]) for row in rows}
    cases = [(k, c, s) for s in range(arguments.seeds) for c in CONTRASTS for k in KINDS]
    for kind, contrast, seed in [one for one in cases if one not in done][: arguments.most]:
        found = case(
            kind, contrast, seed,
            n=arguments.cells, networks=arguments.networks, epochs=arguments.epochs,
        )  # fmt: skip
        rows += found
        with kept.open("a") as file:
            file.writelines(json.dumps(row) + "\n" for row in found)
        text = table(rows, seconds=sum(row["cpu_s"] for row in rows))
        arguments.out.mkdir(parents=True, exist_ok=True)
        (arguments.out / "planted_twins.md").write_text(text)
        print(kind, contrast, seed, [round(row["cpu_s"]) for row in found], flush=True)
    print(text)


if __name__ == "__main__":
    main()
