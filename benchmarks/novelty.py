"""Is a class that was absent from training told from the known ones, by which score, and where not?

python benchmarks/novelty.py [--epochs 12] [--seeds 2] [--data ../shared/data] [--cells 400]
                             [--only blood …] [--cache FOLDER] [--out benchmarks/results]

Three sets of cells: blood smears (8 classes, 28 px, RGB), Jurkat cells by stage of the cell cycle
(7 classes, DNA stain; three of them rare) and simulated nuclei (6 classes, four of them by a
planted feature). Each class in turn is left out, the reference network is trained on the others,
and cells of the left-out class are judged at every depth against the training cells. Thresholds
are of the validation cells, false alarms of the test cells; no cell is in two of these parts.

Scores at one depth: `kNN`, distance to the tenth nearest training cell (Sun et al. 2022); `local`,
that distance over the neighbours' own (Schubert, Zimek & Kriegel 2014); `Mahalanobis`, distance to
the nearest class mean in the covariance within classes, shrunk (Lee et al. 2018, Ledoit & Wolf
2004); `relative`, its square less that in the covariance of all cells (Ren et al. 2021);
`by class`, Gaussian density with a covariance for each class, shrunk to the common one (Mukhoti et
al. 2023). Of the logits: `energy` (Liu et al. 2020). Over depths: `largest` or `mean`, each depth
in standard deviations of the validation cells; `ranks`, the mean log of the share of validation
cells that are farther (Fisher 1932). Sums: the largest of each measure, each in standard
deviations. `place` is the library's own rule, `flags at any depth` what it had before.

What can be had at all, `probe`: linear discriminants at each depth, fitted with the left-out class
known, on other cells (five folds), at the best depth. A case counts as separable where they find
80 % of the cells at 5 % false alarms.
"""

import argparse
import platform
import tempfile
import time
from collections.abc import Mapping, Sequence
from datetime import date
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.covariance import ledoit_wolf

from cytolens.activations.extraction import extract
from cytolens.classifier.training import TrainingSettings, train
from cytolens.embedding.novelty import (
    Novelty,
    calibrate,
    calibrate_overall,
    energy,
)
from cytolens.images.arrays import cells_from_arrays
from cytolens.images.new_cells import read_alike
from cytolens.numerics.auc import area_under_curve
from cytolens.numerics.probe import probe_features
from cytolens.numerics.resampling import deal_cells
from cytolens.numerics.ridge import held_out_fits
from cytolens.simulation.optics import Optics
from cytolens.simulation.simulate import Plant, simulate

Array = NDArray[np.float64]
RATE, ENOUGH = 0.05, 0.8
PARTS = ("validation", "test", "new")
MOST = 256  # features, beyond which principal components are taken
Sets = tuple[NDArray[np.generic], NDArray[np.str_]]
Case = dict[str, NDArray[np.float32]]  # ["layer|part"]
Scores = dict[str, Array]  # [part]


def blood(data: Path) -> Sets:
    names = [
        "basophil", "eosinophil", "erythroblast", "ig", "lymphocyte", "monocyte", "neutrophil",
        "platelet",
    ]  # fmt: skip
    with np.load(data / "pbc_wbc_rgb" / "pbc_medmnist_style_28px_rgb.npz") as held:
        images = np.concatenate([held[f"{part}_images"] for part in ("train", "val", "test")])
        labels = np.concatenate([held[f"{part}_labels"] for part in ("train", "val", "test")])
    return images, np.array(names)[labels.ravel()]


def jurkat(data: Path) -> Sets:
    with np.load(data / "jurkat_ifc_cellcycle" / "jurkat_ifc.npz") as held:
        return held["images"][..., 1:2], held["class_names"][held["labels"]].astype(str)


def nuclei(data: Path) -> Sets:
    kinds: list[tuple[str, Plant | None]] = [("lymphocyte", None), ("neutrophil", None)]
    for kind, base in (
        ("bar", "lymphocyte"), ("rim", "lymphocyte"), ("granule", "neutrophil"),
        ("texture", "neutrophil"),
    ):  # fmt: skip
        kinds.append((f"{base} with {kind}", Plant(kind, base)))
    images, labels = [], []
    for seed, (name, plant) in enumerate(kinds):
        made = simulate(
            800, size=32, difficulty=0.3, plant=plant, optics=Optics(pixel_size_um=0.5), rng=seed
        )
        chosen = np.array(made.class_names)[made.labels] == name.split(" with ")[0]
        images.append(made.images[chosen, 0, ..., None])
        labels += [name] * int(chosen.sum())
    return np.concatenate(images), np.array(labels)


SETS = {"blood": blood, "jurkat": jurkat, "nuclei": nuclei}


def features_of(name: str, out: str, args: argparse.Namespace, seed: int) -> Case:
    """Features by ``layer|part``, and the training cells' labels, of one class left out."""
    images, classes = SETS[name](args.data)
    draw = np.random.default_rng(seed)
    kept = np.sort(np.concatenate([
        draw.permutation(np.flatnonzero(classes == one))[: args.cells]
        for one in np.unique(classes)
    ]))  # fmt: skip
    images, classes = images[kept], classes[kept]
    known = classes != out
    old = cells_from_arrays(images[known], classes[known], pixel_size=0.5)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "new.npz"
        np.savez(path, images=images[~known])
        new = read_alike(path, old)  # by the limits of the known cells
    settings = TrainingSettings(epochs=args.epochs)
    made = train(old, settings=settings, rng=seed)
    found = extract(made.model.network, old)
    with_new = extract(made.model.network, new)
    result: Case = {"labels": old.labels[made.split.train]}
    for layer in found:
        for part in ("train", *PARTS[:2]):
            result[f"{layer}|{part}"] = found[layer][getattr(made.split, part)]
        result[f"{layer}|new"] = with_new[layer]
    right = found["logits"][made.split.test].argmax(axis=1) == old.labels[made.split.test]
    result["accuracy"] = np.array(right.mean())
    return result


def case(name: str, out: str, args: argparse.Namespace, seed: int) -> Case:
    """The same, from the cache where it is there."""
    if args.cache is None:
        return features_of(name, out, args, seed)
    path = args.cache / f"{name}-{out.replace(' ', '_')}-{args.epochs}-{args.cells}-{seed}.npz"
    if not path.exists():
        args.cache.mkdir(parents=True, exist_ok=True)
        np.savez(path, **features_of(name, out, args, seed))
    with np.load(path) as held:
        return dict(held)


def at_depth(given: Case, layer: str) -> tuple[dict[str, Scores], Novelty, Array]:
    """Every score at one depth, the library's judge there, and its logarithms of new cells."""
    judge = calibrate(*[given[f"{layer}|{part}"] for part in ("train", *PARTS[:2])], rng=0)
    logs = judge.judge(given[f"{layer}|new"]).logs
    measured = dict(zip(PARTS, (judge.calibration, judge.tested, logs), strict=True))
    scores: dict[str, Scores] = {
        "kNN": {part: found[:, 0] for part, found in measured.items()},
        "local": {part: found[:, 1] for part, found in measured.items()},
    }
    training = given[f"{layer}|train"].astype(np.float64)
    centre, labels = training.mean(axis=0), given["labels"]
    training -= centre
    if training.shape[1] > MOST:
        turn = np.linalg.svd(training, full_matrices=False)[2][:MOST].T
    else:
        deviations = training.std(axis=0)
        turn = np.diag(1 / np.where(deviations > 0, deviations, 1))
    x = training @ turn
    seen = {part: (given[f"{layer}|{part}"].astype(np.float64) - centre) @ turn for part in PARTS}
    means = np.stack([x[labels == one].mean(axis=0) for one in np.unique(labels)])
    within = x - means[np.searchsorted(np.unique(labels), labels)]
    white, total = whitening(within), whitening(x)
    apart = {p: [(((q - m) @ white) ** 2).sum(axis=1) for m in means] for p, q in seen.items()}
    nearest = {part: np.min(found, axis=0) for part, found in apart.items()}
    scores["Mahalanobis"] = {part: np.log(found) / 2 for part, found in nearest.items()}
    scores["relative"] = {p: nearest[p] - ((seen[p] @ total) ** 2).sum(axis=1) for p in PARTS}
    density: dict[str, list[Array]] = {part: [] for part in PARTS}
    for k, one in enumerate(np.unique(labels)):
        own = within[labels == one] @ white
        cells, features = own.shape
        prior = np.eye(features) * (own**2).mean()
        covariance = (own.T @ own + features * prior) / (cells + features)
        root = np.linalg.cholesky(np.linalg.inv(covariance))
        volume = float(np.linalg.slogdet(covariance)[1])
        for part, q in seen.items():
            density[part].append((((q - means[k]) @ white @ root) ** 2).sum(axis=1) + volume)
    scores["by class"] = {part: np.min(found, axis=0) for part, found in density.items()}
    return scores, judge, logs


def whitening(centred: Array) -> Array:
    covariance = ledoit_wolf(centred, assume_centered=True)[0]
    small = 1e-9 * np.trace(covariance) / len(covariance)
    return np.linalg.cholesky(np.linalg.inv(covariance + small * np.eye(len(covariance))))


def standard(scores: Scores) -> Scores:
    mean, deviation = scores["validation"].mean(), max(scores["validation"].std(), 1e-9)
    return {part: (found - mean) / deviation for part, found in scores.items()}


def ranked(scores: Scores) -> Scores:
    ladder = np.sort(scores["validation"])
    n = len(ladder)
    result = {}
    for part, found in scores.items():
        farther = n - np.searchsorted(ladder, found, side="left")
        result[part] = -np.log((farther + (part != "validation")) / (n + (part != "validation")))
    return result


def joined(many: Sequence[Scores], how: str) -> Scores:
    return {part: getattr(np, how)([one[part] for one in many], axis=0) for part in PARTS}


def judged(scores: Scores) -> tuple[float, float, float]:
    """AUC, share of new cells flagged, false alarms."""
    ladder = np.sort(scores["validation"])
    limit = ladder[min(int(np.ceil((len(ladder) + 1) * (1 - RATE))), len(ladder)) - 1]
    area = area_under_curve(scores["new"], scores["test"])
    return area, float((scores["new"] > limit).mean()), float((scores["test"] > limit).mean())


def probe(given: Case, layers: Sequence[str]) -> tuple[float, float, str]:
    """Area, share found at 5 % false alarms, and depth, of the best linear discriminant."""
    found = []
    for layer in layers:
        features = np.concatenate([given[f"{layer}|test"], given[f"{layer}|new"]])
        new = np.arange(len(features)) >= len(given[f"{layer}|test"])
        folds = deal_cells(new.astype(np.int64), 5, rng=np.random.default_rng(0))
        column = new[:, None].astype(np.float64)
        fits = held_out_fits(probe_features(features), column, folds)[0][:, 0]
        limit = np.quantile(fits[~new], 1 - RATE)
        area = area_under_curve(fits[new], fits[~new])
        found.append((area, float((fits[new] > limit).mean()), layer))
    return max(found)


SUMS = (
    ("kNN", "local"), ("kNN", "energy"), ("local", "energy"), ("Mahalanobis", "energy"),
    ("kNN", "local", "energy"), ("Mahalanobis", "local", "energy"),
    ("by class", "local", "energy"), ("kNN", "local", "relative"),
    ("kNN", "local", "relative", "energy"),
)  # fmt: skip


def measure(given: Case) -> tuple[dict[str, tuple[float, float, float]], tuple[float, float, str]]:
    """By rule: AUC, share flagged, false alarms; and what a probe finds."""
    layers = [name.removesuffix("|train") for name in given if name.endswith("|train")]
    found, judges, logs = zip(*[at_depth(given, layer) for layer in layers], strict=True)
    energies = {part: energy(given[f"logits|{part}"]) for part in PARTS}
    rules = {"energy": judged(energies)}
    largest: dict[str, Scores] = {"energy": standard(energies)}
    for name in found[0]:
        depths = [standard(one[name]) for one in found]
        largest[name] = standard(joined(depths, "max"))
        rules[f"{name}, largest"] = judged(largest[name])
        rules[f"{name}, mean"] = judged(joined(depths, "mean"))
        rules[f"{name}, ranks"] = judged(joined([ranked(one[name]) for one in found], "mean"))
        before = layers.index("pre_softmax")
        rules[f"{name}, pre-softmax"] = judged(found[before][name])
    for names in SUMS:
        rules[" + ".join(names)] = judged(joined([largest[name] for name in names], "mean"))
    overall = calibrate_overall(
        judges, energies=(energies["validation"], energies["test"]), rng=0
    )  # fmt: skip
    odd, scores, _ = overall.judge(np.stack(logs, axis=1), energies["new"])
    tested = overall.score(np.stack([j.tested for j in judges], axis=1), energies["test"])
    area = area_under_curve(scores, tested)
    rules["**place**"] = (area, float(odd.mean()), overall.rate.value)
    flags = [judge.judge(given[f"{layer}|new"]).odd for judge, layer in zip(judges, layers)]
    clean = np.any([judge.clean for judge in judges], axis=0)
    rules["flags at any depth"] = (np.nan, float(np.any(flags, axis=0).mean()), float(clean.mean()))
    return rules, probe(given, layers)


def report(args: argparse.Namespace) -> list[str]:
    cases: dict[tuple[str, str], list[dict[str, tuple[float, float, float]]]] = {}
    rows: list[str] = []
    shown = ("kNN, largest", "local, largest", "Mahalanobis, largest", "relative, largest")
    untold, separable, reached = [], 0, 0
    for name in args.only:
        for out in np.unique(SETS[name](args.data)[1]).tolist():
            done, probes, right, n = [], [], [], 0
            for seed in range(args.seeds):
                given = case(name, out, args, seed)
                rules, best = measure(given)
                done.append(rules)
                probes.append(best)
                right.append(float(given["accuracy"]))
                n = len(given["logits|new"])
            cases[name, out] = done
            mean = {rule: np.mean([one[rule] for one in done], axis=0) for rule in done[0]}
            area, share = np.mean([one[:2] for one in probes], axis=0)
            ours = mean["**place**"]
            separable += share >= ENOUGH
            reached += ours[1] >= ENOUGH
            if ours[1] < ENOUGH:
                untold.append((name, out, share, ours[1]))
            rows.append(
                f"| {name}: {out} | {n} | {np.mean(right):.2f} | {area:.2f}, {share:.0%} "
                f"({probes[0][2]}) | {mean['energy'][0]:.2f} | "
                + " | ".join(f"{mean[rule][0]:.2f}" for rule in shown)
                + f" | **{ours[0]:.2f}** | {mean['flags at any depth'][1]:.0%} "
                f"| **{ours[1]:.0%}** | {ours[2]:.1%} |"
            )
            print(rows[-1], flush=True)
    lines = [
        "| left out | cells | accuracy on the others | probe: AUC, found | energy "
        "| kNN | local | Mahalanobis | relative | place | flagged before | flagged "
        "| false alarms |",
        "|---" * 13 + "|",
        *rows,
        "",
        f"`place` flags {ENOUGH:.0%} or more of the cells in {reached} of {len(cases)} cases; a "
        f"probe that knows the class finds as many in {separable}. Not told, by the share that the "
        "probe finds: "
        + "; ".join(
            f"{name} {out} ({share:.0%} by the probe, {flagged:.0%} flagged)"
            for name, out, share, flagged in sorted(untold, key=lambda one: -one[2])
        )
        + ".",
        "",
    ]
    return [*lines, *compared(cases, args.only)]


def compared(
    cases: Mapping[tuple[str, str], list[dict[str, tuple[float, float, float]]]],
    sets: Sequence[str],
) -> list[str]:
    """All rules by set of cells, and which of the sums is best on the other sets."""
    rules = list(next(iter(cases.values()))[0])
    table = {
        rule: np.array([
            np.mean([one[rule] for (name, _), many in cases.items() if name == wanted
                     for one in many], axis=0)
            for wanted in sets
        ])
        for rule in rules
    }  # fmt: skip
    lines = [
        "| rule | " + " | ".join(f"{name}: AUC, flagged, false" for name in sets) + " | mean |",
        "|---" * (len(sets) + 2) + "|",
    ]
    for rule in sorted(rules, key=lambda one: -np.nan_to_num(table[one][:, 0].mean())):
        shown = [*table[rule], table[rule].mean(axis=0)]
        lines.append(
            f"| {rule} | " + " | ".join(f"{a:.3f}, {b:.0%}, {c:.1%}" for a, b, c in shown) + " |"
        )
    lines.append("")
    for k, name in enumerate(sets if len(sets) > 1 else ()):
        others = [one for one in range(len(sets)) if one != k]
        open_to = [rule for rule in rules if rule not in ("**place**", "flags at any depth")]
        best = max(open_to, key=lambda rule: table[rule][others, 0].mean())
        area, flagged, _ = table[best][k]
        lines.append(
            f"Best by AUC without {name}: {best}; on {name} it has {area:.3f} and flags "
            f"{flagged:.0%}.  "
        )
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--cells", type=int, default=400, help="of each class, at most")
    parser.add_argument("--only", nargs="+", choices=list(SETS), default=list(SETS))
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--cache", type=Path, default=None)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"))
    args = parser.parse_args()
    torch.set_num_threads(1)
    began = time.perf_counter()
    text = [
        "# A class absent from training: is it told?",
        "",
        *report(args),
        "",
        f"{args.epochs} epochs, {args.cells} cells of a class at most, {args.seeds} seed(s). "
        f"{platform.platform()}, one thread of {platform.machine()}, {date.today().isoformat()}, "
        f"{(time.perf_counter() - began) / 60:.0f} min"
        + (" with networks from the cache." if args.cache else "."),
        "",
        "Set up as in `benchmarks/novelty.py`, where the scores are explained.",
    ]
    args.out.mkdir(parents=True, exist_ok=True)
    (args.out / "novelty.md").write_text("\n".join(text) + "\n")


if __name__ == "__main__":
    main()
