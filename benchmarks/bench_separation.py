"""Time of separation by depth: ``python benchmarks/bench_separation.py [--cells 20000]``.

Ten depths of a random network on blobs: pixels at the input, 16 to 512 channels above, two logits
at the end; with the untrained control, 500 resamples and 50 permutations. The first table is what
`measure_separation` takes in all (wall clock, median over repeats), the second CPU seconds by
measure, one thread, summed over depths; pairs of classes and CKA follow.
"""

import argparse
import os
import platform
import statistics
import time
from collections import defaultdict
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cytolens.numerics.threads import limited_threads
from cytolens.separation.measures import MEASURES
from cytolens.separation.pairwise import measure_pairs
from cytolens.separation.plan import make_plan
from cytolens.separation.separation import measure_separation
from cytolens.separation.similarity import measure_similarity

WIDTHS = (2304, 16, 16, 32, 64, 64, 128, 256, 512, 2)
RESAMPLES, PERMUTATIONS = 500, 50


def depths(
    n: int, classes: int, *, seed: int
) -> tuple[dict[str, NDArray[np.float32]], NDArray[np.int64]]:
    rng = np.random.default_rng(seed)
    labels = np.random.default_rng(0).integers(0, classes, n)
    cells = np.random.default_rng(1)
    latent = cells.normal(size=(n, 12)) + 1.2 * cells.normal(size=(classes, 12))[labels]
    pixels = latent @ cells.normal(size=(12, WIDTHS[0])) + 2 * cells.normal(size=(n, WIDTHS[0]))
    features = {"input": pixels.astype(np.float32)}
    for depth, width in enumerate(WIDTHS[1:], start=1):
        below = features[list(features)[-1]]
        weights = rng.normal(size=(below.shape[1], width)) / np.sqrt(below.shape[1])
        above = below @ weights.astype(np.float32)
        above = above if depth == len(WIDTHS) - 1 else np.maximum(above, 0)
        features[f"layer{depth}"] = above / above.std()
    return features, labels


def timed(run: Callable[[], Any]) -> tuple[float, float]:
    """Seconds of wall clock and of CPU."""
    wall, cpu = time.perf_counter(), time.process_time()
    run()
    return time.perf_counter() - wall, time.process_time() - cpu


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--cells", type=int, default=20_000)
    arguments.add_argument("--classes", type=int, default=2)
    arguments.add_argument("--groups", type=int, default=0)
    arguments.add_argument("--threads", type=int, help="default: OMP_NUM_THREADS, or all cores")
    arguments.add_argument("--repeats", type=int, default=1)
    arguments.add_argument("--by-measure", action="store_true", help="also CPU seconds of each")
    chosen = arguments.parse_args()
    n, groups = chosen.cells, None
    features, labels = depths(n, chosen.classes, seed=0)
    before, _ = depths(n, chosen.classes, seed=9)
    if chosen.groups:
        groups = np.random.default_rng(2).integers(0, chosen.groups, n)
    load = os.getloadavg()[0]
    print(f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores, load {load:.1f}")
    print(
        f"{n:,} cells, {chosen.classes} classes, {chosen.groups or 'no'} groups, depths of "
        f"{', '.join(map(str, WIDTHS))} features, {RESAMPLES} resamples, {PERMUTATIONS} "
        f"permutations, {chosen.threads or 'default'} threads"
    )
    options: dict[str, Any] = {
        "groups": groups, "permutations": PERMUTATIONS, "rng": 0, "threads": chosen.threads,
    }  # fmt: skip

    def separation() -> None:
        for name, array in features.items():
            measure_separation(
                array, labels, untrained=before[name], resamples=RESAMPLES, **options
            )

    def pairs() -> None:
        names = [f"class {k}" for k in range(chosen.classes)]
        for name, array in features.items():
            measure_pairs(
                array, labels, class_names=names, name=name, untrained=before[name],
                resamples=RESAMPLES, **options,
            )  # fmt: skip

    jobs = {"measure_separation": separation}
    if chosen.classes > 2:
        jobs["measure_pairs"] = pairs
    jobs["measure_similarity"] = lambda: measure_similarity(features, untrained=before, **options)
    for title, job in jobs.items():
        taken = [timed(job) for _ in range(chosen.repeats)]
        wall, cpu = (statistics.median(column) for column in zip(*taken))
        print(f"{title:24s} {wall:8.1f} s wall {cpu:8.1f} s CPU", flush=True)
    if chosen.by_measure:
        by_measure(features, before, labels, groups)


def by_measure(
    features: dict[str, NDArray[np.float32]],
    before: dict[str, NDArray[np.float32]],
    labels: NDArray[np.int64],
    groups: NDArray[np.int64] | None,
) -> None:
    spent: defaultdict[str, float] = defaultdict(float)
    with limited_threads(1):
        for name, array in features.items():
            plan = make_plan(
                labels, groups, permutations=PERMUTATIONS, resamples=RESAMPLES, folds=5,
                rng=np.random.default_rng(0),
            )  # fmt: skip
            spent["resamples"] += timed(lambda: (plan.paired_counts, plan.all_counts))[1]  # noqa: B023
            control = None if np.array_equal(array, before[name]) else before[name]
            for title, measure in MEASURES.items():
                spent[title] += timed(lambda: measure.make(array, control, plan))[1]  # noqa: B023
    for title, seconds in spent.items():
        print(f"  {title:22s} {seconds:8.1f} s CPU", flush=True)


if __name__ == "__main__":
    main()
