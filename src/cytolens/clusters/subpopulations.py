"""What distinguishes some cells from others, by what is measured on them; and the words for it."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from cytolens.errors import InputError
from cytolens.numerics.auc import area_error, areas_from_ranks
from cytolens.numerics.estimates import Estimate, Rng, generator, mean_ranks, spearman
from cytolens.numerics.intervals import SHARE, UNKNOWN, no_interval, t_interval
from cytolens.numerics.resampling import Labels, codes, permuted_labels
from cytolens.records.clusters import ClusterDescription, Difference

Floats = NDArray[np.float64]

NAMED = 3  # differences in a name, at most
NEGLIGIBLE, SMALL = 0.56, 0.64  # AUC; Vargha & Delaney 2000
_ALIKE = 0.7  # rank correlation with what was named, above which a property says the same

WORDS: Mapping[str, tuple[str, str]] = {
    "area": ("larger", "smaller"),
    "eccentricity": ("more elongated", "rounder"),
    "solidity": ("smoother in outline", "more indented"),
    "lobes": ("more lobed", "less lobed"),
    "mean_brightness": ("brighter", "dimmer"),
    "total_brightness": ("brighter in total", "dimmer in total"),
    "unevenness": ("more uneven", "more even"),
    "texture_contrast": ("higher in texture contrast", "lower in texture contrast"),
    "texture_entropy": ("richer in texture", "plainer in texture"),
    "focus": ("sharper", "more blurred"),
    "off_centre": ("further off centre", "better centred"),
    "offset_x": ("further right", "further left"),
    "offset_y": ("further down", "further up"),
    "background": ("on brighter background", "on darker background"),
    "crop_height": ("in taller crops", "in lower crops"),
    "crop_width": ("in wider crops", "in narrower crops"),
    "crop_size": ("in larger crops", "in smaller crops"),
    "padding_share": ("more padded", "less padded"),
}
"""What cells with more, and with less, of a measured property are called."""


def describe_clusters(
    labels: NDArray[np.integer],
    properties: Mapping[str, NDArray[np.floating]],
    *,
    groups: NDArray[np.generic] | None = None,
    permutations: int = 200,
    rng: Rng = None,
) -> tuple[ClusterDescription, ...]:
    """How the cells of each cluster differ from all the others, and a name made from it.

    ``labels`` (N,), -1 for cells of no cluster, which count among the others; ``properties``: name
    -> (N,), NaN where not known, constant ones left out. The effect size is the AUC: the share of
    pairs in which the cell of the cluster has more (Vargha & Delaney 2000, Cliff's delta is 2 AUC
    - 1). Its interval is by DeLong et al. 1988, over groups where there are some (Obuchowski 1997,
    Biometrics 53, with t of G - 1 degrees of freedom). Its null is the 95 % limit of the largest
    deviation, in standard errors, of all properties and clusters when cells exchange clusters,
    within groups where clusters cross them (Westfall & Young 1993): what exceeds it stands
    although many were tried. Up to three such
    differences that are not negligible make the name, the strongest first, none twice in other
    words. Raises InputError for properties of another number of cells.

    >>> found = np.repeat([0, 1], 40)
    >>> area = np.random.default_rng(0).normal(size=80) + 3 * found
    >>> [described.name for described in describe_clusters(found, {"area": area}, rng=0)]
    ['smaller', 'larger']
    """
    found = np.asarray(labels, dtype=np.int64)
    count = int(found.max(initial=-1)) + 1
    values = {name: np.asarray(column, np.float64) for name, column in properties.items()}
    for name, column in values.items():
        if column.shape != found.shape:
            raise InputError(f"property '{name}': {column.shape} values for {len(found)} cells")
    values = {name: column for name, column in values.items() if _varies(column)}
    sizes = np.bincount(found[found >= 0], minlength=count)
    if not values or count == 0:
        return tuple(ClusterDescription("", (), int(size)) for size in sizes)
    table = np.stack(list(values.values()), axis=1)  # (N, P)
    group = codes(groups)
    areas = _areas(found[None], table, count)[0]  # (K, P)
    errors = _null_errors(found, table, count)
    draw = generator(rng)
    shuffled = permuted_labels(found, groups=group, permutations=permutations, rng=draw)
    extreme = np.nan_to_num(np.abs(_areas(shuffled, table, count) - 0.5) / errors)
    reach = float(np.percentile(extreme.max(axis=(1, 2)), 95))
    described: list[ClusterDescription] = []
    for k in range(count):
        differences: list[Difference] = []
        for p, name in enumerate(values):
            if not np.isfinite(areas[k, p]):
                continue
            known = np.isfinite(table[:, p])
            own = None if group is None else group[known]
            error = area_error((found == k)[known], table[known, p], own)
            null = min(1.0, 0.5 + reach * errors[k, p])
            auc = _estimate(float(areas[k, p]), error, own, float(null))
            differences.append(Difference(name, auc))
        differences.sort(key=lambda d: -abs(d.auc.value - 0.5))
        name = _name(differences, values)
        described.append(ClusterDescription(name, tuple(differences), int(sizes[k])))
    return tuple(described)


def _estimate(area: float, error: float, groups: Labels | None, null: float) -> Estimate:
    """An area with its standard error as an estimate; over ``groups`` by t, of three or more."""
    if groups is None:
        low, high = np.clip(area + np.array([-1.96, 1.96]) * error, 0, 1)
        return Estimate(area, float(low), float(high), null)
    count = len(np.unique(groups))
    why = no_interval(np.zeros(count))
    ends = UNKNOWN if why else t_interval(area, error, count - 1, within=SHARE)
    return Estimate(area, *ends, null, no_interval=why)


def word(difference: Difference) -> str:
    """A difference in words: "larger", "slightly dimmer", "higher age"."""
    more = difference.auc.value >= 0.5
    if difference.name in WORDS:
        text = WORDS[difference.name][0 if more else 1]
    else:
        text = f"{'higher' if more else 'lower'} in {difference.name.replace('_', ' ')}"
    distance = abs(difference.auc.value - 0.5) + 0.5
    return f"slightly {text}" if distance < SMALL else text


def _name(differences: list[Difference], values: Mapping[str, Floats]) -> str:
    chosen: list[Difference] = []
    for difference in differences:
        if len(chosen) == NAMED or abs(difference.auc.value - 0.5) < NEGLIGIBLE - 0.5:
            break
        column = values[difference.name]
        if difference.proven and not any(_alike(column, values[c.name]) for c in chosen):
            chosen.append(difference)
    return ", ".join(word(difference) for difference in chosen)


def _alike(a: Floats, b: Floats) -> bool:
    known = np.isfinite(a) & np.isfinite(b)
    return bool(abs(spearman(a[known][None], b[known][None])[0]) > _ALIKE)


def _varies(column: Floats) -> bool:
    known = column[np.isfinite(column)]
    return len(known) > 1 and bool((known != known[0]).any())


def _areas(labellings: Labels, table: Floats, count: int) -> Floats:
    """AUC of each property for each cluster against the rest, (R, K, P); NaN where undefined."""
    known = np.isfinite(table)
    ranks = np.stack(
        [_ranks(column, where) for column, where in zip(table.T, known.T)], axis=1
    )  # (N, P), 0 where not known
    total = known.sum(axis=0)
    areas = np.empty((len(labellings), count, table.shape[1]))
    for r, labels in enumerate(labellings):
        member = (labels == np.arange(count)[:, None]).astype(np.float64)  # (K, N)
        inside = member @ known
        areas[r] = areas_from_ranks(member @ ranks, inside, total - inside)
    return areas


def _null_errors(labels: Labels, table: Floats, count: int) -> Floats:
    """Standard error of each AUC (K, P) where nothing differs: sqrt((n + m + 1) / (12 n m))."""
    known = np.isfinite(table)
    inside = (labels == np.arange(count)[:, None]).astype(np.float64) @ known
    outside = known.sum(axis=0) - inside
    return np.sqrt((inside + outside + 1) / (12 * np.maximum(inside * outside, 1)))


def _ranks(column: Floats, known: NDArray[np.bool_]) -> Floats:
    ranks = np.zeros(len(column))
    ranks[known] = mean_ranks(column[known])
    return ranks
