"""Cells that deserve a second look: those whose label is doubtful, and crops that are odd."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cytolens.errors import InputError
from cytolens.knowledge.oddness import find_odd
from cytolens.numerics.estimates import Rng, generator
from cytolens.numerics.features import checked_features
from cytolens.numerics.neighbours import find_neighbours
from cytolens.numerics.probe import probe_features
from cytolens.numerics.resampling import Labels, assign_folds, codes
from cytolens.numerics.ridge import held_out_fits
from cytolens.numerics.threads import limited_threads
from cytolens.records.cells import Progress
from cytolens.records.knowledge import Suspects

Floats = NDArray[np.float64]

NEIGHBOURS = 15
FOLDS = 10
_SHARPNESS = np.geomspace(0.25, 32, 22)  # tried: how much the scores are trusted
_FLOOR = 1e-3  # no voter gives a class less than this


def find_suspects(
    features: Mapping[str, Any],
    labels: NDArray[np.integer],
    *,
    judged: NDArray[np.int64] | None = None,
    probabilities: NDArray[np.floating] | None = None,
    properties: Mapping[str, NDArray[np.float64]] | None = None,
    checks: Mapping[str, NDArray[np.float64]] | None = None,
    rng: Rng = None,
    threads: int | None = None,
    progress: Progress | None = None,
) -> Suspects:
    """Cells whose label is doubted by ``features`` (N, F) of each layer, and odd cells.

    No voter on a cell has seen its label: at each layer a linear probe fitted to the other cells
    (ridge regression on class indicators, 10 folds), and the cell's 15 nearest other cells; and
    the network's own ``probabilities`` (N, K), which must be NaN for cells that it was trained
    on, since it may have memorised their labels. Each voter's answers become probabilities by the
    sharpness that fits the given labels best (one number per voter; Guo et al. 2017), and voters
    are pooled by the mean of their log probabilities, weighted by the bits of information that each
    has on the labels (logarithmic opinion pool, Genest & Zidek 1986, Stat. Sci. 1): a layer that
    knows nothing has no weight. Cells for which another class is likelier than their own are listed
    by the log odds, the surest first. Either the label is wrong, or all voters are wrong about the
    cell: look at it to decide.

    Odd cells are found as in `oddness.find_odd`. Features are of the cells ``judged`` (N,), whose
    numbers the result is given in. Raises InputError where lengths differ.

    >>> labels = np.repeat([0, 1], 40)
    >>> features = np.random.default_rng(0).normal(size=(80, 4)) + 6 * labels[:, None]
    >>> labels[7] = 1  # a wrong label
    >>> found = find_suspects({"conv1": features}, labels, rng=0)
    >>> print(found.labels, found.given, found.suggested)
    [7] [1] [0]
    """
    draw = generator(rng)
    y = codes(np.asarray(labels))
    names = np.unique(np.asarray(labels))
    n, k = len(y), len(names)
    for name, rows in features.items():
        if len(rows) != n:
            raise InputError(f"{name}: features of {len(rows)} cells for {n} labels")
    place = np.arange(n) if judged is None else np.asarray(judged, dtype=np.int64)
    votes: dict[str, Floats] = {}
    folds = assign_folds(y, groups=None, most=FOLDS, rng=draw)
    indicators = (y[:, None] == np.arange(k)).astype(np.float64)
    deepest: NDArray[np.float32] | None = None
    with limited_threads(threads, cells=n):
        for done, (name, given) in enumerate(features.items()):
            if progress is not None:
                progress(done, len(features), name)
            rows = deepest = checked_features(given, name=name)
            if k < 2 or n < 2 * NEIGHBOURS:
                continue
            fits, means, _ = held_out_fits(probe_features(rows), indicators, folds)
            votes[f"probe at {name}"] = _calibrated(fits + means, y)
            votes[f"neighbours at {name}"] = _calibrated(_neighbour_shares(rows, y, draw), y)
        if probabilities is not None and k > 1:
            own = np.log(np.clip(np.asarray(probabilities, np.float64)[:, names], 1e-6, 1))
            votes["network"] = _calibrated(own, y)
        odd, reasons, oddness, remarks = find_odd(
            properties or {}, checks or {}, y, features=deepest
        )
    pooled = _pooled(votes, y, k)
    given = pooled[np.arange(n), y]
    others = np.where(indicators > 0, -np.inf, pooled)
    score = others.max(axis=1, initial=-np.inf) - given
    doubted = np.flatnonzero(score > 0)
    doubted = doubted[np.argsort(-score[doubted], kind="stable")]
    return Suspects(
        judged=place,
        labels=place[doubted],
        given=names[y[doubted]].astype(np.int64),
        suggested=names[others[doubted].argmax(axis=1)].astype(np.int64)
        if k
        else np.empty(0, np.int64),
        score=score[doubted],
        votes={name: np.exp(found[doubted, y[doubted]]) for name, found in votes.items()},
        odd=place[odd],
        reasons=reasons,
        oddness=oddness,
        remarks=remarks,
    )


def _neighbour_shares(
    features: NDArray[np.float32], y: Labels, draw: np.random.Generator
) -> Floats:
    """The log of the share of each class among a cell's neighbours (N, K), the nearer the more.

    Cells are shuffled first, as those that coincide are found in their order.
    """
    order = draw.permutation(len(y))
    place = np.argsort(order)
    found = find_neighbours(np.ascontiguousarray(features[order]), NEIGHBOURS)
    near, distance = order[found.indices[place]], found.distances[place].astype(np.float64)
    scale = distance[:, -1:]
    weight = np.where(scale > 0, 1.25 - distance / np.where(scale > 0, scale, 1), 1.0)
    k = int(y.max(initial=0)) + 1
    shares = np.stack([(weight * (y[near] == one)).sum(axis=1) for one in range(k)], axis=1)
    prior = np.bincount(y, minlength=k) / len(y)
    return np.log((shares + prior) / (weight.sum(axis=1, keepdims=True) + 1))


def _calibrated(scores: Floats, y: Labels) -> Floats:
    """Log probabilities (N, K) from scores: by the softmax whose sharpness fits ``y`` best."""
    known = np.isfinite(scores).all(axis=1)
    tried = [_log_softmax(sharp * scores) for sharp in _SHARPNESS]
    losses = [-one[known, y[known]].mean() if known.any() else 0.0 for one in tried]
    return np.maximum(tried[int(np.argmin(losses))], np.log(_FLOOR))


def _log_softmax(scores: Floats) -> Floats:
    shifted = scores - scores.max(axis=1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))


def _pooled(votes: Mapping[str, Floats], y: Labels, k: int) -> Floats:
    """Log probabilities (N, K) by all voters, each weighted by the bits it has on ``y``."""
    prior = np.maximum(np.bincount(y, minlength=k), 1) / max(len(y), 1)
    total, weights = np.zeros((len(y), k)), np.zeros((len(y), 1))
    for found in votes.values():
        known = np.isfinite(found).all(axis=1)
        bits = (found[known, y[known]] - np.log(prior[y[known]])).mean() if known.any() else 0.0
        weight = max(float(bits), 0.0)
        total[known] += weight * found[known]
        weights[known] += weight
    return np.where(weights > 0, total / np.where(weights > 0, weights, 1), np.log(prior))
