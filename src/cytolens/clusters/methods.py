"""Ways to find groups of cells in a layer's features; the entries of `METHODS` a user can name."""

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cytolens.errors import SettingError, choose
from cytolens.numerics.features import principal_components, reduce_features
from cytolens.numerics.neighbours import find_neighbours, nearest_of
from cytolens.numerics.resampling import Labels
from cytolens.numerics.separability import pair_distances, silhouettes
from cytolens.records.cells import Settings

JUDGED_ON = 2000  # cells on which a number of clusters is judged
DENSE_DIMENSIONS = 10  # density means little in more
DENSE_FIT = 5000  # cells a density is estimated from; others join their nearest neighbour
MIXTURE_FIT = 2000  # cells a mixture is fitted to; it says itself where the others belong
GRAPH_FIT = 20_000  # cells of the neighbour graph; others join their nearest neighbour
GRAPH_NEIGHBOURS = 15
RESOLUTIONS = (0.1, 0.2, 0.4, 0.7, 1.0)
COVARIANCES: tuple[Any, ...] = ("diag", "tied", "full")

Method = Callable[
    [NDArray[np.float32], int | None, range, np.random.Generator], tuple[Labels, Settings]
]
"""(features (N, F), number asked for or None, numbers to try, rng) -> labels (N,), settings."""


def kmeans(
    features: NDArray[np.float32],
    n_clusters: int | None,
    candidates: range,
    rng: np.random.Generator,
    *,
    starts: int = 5,
) -> tuple[Labels, Settings]:
    """k-means, the best of five k-means++ ``starts`` (Arthur & Vassilvitskii 2007).

    Layers of over 256 features are first cut to 50 principal components.
    """
    from sklearn.cluster import KMeans  # slow to load

    seen = reduce_features(features)
    seed = int(rng.integers(2**31))
    distinct = len(np.unique(seen, axis=0))
    tries: Any = starts  # the type is declared by its default, "auto"

    def fit(k: int) -> Labels:
        return KMeans(k, n_init=tries, random_state=seed).fit_predict(seen).astype(np.int64)

    settings: Settings = {"reduced_to": seen.shape[1] if seen is not features else None}
    if n_clusters is not None:
        k = min(n_clusters, distinct)
        return fit(k), {**settings, "n_clusters": k, "chosen_by": "given"}
    most = max(2, min(distinct, len(seen) // 2))
    fits = {k: fit(k) for k in sorted({min(k, most) for k in candidates})}
    scores = dict(zip(fits, _mean_silhouettes(seen, list(fits.values()), rng)))
    best = max(scores, key=lambda k: scores[k])
    return fits[best], {
        **settings,
        "n_clusters": best,
        "chosen_by": "silhouette",
        "silhouettes": {str(k): score for k, score in scores.items()},
    }


def gmm(
    features: NDArray[np.float32],
    n_clusters: int | None,
    candidates: range,
    rng: np.random.Generator,
) -> tuple[Labels, Settings]:
    """A mixture of Gaussians on at most 10 principal components (McLachlan & Peel 2000).

    The number, 1 included, and the kind of covariance (diagonal, one full for all, full) are those
    with the lowest BIC (Schwarz 1978; Fraley & Raftery 2002); two numbers after which it has
    not come down end the search. Of more than 2,000 cells a seeded
    draw is fitted, and the mixture places the others. Where cells are skewed rather than lumped,
    several Gaussians describe one lump.
    """
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.mixture import GaussianMixture

    seen, _ = principal_components(features, DENSE_DIMENSIONS)
    seen = seen[:, seen.std(axis=0) > 0] / seen.std()  # so that the ridge below is a share of it
    seed = int(rng.integers(2**31))
    fitted = _drawn(len(seen), MIXTURE_FIT, rng)
    most = min(len(np.unique(seen[fitted], axis=0)), max(1, len(fitted) // 5))
    numbers = [n_clusters] if n_clusters is not None else [1, *candidates]
    tried = sorted({min(k, most if n_clusters is None else len(fitted)) for k in numbers})
    best, scores = None, dict[str, float]()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # a mixture of too many
        for k in tried:
            if best is not None and k > best[1].n_components + 2:
                break
            for kind in COVARIANCES:
                model = GaussianMixture(k, covariance_type=kind, reg_covar=1e-4, random_state=seed)
                model.fit(seen[fitted])
                score = float(model.bic(seen[fitted]))
                scores[str(k)] = min(score, scores.get(str(k), np.inf))
                if best is None or score < best[0]:
                    best = score, model, kind
    assert best is not None
    return best[1].predict(seen).astype(np.int64), {
        "n_clusters": best[1].n_components,
        "chosen_by": "BIC" if n_clusters is None else "given",
        "covariance": best[2],
        "reduced_to": seen.shape[1],
        "bic": scores,
    }


def hdbscan(
    features: NDArray[np.float32],
    n_clusters: int | None,
    candidates: range,
    rng: np.random.Generator,
) -> tuple[Labels, Settings]:
    """HDBSCAN (Campello, Moulavi & Sander 2013) on at most 10 principal components.

    A cluster has at least 2 % of the cells (and 5). ``n_clusters`` is not asked for: the
    density decides, also that a cell belongs to none (-1); where cells form one continuum, as
    at most layers of real cells, that can be all. Of more than 5,000 cells a seeded draw is
    clustered, and each other cell joins its nearest neighbour in it.
    """
    from sklearn.cluster import HDBSCAN

    _refuse_number("hdbscan", n_clusters)
    seen, _ = principal_components(features, DENSE_DIMENSIONS)
    n = len(seen)
    fitted = _drawn(n, DENSE_FIT, rng)
    smallest = max(5, len(fitted) // 50)
    settings: Settings = {"min_cluster_size": smallest, "reduced_to": seen.shape[1]}
    found = np.full(n, -1, dtype=np.int64)
    if len(fitted) < 2 * smallest:
        return found, settings
    copy: Any = True  # the same, "warn"
    model = HDBSCAN(min_cluster_size=smallest, min_samples=5, copy=copy)
    found[fitted] = model.fit_predict(seen[fitted])
    if n > len(fitted):
        found = found[fitted][nearest_of(seen, seen[fitted])]
    return found, {**settings, "fitted_on": len(fitted)}


def leiden(
    features: NDArray[np.float32],
    n_clusters: int | None,
    candidates: range,
    rng: np.random.Generator,
) -> tuple[Labels, Settings]:
    """Communities of the neighbour graph by the Leiden algorithm (Traag, Waltman & van Eck 2019).

    Edges join 15 nearest neighbours, weighted by the share of neighbours in common (Levine et al.
    2015, PhenoGraph). Of the partitions with the highest modularity at resolutions from 0.1 to 1
    that of the highest silhouette is taken; modularity alone cuts a continuum into many.
    ``n_clusters`` is not asked for. Of more than 20,000 cells a seeded draw makes the graph, and
    each other cell joins its nearest neighbour in it.
    """
    import graspologic_native

    _refuse_number("leiden", n_clusters)
    seen = reduce_features(features)
    fitted = _drawn(len(seen), GRAPH_FIT, rng)
    some = seen[fitted]
    graph = _shared_neighbours(some)
    seed = int(rng.integers(2**31))
    find: Any = getattr(graspologic_native, "leiden_csr")  # noqa: B009, it comes without types
    fits: dict[float, Labels] = {}
    for resolution in RESOLUTIONS:
        _, found = find(
            graph.indptr.astype(np.int64), graph.indices.astype(np.int32), graph.data, len(some),
            resolution=resolution, iterations=2, seed=seed,
        )  # fmt: skip
        fits[resolution] = np.array([found.get(i, 0) for i in range(len(some))], dtype=np.int64)
    several = {r: found for r, found in fits.items() if 1 < found.max() + 1 <= max(candidates)}
    settings: Settings = {"neighbours": min(GRAPH_NEIGHBOURS, len(some) - 1)}
    settings |= {"reduced_to": seen.shape[1] if seen is not features else None}
    if several:
        scores = dict(zip(several, _mean_silhouettes(some, list(several.values()), rng)))
        best = max(scores, key=lambda r: scores[r])
        settings["silhouettes"] = {str(r): score for r, score in scores.items()}
    else:
        best = min(RESOLUTIONS)
    labels = fits[best]
    if len(seen) > len(some):
        labels = labels[nearest_of(seen, some)]
    settings |= {"resolution": best, "n_clusters": int(labels.max()) + 1}
    return labels, {**settings, "chosen_by": "silhouette"}


METHODS: dict[str, Method] = {"kmeans": kmeans, "gmm": gmm, "hdbscan": hdbscan, "leiden": leiden}
NUMBERED = ("kmeans", "gmm")
"""Methods that part the cells into as many clusters as they are asked for."""


def find_method(method: str | Method) -> tuple[str, Method]:
    """Name and function of a clustering method. Raises SettingError for an unknown name."""
    if callable(method):
        return getattr(method, "__name__", "own"), method
    name = choose("clustering method", method, list(METHODS))
    return name, METHODS[name]


def _refuse_number(name: str, n_clusters: int | None) -> None:
    if n_clusters is not None:
        raise SettingError(f"{name} finds the number of clusters itself; leave n_clusters out")


def _drawn(n: int, most: int, rng: np.random.Generator) -> Labels:
    """All of ``n`` cells, or a sorted draw of ``most``."""
    return np.arange(n) if n <= most else np.sort(rng.choice(n, most, replace=False))


def _mean_silhouettes(
    features: NDArray[np.float32], labellings: list[Labels], rng: np.random.Generator
) -> list[float]:
    """Mean silhouette of each labelling on at most `JUDGED_ON` cells."""
    judged = np.arange(len(features))
    if len(features) > JUDGED_ON:
        judged = rng.choice(len(features), JUDGED_ON, replace=False)
    stacked = np.stack([labels[judged] for labels in labellings])
    return silhouettes(pair_distances(features[judged]), stacked).mean(axis=1).tolist()


def _shared_neighbours(features: NDArray[np.float32]) -> Any:
    """Symmetric (N, N): for neighbours, the Jaccard index of their neighbourhoods."""
    from scipy.sparse import csr_array

    n = len(features)
    near = find_neighbours(features, GRAPH_NEIGHBOURS).indices
    own = np.column_stack([np.arange(n), near])  # a cell is of its own neighbourhood
    size = own.shape[1]
    rows = np.repeat(np.arange(n), size)
    near_to = csr_array((np.ones(own.size), (rows, own.ravel())), shape=(n, n))
    joined = ((near_to + near_to.T) > 0).astype(np.float64)
    joined.setdiag(0)
    joined.eliminate_zeros()
    common = (near_to @ near_to.T).multiply(joined).tocsr()
    common.data = common.data / (2 * size - common.data)
    common.sort_indices()
    return common
