"""Maps of the features at every depth, made as a chain so that neighbouring depths look alike."""

import importlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cytolens.embedding.affinities import joint_affinities
from cytolens.embedding.alignment import align, displacement, flip, start_from
from cytolens.embedding.landmarks import choose_landmarks
from cytolens.embedding.placing import Placer, Reference
from cytolens.embedding.quality import measure_quality
from cytolens.embedding.refinement import REFINED_OVER, refine
from cytolens.errors import InputError, MissingExtra, SettingError, choose
from cytolens.numerics.estimates import Rng, generator
from cytolens.numerics.features import (
    checked_features,
    in_metric,
    is_constant,
    principal_components,
    reduce_features,
)
from cytolens.numerics.neighbours import Neighbours, find_neighbours
from cytolens.numerics.threads import limited_threads
from cytolens.records.by_layer import of_all_layers
from cytolens.records.cells import Progress, Settings
from cytolens.records.maps import Embedding

FEWEST_CELLS = 3
MOST_MAPPED = 100_000
"""Cells mapped directly. Of more, this many landmarks are mapped first, and then all refined."""
LEAST_EXTENT = 0.1
"""Of a map by t-SNE, whose kernel is 1 wide. A smaller one shows nothing: cells that are all
equally far from each other are best mapped onto one point."""
PLACED_AT_ONCE = 16_384
PERPLEXITY = 30
NEIGHBOURS = 3 * PERPLEXITY
FIRST = ((250, 12), (500, 1))
"""Iterations and exaggeration of a map that starts from principal components, shrunk: openTSNE's
own defaults."""
CHAINED = ((80, 12), (60, 4), (40, 2), (100, 1))
"""The same for a map that starts from its neighbour's, as large as that is: it is drawn together,
then let go step by step. On nine layers of 852 T cells, on which it was chosen, mean recall@100 is
.776, and .770 with 360 iterations of which 150 are at 12 and 150 at 1; on 1,506 Jurkat cells, which
had no part in that, .646 and .644, with a recall@10 of .567 and .568.
The chain starts at the pre-softmax layer: from the first convolution distances correlate less."""
CHAINED_MANY = ((60, 12), (20, 4), (20, 2), (60, 1))
"""The same for over `FEW` cells: of some twenty ways tried on 10,000 cells, this has the best
recall for its time. Maps that start shrunk need twice the iterations and move five times as far."""
FEW = 20_000


@dataclass(frozen=True)
class Start:
    """Where a map starts, and what a method has to know beyond the features."""

    coordinates: NDArray[np.float32] | None  # a neighbouring depth's; None: principal components
    settled: bool  # whether a shorter optimisation will do
    rng: np.random.Generator
    threads: int
    neighbours: Neighbours | None = None  # of the features as reduced, where they are known
    device: str | None = None
    perplexity: float | None = None  # None: 30, or as much as the cells allow
    callback: Callable[[int, int, NDArray[np.float32]], None] | None = None


@dataclass(frozen=True)
class Made:
    """What a method gives: places, its own measures of quality, its settings."""

    coordinates: NDArray[np.float32]  # (N, 2)
    quality: Mapping[str, float]
    settings: Settings


Method = Callable[[NDArray[np.float32], Start], Made]
Callback = Callable[[str, int, int, NDArray[np.float32]], None]
"""(layer, iterations done, in all, places (N, 2)), while a map is made."""


def tsne(features: NDArray[np.float32], start: Start) -> Made:
    """t-SNE (van der Maaten & Hinton 2008) in time linear in the number of cells, see `tsne`.

    Gaussian affinities over the 3 × perplexity nearest neighbours, by the file `tsne.py`. On
    ``start.device``, a CPU where it is None. Raises SettingError for a perplexity that was asked
    for and is more than a third of the other cells.
    """
    # torch takes a second to load, and the rest of the room does without.
    from cytolens.embedding.tsne import Phase, optimise

    n = len(features)
    perplexity = min(PERPLEXITY, (n - 1) / 3) if start.perplexity is None else start.perplexity
    if 3 * perplexity > n - 1:
        raise SettingError(
            f"perplexity {perplexity:g} came; a map of {n} cells allows at most "
            f"{(n - 1) / 3:.3g}, a third of the other cells"
        )
    reduced = reduce_features(features)
    wanted = int(3 * perplexity)
    on_gpu = start.device if start.device not in (None, "cpu") else None
    found = start.neighbours
    if found is None or found.indices.shape[1] < wanted:
        found = _neighbours(reduced, max(wanted, NEIGHBOURS), on_gpu)
    if on_gpu is None:
        joint = joint_affinities(found.nearest(wanted), perplexity)
    else:
        from cytolens.embedding.on_gpu import joint_affinities_on

        joint = joint_affinities_on(found.nearest(wanted), perplexity, on_gpu)
    if start.settled and start.coordinates is not None:
        jitter = 1e-3 * start.rng.standard_normal((n, 2))  # parts cells that coincide
        places, phases = start.coordinates + jitter, CHAINED if n <= FEW else CHAINED_MANY
    else:
        places, phases = start_from(_first_places(start, reduced), rng=start.rng), FIRST
    coordinates, divergence = optimise(
        joint,
        places,
        [Phase(*phase) for phase in phases],
        threads=start.threads,
        device=start.device,
        callback=start.callback,
    )
    return Made(
        coordinates,
        {"kl_divergence": divergence},
        {
            "perplexity": float(perplexity),
            "iterations_and_exaggeration": [list(phase) for phase in phases],
            "reduced_to": reduced.shape[1] if reduced is not features else None,
        },
    )


def _neighbours(features: NDArray[np.float32], k: int, on_gpu: str | None) -> Neighbours:
    if on_gpu is None:
        return find_neighbours(features, k)
    from cytolens.embedding.on_gpu import find_neighbours_on

    return find_neighbours_on(features, k, on_gpu)


def pca(features: NDArray[np.float32], start: Start) -> Made:
    """The first two principal components, in the features' own units."""
    coordinates, shares = principal_components(features, 2)
    missing = 2 - coordinates.shape[1]
    coordinates = np.pad(coordinates, ((0, 0), (0, missing)))
    ratio = [*shares.tolist(), *[0.0] * missing]
    return Made(coordinates, {}, {"explained_variance_ratio": ratio})


def umap(features: NDArray[np.float32], start: Start) -> Made:
    """UMAP by umap-learn (McInnes, Healy & Melville 2018), 15 neighbours, minimum distance 0.1.

    An extra: raises MissingExtra where umap-learn is not installed. On one thread, since its
    result depends on the threads else.
    """
    library = _library("umap", "UMAP")
    reduced = reduce_features(features)
    neighbours = min(15, len(features) - 1)
    first = _first_places(start, reduced)
    model = library.UMAP(
        n_neighbors=neighbours,
        min_dist=0.1,
        init=start_from(first, rng=start.rng, spread=1).astype(np.float32),
        random_state=int(start.rng.integers(2**31)),
        n_jobs=1,
    )
    return Made(
        np.asarray(model.fit_transform(reduced), dtype=np.float32),
        {},
        {
            "neighbours": neighbours,
            "min_dist": 0.1,
            "reduced_to": reduced.shape[1] if reduced is not features else None,
        },
    )


def pacmap(features: NDArray[np.float32], start: Start) -> Made:
    """PaCMAP by its authors' library (Wang et al. 2021, JMLR 22), 10 neighbours.

    An extra: raises MissingExtra where pacmap is not installed.
    """
    library = _library("pacmap", "PaCMAP")
    reduced = reduce_features(features)
    neighbours = min(10, len(features) - 1)
    first = _first_places(start, reduced)
    model = library.PaCMAP(n_neighbors=neighbours, random_state=int(start.rng.integers(2**31)))
    begun = start_from(first, rng=start.rng, spread=1).astype(np.float32)
    return Made(
        np.asarray(model.fit_transform(reduced, init=begun), dtype=np.float32),
        {},
        {
            "neighbours": neighbours,
            "reduced_to": reduced.shape[1] if reduced is not features else None,
        },
    )


METHODS: dict[str, Method] = {"tsne": tsne, "pca": pca, "umap": umap, "pacmap": pacmap}


METRICS = ("euclidean", "cosine")


@of_all_layers
def embed(
    features: Any,
    *,
    method: str | Method = "tsne",
    perplexity: float | None = None,
    metric: str = "euclidean",
    name: str = "features",
    layers: Sequence[str] | None = None,
    initial: NDArray[np.floating] | None = None,
    neighbours: Mapping[str, Neighbours] | None = None,
    landmarks: int = MOST_MAPPED,
    device: str | None = None,
    rng: Rng = None,
    threads: int | None = None,
    progress: Progress | None = None,
    callback: Callback | None = None,
) -> dict[str, Embedding]:
    """A map of the cells from ``features`` (N, F); or of every depth, comparable depth by depth.

    ``features``: an array, or anything that NumPy makes one of: one map, of a layer called
    ``name``. Or activations, or arrays by layer name in depth order: a map of each, by layer.

    The pre-softmax layer (else the last but the logits) is mapped first, from its principal
    components or from ``initial`` (N, 2), say an earlier map. Each other depth starts from the
    map of its neighbour, and is then rotated and reflected onto it, never scaled; the settings
    name that neighbour and the median displacement of a cell against it, as a share of the
    map's width. Principal components start from nothing and are only reflected. A layer whose
    features are all the same gets a map with every cell at the origin and no quality.

    Of more than ``landmarks`` cells that many are mapped first, chosen at each depth for coverage
    (`choose_landmarks`). By t-SNE all cells are then refined together (`refine`), by other
    methods the others are placed among them. Principal components need none.

    ``layers``: those to map, default all. ``method``: ``tsne``, ``pca``, ``umap``, ``pacmap`` or
    a function like `tsne`. ``perplexity``: of t-SNE, about the number of neighbours that a cell is
    kept near to; from 2 to a third of the other cells, default 30 or, with fewer than 91 cells,
    that third. ``metric``: ``euclidean``, or ``cosine``, for which every cell's features are
    divided by their length first; quality is then measured on these. ``neighbours``: those of
    `layer_neighbours`, by layer, where they are at hand. ``device``: where t-SNE is made, default
    the CPU. ``threads``: default OMP_NUM_THREADS, or all cores. The result is the same for the same
    seed and number of threads.

    ``progress`` is called before every layer. ``callback`` is called every ten iterations of t-SNE
    with the layer, the iterations done and in all, and the places so far (N, 2).

    Raises InputError for features that are no matrix, fewer than 5 cells, unequal numbers of
    cells, NaN or infinity; SettingError for unknown layers, methods or metrics and for a
    perplexity out of range; MissingExtra for ``umap`` without umap-learn.

    >>> import numpy as np
    >>> features = np.random.default_rng(0).normal(size=(50, 8)) + np.repeat([0, 9], 25)[:, None]
    >>> found = embed(features, perplexity=10, rng=0)
    >>> print(found.coordinates.shape, found.settings["perplexity"])
    (50, 2) 10.0
    >>> list(embed({"conv1": features, "logits": features[:, :2]}, method="pca"))
    ['conv1', 'logits']
    """
    _check_perplexity(perplexity, method)
    metric = choose("metric", metric, METRICS)
    draw = generator(rng)
    method_name, make = _method(method)
    known = list(features)
    chosen = known if layers is None else [choose("layer", layer, known) for layer in layers]
    if not chosen:
        raise SettingError("no layers to map; name at least one, or leave the choice out")
    order = [layer for layer in known if layer in chosen]
    made: dict[str, Embedding] = {}
    n_cells = len(features[order[0]])
    first = start_layer(order)
    with limited_threads(threads) as count:
        for done, layer in enumerate(_chain(order, first)):
            if progress is not None:
                progress(done, len(order), f"{method_name} of {layer}")
            array = in_metric(checked_features(features[layer], name=layer), metric)
            _check_cells(len(array), n_cells, layer)
            origin = _neighbour(order, layer, first, made)
            fixed = initial if origin is None else made[origin].coordinates
            if fixed is not None and fixed.shape != (n_cells, 2):
                raise InputError(
                    f"the initial map has shape {fixed.shape}; ({n_cells}, 2) is needed"
                )
            start = Start(
                coordinates=None if fixed is None else np.asarray(fixed, dtype=np.float32),
                settled=origin is not None,
                rng=draw,
                threads=count,
                neighbours=(neighbours or {}).get(layer),
                device=device,
                perplexity=perplexity,
                callback=None if callback is None else partial(callback, layer),
            )
            found = _map(method_name, make, layer, array, start, landmarks)
            about = {
                "started_from": origin or ("initial" if fixed is not None else None),
                "metric": metric,
            }
            made[layer] = replace(found, settings={**found.settings, **about})
        if progress is not None:
            progress(len(order), len(order), "maps")
    return {layer: made[layer] for layer in order}


def layer_neighbours(features: Any, *, metric: str = "euclidean") -> Neighbours:
    """The neighbours that a map of ``features`` (N, F) rests on: `NEIGHBOURS` of each cell.

    Layers of over 256 features are reduced first.
    """
    array = in_metric(checked_features(features), metric)
    return find_neighbours(reduce_features(array), NEIGHBOURS)


def _check_perplexity(perplexity: float | None, method: str | Method) -> None:
    if perplexity is None:
        return
    if method != "tsne" and method is not tsne:
        raise SettingError(f"perplexity is a setting of t-SNE; leave it out with '{method}'")
    if not 2 <= perplexity < float("inf"):
        raise SettingError(f"perplexity {perplexity} came; give a number of at least 2")


def start_layer(layers: Sequence[str]) -> str:
    """The layer mapped first: ``pre_softmax``, else the last that is not ``logits``."""
    if "pre_softmax" in layers:
        return "pre_softmax"
    return next((layer for layer in reversed(layers) if layer != "logits"), layers[-1])


def _method(method: str | Method) -> tuple[str, Method]:
    if callable(method):
        return getattr(method, "__name__", "own"), method
    name = choose("method", method, list(METHODS))
    return name, METHODS[name]


def _chain(order: Sequence[str], first: str) -> list[str]:
    """``first``, then down to the input, then up to the logits."""
    at = order.index(first)
    return [*order[at::-1], *order[at + 1 :]]


def _neighbour(
    order: Sequence[str], layer: str, first: str, made: Mapping[str, Embedding]
) -> str | None:
    """The nearest layer towards ``first`` whose map has an extent, or None."""
    at, start = order.index(layer), order.index(first)
    between = order[at + 1 : start + 1] if at < start else order[start:at][::-1]
    return next((name for name in between if made[name].coordinates.any()), None)


def _map(
    name: str,
    make: Method,
    layer: str,
    features: NDArray[np.float32],
    start: Start,
    landmarks: int,
) -> Embedding:
    """The map of one layer, laid onto the one that it started from."""
    nowhere = np.zeros((len(features), 2), dtype=np.float32)
    if is_constant(features):
        return Embedding(layer, name, nowhere, {}, {"constant_features": True})
    if name == "pca" or len(features) <= landmarks:
        made = make(features, start)
    else:
        made = _by_landmarks(name, make, features, start, landmarks)
    coordinates, settings = np.asarray(made.coordinates, dtype=np.float32), dict(made.settings)
    if name == "tsne" and np.ptp(coordinates, axis=0).max() < LEAST_EXTENT:
        return Embedding(layer, name, nowhere, {}, {**settings, "collapsed": True})
    if start.coordinates is not None:
        lay = flip if name == "pca" else align
        coordinates = lay(coordinates, start.coordinates)
        settings["displacement"] = displacement(coordinates, start.coordinates)
    quality = measure_quality(features, coordinates, rng=start.rng)
    return Embedding(layer, name, coordinates, {**quality, **made.quality}, settings)


def _by_landmarks(
    name: str, make: Method, features: NDArray[np.float32], start: Start, count: int
) -> Made:
    """A map of ``count`` landmarks, on which the other cells are placed.

    By t-SNE they are then refined all together (`refine`); else each is placed by itself.
    """
    reduced = reduce_features(features)
    chosen = choose_landmarks(reduced, count, rng=start.rng)
    first = None if start.coordinates is None else start.coordinates[chosen]
    made = make(reduced[chosen], replace(start, coordinates=first, neighbours=None))
    settings = {
        **made.settings,
        "landmarks": count,
        "reduced_to": reduced.shape[1] if reduced is not features else None,
    }
    if name == "tsne":
        coordinates, divergence = refine(
            reduced, chosen, made.coordinates,
            rng=start.rng, threads=start.threads, device=start.device, callback=start.callback,
        )  # fmt: skip
        settings["refined_with_neighbours"] = REFINED_OVER
        return Made(coordinates, {"kl_divergence": divergence}, settings)
    places = np.asarray(made.coordinates, dtype=np.float64)
    placer = Placer(Reference(reduced[chosen]), places, "mean of neighbours")
    coordinates = np.empty((len(features), 2), dtype=np.float32)
    coordinates[chosen] = made.coordinates
    others = np.setdiff1d(np.arange(len(features)), chosen, assume_unique=True)
    for begin in range(0, len(others), PLACED_AT_ONCE):
        some = others[begin : begin + PLACED_AT_ONCE]
        coordinates[some] = placer.place(reduced[some])
    return Made(coordinates, made.quality, settings)


def _library(module: str, name: str) -> Any:
    """A library that is an extra of the same name as its module."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise MissingExtra(name, module) from error


def _first_places(start: Start, features: NDArray[np.float32]) -> NDArray[np.float32]:
    """Where to start, else two principal components (N, 2), zeros where there is only one."""
    if start.coordinates is not None:
        return start.coordinates
    components, _ = principal_components(features, 2)
    return np.pad(components, ((0, 0), (0, 2 - components.shape[1])))


def _check_cells(n: int, expected: int, layer: str) -> None:
    if n < FEWEST_CELLS:
        raise InputError(f"a map needs at least {FEWEST_CELLS} cells, got {n}")
    if n != expected:
        raise InputError(f"layer {layer} has {n} cells where others have {expected}")
