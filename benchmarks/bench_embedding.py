"""Seconds for maps and separation of nine depths: ``python benchmarks/bench_embedding.py``.

Features are those of a random network on blobs of four classes, 2,304 pixels at the input and
16 to 128 channels above. Wall clock and CPU time are both given: on a busy machine they differ.
"""

import argparse
import os
import platform
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cytolens.clusters.clustering import cluster
from cytolens.embedding.methods import embed
from cytolens.separation.separation import measure_separation

WIDTHS = (2304, 16, 16, 32, 32, 64, 64, 128, 64)


def depths(n: int, *, seed: int = 0) -> tuple[dict[str, NDArray[np.float32]], NDArray[np.int64]]:
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 4, n)
    latent = rng.normal(size=(n, 12)) + 1.5 * rng.normal(size=(4, 12))[labels]
    pixels = latent @ rng.normal(size=(12, WIDTHS[0])) + 2 * rng.normal(size=(n, WIDTHS[0]))
    features = {"input": pixels.astype(np.float32)}
    for depth, width in enumerate(WIDTHS[1:], start=1):
        below = features[list(features)[-1]]
        weights = rng.normal(size=(below.shape[1], width)) / np.sqrt(below.shape[1])
        above = np.maximum(below @ weights.astype(np.float32), 0)
        features[f"conv{depth}"] = above / above.std()
    return features, labels


def timed(what: str, run: Callable[[], Any]) -> Any:
    wall, cpu = time.perf_counter(), time.process_time()
    result = run()
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    print(f"{what:44s} {wall:8.1f} s wall {cpu:8.1f} s CPU", flush=True)
    return result


def bench(n: int, *, threads: int | None, only: str | None) -> None:
    features, labels = depths(n)
    before, _ = depths(n, seed=1)
    print(f"{n:,} cells, {len(features)} depths, {threads or 'default'} threads")
    if only in (None, "maps"):
        maps = timed("  t-SNE", lambda: embed(features, rng=0, threads=threads))
        recall = [f"{map_.quality['recall_10']:.3f}" for map_ in maps.values()]
        moved = [f"{map_.settings.get('displacement', 0):.3f}" for map_ in maps.values()]
        print(f"    recall@10 {' '.join(recall)}\n    displacement {' '.join(moved)}")
        timed("  PCA", lambda: embed(features, method="pca", rng=0, threads=threads))

    def clustered(method: str) -> None:
        for name, array in features.items():
            cluster(array, labels, name=name, method=method, rng=0, threads=threads)

    def separated() -> None:
        for name, array in features.items():
            measure_separation(array, labels, untrained=before[name], rng=0, threads=threads)

    if only in (None, "clusters"):
        timed("  k-means", lambda: clustered("kmeans"))
        timed("  HDBSCAN", lambda: clustered("hdbscan"))
    if only in (None, "separation"):
        timed("  separation, and untrained", separated)


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--cells", type=int, nargs="+", default=[2000, 10_000])
    arguments.add_argument("--threads", type=int)
    arguments.add_argument("--only", choices=["maps", "clusters", "separation"])
    chosen = arguments.parse_args()
    load = os.getloadavg()[0]
    print(f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores, load {load:.1f}")
    for n in chosen.cells:
        bench(n, threads=chosen.threads, only=chosen.only)


if __name__ == "__main__":
    main()
