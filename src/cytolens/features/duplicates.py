"""Channels that say the same, of a layer or of several, so that one picture can stand for them."""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.cluster.hierarchy import fcluster, linkage
from scipy.spatial.distance import squareform

from cytolens.errors import InputError, SettingError

DUPLICATE = 0.9
"""Correlation over cells above which two channels pass for the same: 81 % of variance shared."""


def group_duplicates(
    features: ArrayLike, importance: ArrayLike, *, threshold: float = DUPLICATE
) -> tuple[NDArray[np.int64], ...]:
    """Groups of channels whose activations over cells all correlate above ``threshold`` pairwise.

    ``features`` (N, C): an activation per cell and channel; ``importance`` (C,): within a group
    the most important channel comes first and stands for it, and the groups come in the order of
    their first channels. Every channel is in one group; constant (dead) ones stand alone.

    Complete linkage on 1 - r (Pearson), so that a group is no chain whose ends differ. The sign
    counts: a channel that falls where another rises carries the same information, but asks for
    another picture. Raises SettingError for a threshold outside of (0, 1].
    """
    if not 0 < threshold <= 1:
        raise SettingError(f"threshold={threshold} cannot be used; give a number in (0, 1]")
    values, weight = np.asarray(features, np.float64), np.asarray(importance, np.float64)
    if values.ndim != 2 or weight.shape != values.shape[1:]:
        raise InputError(
            f"features {values.shape} and importance {weight.shape} came; give (N, C) and (C,)"
        )
    deviation = values.std(0)
    moving = np.flatnonzero(deviation > 1e-7 * np.abs(values).max(initial=1e-300))
    group = np.arange(values.shape[1])
    if len(moving) > 1:
        scaled = (values[:, moving] - values[:, moving].mean(0)) / deviation[moving]
        distance = np.clip(1 - scaled.T @ scaled / len(values), 0, 2)
        np.fill_diagonal(distance, 0)
        tree = linkage(squareform(distance, checks=False), method="complete")
        group[moving] = values.shape[1] + fcluster(tree, 1 - threshold, criterion="distance")
    order = np.argsort(-weight, kind="stable")
    found: dict[int, list[int]] = {}
    for channel in order.tolist():
        found.setdefault(int(group[channel]), []).append(channel)
    return tuple(np.array(members, dtype=np.int64) for members in found.values())


def find_twins(
    features: Mapping[str, NDArray[np.floating]],
    channels: Mapping[str, Sequence[int]],
    *,
    threshold: float = DUPLICATE,
) -> dict[str, str]:
    """Channels that rise and fall with one of an earlier layer: "conv5/13" to "conv3/2".

    ``features`` (N, C) of the same cells by layer, in depth order, and the ``channels`` that are
    looked at. Each is compared with those of earlier layers that are no twins themselves, and
    named with the one that it correlates with most over cells, if above ``threshold`` (Pearson).
    Within a layer see `group_duplicates`.

    >>> x = np.random.default_rng(0).random((50, 3))
    >>> find_twins({"a": x[:, :2], "b": x[:, 1:]}, {"a": [0, 1], "b": [0, 1]})
    {'b/0': 'a/1'}
    """
    twins: dict[str, str] = {}
    names: list[str] = []
    known: list[NDArray[np.float64]] = []
    for layer, chosen in channels.items():
        values = np.asarray(features[layer], np.float64)[:, list(chosen)]
        values = values - values.mean(0)
        length = np.linalg.norm(values, axis=0)
        values = values / np.where(length > 0, length, 1)
        new: list[int] = []
        for k, channel in enumerate(chosen):
            alike = np.array([float(other @ values[:, k]) for other in known])
            if alike.size and alike.max() > threshold:
                twins[f"{layer}/{channel}"] = names[int(alike.argmax())]
            else:
                new.append(k)
        names += [f"{layer}/{chosen[k]}" for k in new]
        known += [values[:, k] for k in new]
    return twins
