"""The order in which a decision needs the channels of a layer, near-duplicates together."""

import numpy as np
from numpy.typing import NDArray
from torch import nn

from cytolens.classifier.model import Classifier
from cytolens.features.duplicates import DUPLICATE, group_duplicates
from cytolens.features.importance import measure_ablation, measure_importance
from cytolens.numerics.estimates import Estimate, Rng, estimate_from, generator, spearman
from cytolens.records.cells import Cells, Progress
from cytolens.records.features import ChannelRanking
from cytolens.records.layers import Layer

_RESAMPLES = 1000


def rank_channels(
    model: nn.Module | Classifier,
    cells: Cells | NDArray[np.float32],
    features: NDArray[np.floating],
    *,
    layer: Layer,
    ablated: int = 64,
    threshold: float = DUPLICATE,
    rng: Rng = None,
    progress: Progress | None = None,
) -> ChannelRanking:
    """The channels of a layer, those that the decision needs most first, duplicates together.

    All are measured by gradient × activation on ``cells``, and the first ``ablated`` of them by
    ablation too, which then decides the order; the others follow. ``features`` (M, C), of these or
    other cells, tell near-duplicates (see `group_duplicates`); with another number of columns than
    channels every channel stands alone.
    """
    importance = measure_importance(model, cells, layer=layer, progress=progress)
    importance = importance.astype(np.float64)
    first = np.argsort(-importance, kind="stable")[:ablated]
    ablation = np.full(len(importance), np.nan)
    ablation[first] = measure_ablation(
        model, cells, layer=layer, channels=first.tolist(), progress=progress
    )
    order = np.lexsort((-importance, -np.nan_to_num(ablation, nan=-1.0)))
    weight = np.empty(len(order))
    weight[order] = np.arange(len(order), 0, -1)
    alone = features.shape[1] != len(importance)
    return ChannelRanking(
        layer=layer.name,
        importance=importance,
        ablation=ablation,
        agreement=_agreement(importance[first], ablation[first], rng),
        groups=tuple(order[:, None])
        if alone
        else group_duplicates(features, weight, threshold=threshold),
        threshold=threshold,
    )


def _agreement(
    importance: NDArray[np.float64], ablation: NDArray[np.float64], rng: Rng
) -> Estimate:
    """Spearman's correlation over the channels that matter by either; the interval is over them."""
    matter = (importance > 0) | (ablation > 0)
    a, b = importance[matter], ablation[matter]
    if len(a) < 3:
        return Estimate(float("nan"), float("nan"), float("nan"))

    rows = generator(rng).integers(0, len(a), size=(_RESAMPLES, len(a)))
    value = float(spearman(a[None], b[None])[0])
    return estimate_from(value, spearman(a[rows], b[rows]), grouped=False)
