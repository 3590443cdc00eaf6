"""Scatter between classes against scatter within them, for many labellings or resamples."""

import numpy as np
from numpy.typing import NDArray

from cytolens.numerics.resampling import Labels

Array = NDArray[np.float32]
_ROWS = 128  # class means that are taken in one product: fast, and small in memory


def scatter_ratios(
    features: Array, labellings: Labels, counts: NDArray[np.floating] | None = None
) -> NDArray[np.float64]:
    """Fisher ratio and within-class collapse NC1 of ``features`` (N, F), by labelling: (R, 2).

    ``labellings`` (R, N) are classes from 0, ``counts`` (R, N) how often each cell is drawn; by
    default once. With S_B the scatter of the class means about their mean and S_W the mean of
    the classes' covariances, all K classes weighing the same,

    - Fisher ratio tr(S_B) / tr(S_W): 0 where classes have the same mean, higher is better
      (Fukunaga 1990, Introduction to Statistical Pattern Recognition, section 10.2, J4);
    - NC1 = tr(S_W S_B⁺) / K: 0 where each class is one point, lower is better (Papyan, Han &
      Donoho 2020, PNAS 117, 24652, "variability collapse", there with classes of equal size).

    Rotating and scaling features changes neither. Features are best centred: they are float32.
    Classes without cells are left out. The Fisher ratio is infinite where each class is a point;
    both are NaN where all cells are one point, NC1 where all class means are.
    """
    k = int(labellings.max()) + 1
    squares = (features**2).sum(axis=1, dtype=np.float64)
    step = max(1, _ROWS // k)
    found = np.empty((len(labellings), 2))
    for start in range(0, len(labellings), step):
        some = slice(start, start + step)
        members = (labellings[some, None] == np.arange(k)[:, None]).astype(np.float32)
        if counts is not None:
            members *= counts[some, None].astype(np.float32)
        found[some] = _ratios(features, squares, members)
    return found


def _ratios(features: Array, squares: NDArray[np.float64], members: Array) -> NDArray[np.float64]:
    """For class memberships ``members`` (R, K, N): (R, 2)."""
    r, k, n = members.shape
    sizes = members.sum(axis=2, dtype=np.float64)  # (R, K)
    present = sizes > 0
    share = present / present.sum(axis=1, keepdims=True)  # of each class in means over classes
    sizes = np.maximum(sizes, 1)
    means = (members.reshape(r * k, n) @ features).reshape(r, k, -1) / sizes[:, :, None]
    within = (share * ((members @ squares) / sizes - (means**2).sum(axis=2))).sum(axis=1)
    centred = (means - (share[:, :, None] * means).sum(axis=1, keepdims=True)) * present[..., None]
    gram = centred @ centred.transpose(0, 2, 1)  # K S_B, in the plane of the means
    count = present.sum(axis=1)
    between = np.trace(gram, axis1=1, axis2=2) / count
    scale = between + np.maximum(within, 0)
    within = np.where(within < 1e-6 * scale, 0, within)  # rounding of float32
    power, turn = np.linalg.eigh(gram)  # (R, K), (R, K, K)
    kept = power > 1e-6 * np.maximum(power[:, -1:], 1e-300)
    # u = centred' v / sqrt(power) spans the means, S_B⁺ = sum of K u u' / power. Axes: each
    # u / sqrt(power), so that NC1 is the variance within along all of them; 0 where not kept.
    scaled = np.divide(turn, power[:, None], out=np.zeros_like(turn), where=kept[:, None])
    axes = scaled.transpose(0, 2, 1)[:, 1:] @ centred  # (R, K - 1, F); the first power is 0
    along = features @ axes.reshape(r * (k - 1), -1).astype(np.float32).T
    squared = (along**2).reshape(n, r, k - 1).sum(axis=2)  # (N, R)
    about = ((means @ axes.transpose(0, 2, 1)) ** 2).sum(axis=2)  # (R, K)
    second = np.einsum("rkn,nr->rk", members, squared, dtype=np.float64)
    nc1 = (share * (second / sizes - about)).sum(axis=1)
    fisher = np.full(r, np.nan)
    fisher[scale > 0] = np.inf
    np.divide(between, within, out=fisher, where=within > 0)
    defined = (scale > 0) & (between > 1e-12 * scale)
    return np.stack([fisher, np.where(defined, np.maximum(nc1, 0), np.nan)], axis=1)
