"""Maps of data that are hard on t-SNE: ``python benchmarks/bench_weak_structure.py``.

Against openTSNE: clouds without structure, outliers, cells that coincide and cells that are all
equally far, from 3 to 5,000. Both methods run with their defaults, but for openTSNE's perplexity,
which must be at most a third of the other cells. Recall@10 is measured here, in the same way for
both; the extent says whether a map collapsed.
"""

import argparse
import platform
import time
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from openTSNE import TSNE

from cytolens.embedding.methods import LEAST_EXTENT, embed
from cytolens.numerics.neighbours import find_neighbours

Array = NDArray[np.float32]


def cloud(n: int, rng: np.random.Generator) -> Array:
    return rng.normal(size=(n, 16)).astype(np.float32)


def outlier(n: int, rng: np.random.Generator) -> Array:
    features = cloud(n, rng)
    features[0] = 100
    return features


def far_outlier(n: int, rng: np.random.Generator) -> Array:
    features = cloud(n, rng)
    features[0] = 1e6
    return features


def one_in_a_hundred_far(n: int, rng: np.random.Generator) -> Array:
    features = cloud(n, rng)
    features[: max(1, n // 100)] *= 100
    return features


def heavy_tails(n: int, rng: np.random.Generator) -> Array:
    return rng.standard_cauchy(size=(n, 16)).astype(np.float32)


def half_coincide(n: int, rng: np.random.Generator) -> Array:
    features = cloud(n, rng)
    features[: n // 2] = features[0]
    return features


def few_patterns(n: int, rng: np.random.Generator) -> Array:
    return (rng.random((n, 6)) < 0.5).astype(np.float32)


def equally_far(n: int, rng: np.random.Generator) -> Array:
    return np.eye(n, dtype=np.float32)


def line(n: int, rng: np.random.Generator) -> Array:
    return (rng.random((n, 1)) * np.ones((1, 16))).astype(np.float32)


def one_differs(n: int, rng: np.random.Generator) -> Array:
    features = np.zeros((n, 16), dtype=np.float32)
    features[0] = 1
    return features


KINDS: dict[str, Callable[[int, np.random.Generator], Array]] = {
    "cloud, 16-D": cloud,
    "with an outlier at 100 s.d.": outlier,
    "with an outlier at 1e6 s.d.": far_outlier,
    "one in a hundred 100 times as far": one_in_a_hundred_far,
    "Cauchy": heavy_tails,
    "half of the cells coincide": half_coincide,
    "64 patterns": few_patterns,
    "all equally far": equally_far,
    "a line": line,
    "all but one coincide": one_differs,
}
WITH_TIES = {"half of the cells coincide", "64 patterns", "all equally far", "all but one coincide"}


def recall(features: Array, places: Array) -> float:
    """Share of the 10 nearest that are among the 10 nearest on the map.

    NaN with fewer cells, and for a map without extent.
    """
    if len(features) < 12 or not np.isfinite(places).all() or np.ptp(places) < LEAST_EXTENT:
        return float("nan")
    true = find_neighbours(features, 10).indices
    found = find_neighbours(np.ascontiguousarray(places, dtype=np.float32), 10).indices
    return float(np.mean([len(set(a) & set(b)) for a, b in zip(found, true, strict=True)]) / 10)


def theirs(features: Array, seed: int) -> Array:
    perplexity = min(30, (len(features) - 1) / 3)
    return np.asarray(TSNE(perplexity=perplexity, n_jobs=1, random_state=seed).fit(features))


def ours(features: Array, seed: int) -> Array:
    return embed(features, rng=seed, threads=1).coordinates


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", nargs="+", type=int, default=[3, 6, 30, 100, 300, 1000, 5000])
    parser.add_argument("--seeds", type=int, default=4)
    asked = parser.parse_args()
    print(f"{platform.processor() or platform.machine()}, one thread, {asked.seeds} seeds")
    print(
        "\n| data | cells | recall@10: cytolens | openTSNE | smallest extent: cytolens | openTSNE |"
    )
    print("|---|---|---|---|---|---|")
    start = time.process_time()
    for kind, make in KINDS.items():
        for n in asked.sizes:
            if kind == "all equally far" and n > 1000:
                continue  # as many features as cells
            scores: dict[str, list[float]] = {"ours": [], "theirs": []}
            extents: dict[str, list[float]] = {"ours": [], "theirs": []}
            for seed in range(asked.seeds if n <= 1000 else 1):
                features = make(n, np.random.default_rng(seed))
                for who, method in (("ours", ours), ("theirs", theirs)):
                    try:
                        places = method(features, seed)
                    except Exception as error:  # a peer that stops is a result
                        print(f"<!-- {kind}, {n}: {who} stopped: {str(error)[:80]} -->")
                        places = np.full((n, 2), np.nan)
                    scores[who].append(recall(features, places))
                    extents[who].append(float(np.ptp(places)))
            mark = " (ties)" if kind in WITH_TIES else ""
            medians = [float(np.median(scores[who])) for who in scores]
            cells = " | ".join("–" if np.isnan(m) else f"{m:.3f}" for m in medians)
            sizes = " | ".join(f"{np.min(extents[who]):.3g}" for who in extents)
            print(f"| {kind}{mark} | {n:,} | {cells} | {sizes} |", flush=True)
    print(f"\n{time.process_time() - start:.0f} CPU seconds")


if __name__ == "__main__":
    main()
