"""Features (N, F) of cells as other rooms take them: checked, scaled, cut to a few components."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from cytolens.errors import InputError

REDUCE_ABOVE = 256
"""Features above which a layer is reduced before a map is made. Reducing costs recall (128-D
features cut to 50: 0.94 at best), so it is done only where distances would dominate the time."""

REDUCED_TO = 50


def feature_matrix(features: Any, *, name: str = "features") -> NDArray[np.float32]:
    """``features`` as a C-contiguous float32 array (N, F), whatever array-like came.

    Raises InputError, naming the layer, where they are not a matrix of numbers.
    """
    try:
        with np.errstate(over="ignore"):  # beyond float32: infinite
            array = np.asarray(features, dtype=np.float32)
    except (TypeError, ValueError) as error:
        raise InputError(
            f"{name}: an array (cells, features) of numbers is needed, got {_kind(features)}"
        ) from error
    if array.ndim != 2 or array.shape[1] == 0:
        raise InputError(f"{name}: an array (cells, features) is needed, got shape {array.shape}")
    return np.ascontiguousarray(array)


def checked_features(features: Any, *, name: str = "features") -> NDArray[np.float32]:
    """`feature_matrix`, without gaps: raises InputError where it holds NaN or infinity too."""
    array = feature_matrix(features, name=name)
    broken = int((~np.isfinite(array).all(axis=1)).sum())
    if broken:
        raise InputError(
            f"{name}: {broken} of {len(array)} cells have NaN or infinite features; leave them out"
        )
    return array


def _kind(features: Any) -> str:
    kind = type(features).__name__
    dtype = getattr(features, "dtype", None)
    return f"a {kind}" if dtype is None else f"a {kind} of {dtype}"


def is_constant(features: NDArray[np.float32]) -> bool:
    """Whether all cells have the same features, as at a layer of dead channels."""
    return bool((features == features[:1]).all())


def unit_rows(features: NDArray[np.float32]) -> NDArray[np.float32]:
    """Each row divided by its length, so that Euclidean distances order cells as cosines do.

    The squared distance of two such rows is 2 - 2 cosine. Rows of zeros stay zeros.
    """
    length = np.linalg.norm(features.astype(np.float64), axis=1, keepdims=True)
    return np.divide(features, length, out=np.zeros(features.shape), where=length > 0).astype(
        np.float32
    )


def in_metric(features: NDArray[np.float32], metric: str) -> NDArray[np.float32]:
    """Features whose Euclidean distances order cells as the metric does."""
    return unit_rows(features) if metric == "cosine" else features


def centred(features: NDArray[np.float32]) -> NDArray[np.float32]:
    """Features about their mean: distances from squares then keep the digits of float32."""
    mean = features.mean(axis=0, dtype=np.float64)
    return np.ascontiguousarray(features - mean.astype(np.float32))


def principal_components(
    features: NDArray[np.float32], dimensions: int, *, seed: int = 0
) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
    """The first principal components (N, d) and the share of variance each explains (d,).

    d is ``dimensions``, or as many as there are. Signs are fixed, so the result is determined.
    """
    dimensions = min(dimensions, *features.shape)
    from sklearn.decomposition import PCA  # slow to load

    if is_constant(features):
        return np.zeros((len(features), dimensions), dtype=np.float32), np.zeros(dimensions)
    about = centred(features)
    scale = float(np.abs(about).max())  # tiny or huge features keep their digits
    pca = PCA(dimensions, random_state=seed)
    components = pca.fit_transform(about / scale) * scale
    return np.ascontiguousarray(components, dtype=np.float32), pca.explained_variance_ratio_


def reduce_features(features: NDArray[np.float32], *, seed: int = 0) -> NDArray[np.float32]:
    """The first `REDUCED_TO` principal components where there are over `REDUCE_ABOVE` features."""
    if features.shape[1] <= REDUCE_ABOVE:
        return features
    return principal_components(features, REDUCED_TO, seed=seed)[0]
