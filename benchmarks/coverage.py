"""How often do 95 % intervals over groups hold what new groups would give?

A made study: groups of about 100 cells of unequal size (log-normal, s.d. 0.5; at least 20), half
of each class. A cell's score is right with probability expit(m), m being normal over groups with
the given deviation in logits. The truth is what the whole population of groups gives.

    python benchmarks/coverage.py [--studies 1000] [--write benchmarks/results/coverage.md]
"""

import argparse
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cytolens.classifier.evaluation import evaluate
from cytolens.numerics.auc import area_under_curve
from cytolens.numerics.estimates import Estimate
from cytolens.numerics.intervals import percentile_interval
from cytolens.separation.plan import estimate_accuracy

GROUPS = (2, 3, 6, 10, 30)
DEVIATIONS = (0.0, 0.3, 0.8)
BASES = (0.8, 0.9)  # accuracy of a typical group

Study = tuple[NDArray[np.float64], NDArray[np.int64], NDArray[np.int64]]
"""Scores for class 1, in logits, labels and groups of the cells, (N,) each."""


def draw_study(
    count: int, deviation: float, base: float, *, owned: bool, rng: np.random.Generator
) -> Study:
    """One study of ``count`` groups; if ``owned``, each group has cells of one class only."""
    sizes = np.maximum(20, np.round(100 * np.exp(0.5 * rng.normal(size=count)))).astype(int)
    groups = np.repeat(np.arange(count), sizes)
    labels = groups % 2 if owned else np.concatenate([np.arange(size) % 2 for size in sizes])
    margin = np.log(base / (1 - base)) + deviation * rng.normal(size=count)[groups]
    scores = (2 * labels - 1) * margin + rng.logistic(size=len(groups))
    return scores, labels, groups


def truth(deviation: float, base: float) -> dict[str, float]:
    """What endless groups give, from 10⁶ of them."""
    rng = np.random.default_rng(12)
    n = 1_000_000
    margin = np.log(base / (1 - base)) + deviation * rng.normal(size=n)
    noise = rng.logistic(size=n)
    half = n // 2
    accuracy = float((1 / (1 + np.exp(-margin))).mean())
    area = area_under_curve((margin + noise)[:half], (noise - margin)[half:])
    return {"accuracy": accuracy, "balanced accuracy": accuracy, "AUC": area}


def two_stage(right: NDArray[np.bool_], groups: NDArray[np.int64], rng: np.random.Generator):
    """The earlier rule, for comparison: percentiles of a two-stage bootstrap of the accuracy."""
    sizes, hits = np.bincount(groups), np.bincount(groups, weights=right)
    times = rng.multinomial(len(sizes), np.full(len(sizes), 1 / len(sizes)), size=500)
    drawn = rng.binomial(times * sizes, hits / sizes).sum(axis=1) / (times * sizes).sum(axis=1)
    return percentile_interval(drawn)


def intervals(study: Study, rng: np.random.Generator) -> dict[str, Estimate]:
    """What cytolens says of the study."""
    scores, labels, groups = study
    chance = 1 / (1 + np.exp(-scores))
    found = evaluate(np.stack([1 - chance, chance], axis=1), labels, groups=groups, rng=rng)
    answers = (scores > 0).astype(np.int64)[None]
    balanced = estimate_accuracy(answers, labels[None], groups, None, 500, rng)
    measures = found.measures
    return {"accuracy": measures["accuracy"], "balanced accuracy": balanced, "AUC": measures["auc"]}


def measure(
    count: int, deviation: float, base: float, *, owned: bool, studies: int
) -> dict[str, tuple[float, float]]:
    """By measure, the share of studies whose interval holds the truth, and the median width."""
    rng = np.random.default_rng([count, int(100 * deviation), int(100 * base), owned])
    true = truth(deviation, base)
    ends: dict[str, list[tuple[float, float]]] = {name: [] for name in (*true, "earlier rule")}
    for _ in range(studies):
        study = draw_study(count, deviation, base, owned=owned, rng=rng)
        for name, estimate in intervals(study, rng).items():
            ends[name].append((estimate.low, estimate.high))
        right = (study[0] > 0) == (study[1] > 0)
        ends["earlier rule"].append(two_stage(right, study[2], rng))
    found: dict[str, tuple[float, float]] = {}
    for name, listed in ends.items():
        low, high = np.array(listed).T
        value = true.get(name, true["accuracy"])
        held = float(((low <= value) & (value <= high)).mean())
        found[name] = (held, float(np.median(high - low)))
    return found


def table(base: float, *, owned: bool, studies: int, say: Callable[[str], None]) -> None:
    """One table: coverage and, in brackets, the median width."""
    names = ["accuracy", "balanced accuracy", "AUC", "earlier rule"]
    say("| groups | deviation | " + " | ".join(names) + " |")
    say("|---|---|" + "---|" * len(names))
    for deviation in DEVIATIONS:
        for count in GROUPS:
            found = measure(count, deviation, base, owned=owned, studies=studies)
            cells = [
                "none given" if np.isnan(width) else f"{100 * held:.1f} % ({width:.2f})"
                for held, width in (found[name] for name in names)
            ]
            say(f"| {count} | {deviation} | " + " | ".join(cells) + " |")


def main() -> None:
    """Print the tables, and write them where asked."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--studies", type=int, default=1000)
    parser.add_argument("--write", type=Path)
    parser.add_argument("--machine", default="2 virtual cores, AMD EPYC")
    given = parser.parse_args()
    lines: list[str] = []

    def say(line: str) -> None:
        print(line, flush=True)
        lines.append(line)

    noise = 100 * 1.96 * np.sqrt(0.95 * 0.05 / given.studies)
    say("# Coverage of intervals over groups\n")
    say(
        f"Made by `benchmarks/coverage.py` ({given.machine}), {given.studies} studies a row: how "
        "often the 95 % interval holds what endless new groups would give, and its median width. "
        f"Chance alone moves a coverage by ± {noise:.1f} points. Groups have about 100 cells, "
        "unequally many; `deviation` is the standard deviation between groups in logits. The "
        "earlier rule, for the accuracy: percentiles of a two-stage bootstrap.\n"
    )
    for base in BASES:
        say(f"\n## Both classes in each group, accuracy of a typical group {base}\n")
        table(base, owned=False, studies=given.studies, say=say)
    say("\n## Each group of one class, accuracy of a typical group 0.8\n")
    table(0.8, owned=True, studies=given.studies, say=say)
    if given.write:
        given.write.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
