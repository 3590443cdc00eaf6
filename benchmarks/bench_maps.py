"""Maps of many cells against the peers: ``python benchmarks/bench_maps.py --cells 10000 50000``.

Every method gets the same 128 features of simulated cells in 20 clusters, its default settings
and as many threads, each in a process of its own. CPU seconds are those of making the map,
neighbours included, without imports; memory is the most that the process held, data included.
Recall of the 10 nearest neighbours and the KL divergence (from the affinities of perplexity 30,
which only the t-SNEs minimise) are measured here, in the same way for all. umap-learn and pacmap
are run where they are installed.

``--chain`` times eight depths of a network against one; ``--large 1000000 100000``
maps as many cells, by as many landmarks; ``--run RUN`` the layers of a finished study.
"""

import argparse
import importlib.util
import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray

from bench_embedding import depths
from cytolens.embedding.affinities import joint_affinities
from cytolens.embedding.methods import embed
from cytolens.embedding.tsne import Phase, optimise
from cytolens.numerics.neighbours import find_neighbours

Array = NDArray[np.float32]


def cells(n: int, *, seed: int = 0) -> Array:
    """Features (n, 128) around 20 centres in 12 dimensions, rectified, with noise."""
    rng = np.random.default_rng(seed)
    centres, loadings = 2 * rng.normal(size=(20, 12)), rng.normal(size=(12, 128))
    latent = centres[rng.integers(0, 20, n)] + rng.normal(size=(n, 12))
    return (np.maximum(latent @ loadings, 0) + 0.5 * rng.normal(size=(n, 128))).astype(np.float32)


def cytolens(features: Array, threads: int) -> Array:
    return embed({"a": features}, rng=0, threads=threads)["a"].coordinates


def opentsne(features: Array, threads: int) -> Array:
    from openTSNE import TSNE

    return np.asarray(TSNE(n_jobs=threads, random_state=0).fit(features))


def sklearn(features: Array, threads: int) -> Array:
    from sklearn.manifold import TSNE

    return TSNE(n_jobs=threads, random_state=0).fit_transform(features)


def umap(features: Array, threads: int) -> Array:
    import umap

    return umap.UMAP(random_state=0, n_jobs=1).fit_transform(features)


def pacmap(features: Array, threads: int) -> Array:
    import pacmap

    return pacmap.PaCMAP(random_state=0).fit_transform(features)


METHODS: dict[str, Callable[[Array, int], Array]] = {
    "cytolens": cytolens,
    "opentsne": opentsne,
    "sklearn": sklearn,
    "umap": umap,
    "pacmap": pacmap,
}
LIBRARY = {"opentsne": "openTSNE"}


def child(method: str, data: str, out: str, threads: int) -> None:
    """Make one map and say what it took; runs in its own process."""
    features = np.load(data)
    warm = features[:200]
    METHODS[method](warm, threads)  # imports and just-in-time compilation
    wall, cpu = time.perf_counter(), time.process_time()
    np.save(out, METHODS[method](features, threads))
    cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    print(json.dumps({"cpu": cpu, "wall": wall, "peak": peak}))


def judged(features: Array, places: Array) -> tuple[float, float]:
    """Recall@10 over 3,000 cells, and the KL divergence at perplexity 30."""
    near = find_neighbours(features, 90)
    joint = joint_affinities(near, 30)
    asked = np.random.default_rng(0).choice(len(features), min(3000, len(features)), replace=False)
    places = np.ascontiguousarray(places, dtype=np.float32)
    found = find_neighbours(places, 10, asked=asked).indices
    true = find_neighbours(features, 10, asked=asked).indices
    recall = np.mean([len(set(a) & set(b)) for a, b in zip(found, true, strict=True)]) / 10
    return float(recall), optimise(joint, places, [Phase(0, 1)])[1]


def compare(n: int, methods: list[str], threads: int) -> None:
    features = cells(n)
    print(f"\n{n:,} cells × 128, {threads} threads", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        data, out = f"{folder}/data.npy", f"{folder}/map.npy"
        np.save(data, features)
        for method in methods:
            if importlib.util.find_spec(LIBRARY.get(method, method)) is None:
                print(f"  {method:10s} not installed")
                continue
            asked = [sys.executable, __file__, "--child", method, data, out]
            limits = dict.fromkeys(("OMP_NUM_THREADS", "NUMBA_NUM_THREADS"), str(threads))
            made = subprocess.run(
                [*asked, "--threads", str(threads)],
                env={**os.environ, **limits}, capture_output=True, text=True, check=True,
            )  # fmt: skip
            took: dict[str, Any] = json.loads(made.stdout.splitlines()[-1])
            recall, divergence = judged(features, np.load(out))
            print(
                f"  {method:10s} {took['cpu']:8.1f} CPU s {took['wall']:8.1f} s"
                f" {took['peak']:6.2f} GB   recall@10 {recall:.3f}   KL {divergence:.2f}",
                flush=True,
            )


def chain(n: int, threads: int) -> None:
    """Eight depths as a chain against one alone, and what the chain costs in quality."""
    features = dict(list(depths(n)[0].items())[1:])  # without the pixels
    clock = time.perf_counter(), time.process_time()
    alone = embed({"conv8": features["conv8"]}, rng=0, threads=threads)
    once = time.perf_counter() - clock[0], time.process_time() - clock[1]
    clock = time.perf_counter(), time.process_time()
    made = embed(features, rng=0, threads=threads)
    all_ = time.perf_counter() - clock[0], time.process_time() - clock[1]
    print(f"\n{n:,} cells: one depth {once[0]:.1f} s ({once[1]:.1f} CPU s)")
    ratios = f"{all_[0] / once[0]:.2f} times ({all_[1] / once[1]:.2f} of the CPU time)"
    print(f"  {len(features)} depths {all_[0]:.1f} s ({all_[1]:.1f} CPU s): {ratios}", flush=True)
    for layer in ("conv7", "conv1", "conv8"):
        single = alone
        if layer != "conv8":
            single = embed({layer: features[layer]}, rng=0, threads=threads)
        ours, theirs = made[layer].quality, single[layer].quality
        print(
            f"  {layer}: recall@10 {ours['recall_10']:.3f}, alone {theirs['recall_10']:.3f}; "
            f"KL {ours['kl_divergence']:.3f}, alone {theirs['kl_divergence']:.3f}; "
            f"displacement {made[layer].settings.get('displacement', 0):.3f}",
            flush=True,
        )


def large(n: int, landmarks: int, threads: int) -> None:
    """A map of all cells that begins with landmarks, its quality measured: what it takes."""
    features = cells(n)
    cpu = time.process_time()
    made = embed({"a": features}, landmarks=landmarks, rng=0, threads=threads)["a"]
    cpu = time.process_time() - cpu
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    print(f"\n{n:,} cells × 128 by {landmarks:,} landmarks: {cpu:.1f} CPU s, {peak:.2f} GB")
    print("  " + ", ".join(f"{name} {value:.3f}" for name, value in made.quality.items()))


def of_run(run: str, threads: int) -> None:
    """The maps of every layer of a finished run, of all its cells, and their mean quality."""
    stored = Path(run, "activations", "activations.zarr", "arrays")
    found = {path.name: np.asarray(zarr.open_array(path, mode="r")[:]) for path in stored.iterdir()}
    ends = ["input", *sorted(found.keys() - {"input", "pre_softmax", "logits"})]
    order = [name for name in [*ends, "pre_softmax", "logits"] if name in found]
    features = {name: found[name].astype(np.float32) for name in order}
    embed({"a": features[order[-1]]}, rng=0, threads=threads)  # imports
    print(f"\n{len(features[order[0]]):,} cells of {run}, {len(order)} layers")
    for method in ("tsne", "pca"):
        cpu = time.process_time()
        made = embed(features, method=method, rng=0, threads=threads)
        print(f"  {method}: {time.process_time() - cpu:.1f} CPU s")
        for measure in made[order[-1]].quality:
            mean = np.mean([map_.quality[measure] for map_ in made.values()])
            print(f"    {measure} {mean:.3f}")


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--cells", type=int, nargs="*", default=[10_000])
    arguments.add_argument("--methods", nargs="+", choices=list(METHODS), default=list(METHODS))
    arguments.add_argument("--threads", type=int, default=2)
    arguments.add_argument("--chain", type=int)
    arguments.add_argument("--run")
    arguments.add_argument("--large", type=int, nargs=2, metavar=("CELLS", "LANDMARKS"))
    arguments.add_argument("--child", nargs=3, help=argparse.SUPPRESS)
    chosen = arguments.parse_args()
    if chosen.child:
        child(*chosen.child, chosen.threads)
        return
    load = os.getloadavg()[0]
    print(f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores, load {load:.1f}")
    for n in chosen.cells:
        compare(n, chosen.methods, chosen.threads)
    if chosen.chain:
        chain(chosen.chain, chosen.threads)
    if chosen.run:
        of_run(chosen.run, chosen.threads)
    if chosen.large:
        large(*chosen.large, chosen.threads)


if __name__ == "__main__":
    main()
