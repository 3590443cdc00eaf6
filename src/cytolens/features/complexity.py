"""How complex what a layer says of cells is: the share that no simple description explains.

A channel's answer to a cell is the mean of its map, over four turns of the cell, so that how the
cell happens to lie says nothing. It is predicted by ridge regression from simple descriptions of
the crop (`features.descriptions`) and from each earlier layer, fitted on training cells and judged
on held-out ones. What is explained is complex no further than that description. Controls are the
network before training, whose maps see as far and are as deep, and one random filter of the same
receptive field. Image statistics of feature images do not tell: they follow the receptive field,
and rise as much in a network that was never trained.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cytolens.activations.capture import (
    Place,
    capture,
    device_of,
    evaluating,
    on_device,
)
from cytolens.activations.forward import cells_at_once, fast_layout, laid_out
from cytolens.activations.layers import find_layers
from cytolens.classifier.model import Classifier, Device, untrained
from cytolens.errors import InputError
from cytolens.features.descriptions import DESCRIPTIONS, describe_simply, random_answers
from cytolens.features.texture import view_of
from cytolens.images.preparation import prepared_background
from cytolens.numerics.estimates import Estimate, Rng, generator
from cytolens.numerics.intervals import (
    ANYTHING,
    AT_MOST_ONE,
    Range,
    combined,
    no_interval,
    t_interval,
)
from cytolens.numerics.resampling import codes, resample_weights
from cytolens.numerics.ridge import fit_unseen
from cytolens.records.cells import Cells, Progress
from cytolens.records.features import Complexity, Fall
from cytolens.records.layers import Layer

LIMIT = 0.8
"""Share below which a description no longer tells what a layer says (`Complexity.falls`)."""

KNOWN_FROM, JUDGED_ON = 900, 500
"""At most so many training and held-out cells; of large crops fewer."""

MOST_EXPLAINED, MOST_KNOWN = 64, 256
"""Channels of a layer that are explained, and that later layers are explained from; drawn."""

_WORK = 1400 * 3 * 48**2  # numbers of all crops together, beyond which fewer cells are taken
_FEWEST = 400  # cells that are taken whatever their size
_VIEWS = (0, 1, 2, 3)  # quarter turns
_VIEWS_OBLONG = (0, 1, 4, 5)
_RESAMPLES = 300
_SILENT = 1e-6  # standard deviation over cells below which a channel says nothing of them
_TRAINED, _UNTRAINED, _RANDOM = "trained", "untrained", "random"

Floats = NDArray[np.float64]
Floats32 = NDArray[np.float32]
_Asked = tuple[str, str]  # which network, and its layer; of random filters, their field in pixels


@dataclass(frozen=True)
class _Judged:
    """What was predicted of the channels of a layer: sums of squares by resample of the cells."""

    missed: Floats  # (1 + R, K), of the error; the first row is of all cells as they are
    whole: Floats  # (1 + R, K), about the mean

    @property
    def shares(self) -> Floats:
        """Of the layer's variance, by resample, (1 + R,)."""
        return 1 - self.missed.sum(1) / self.whole.sum(1)

    @property
    def by_channel(self) -> Floats:
        """Of each channel's own variance, (K,)."""
        return 1 - self.missed[0] / self.whole[0]

    @property
    def over_channels(self) -> tuple[float, float]:
        """Standard error over channels, and its degrees of freedom: each is left out in turn."""
        missed, whole = self.missed[0], self.whole[0]
        if len(whole) < 3:
            return np.nan, 1
        rest = np.maximum(whole.sum() - whole, 1e-300)
        without = 1 - (missed.sum() - missed) / rest
        return float(np.sqrt(((without - self.shares[0]) ** 2).sum())), len(whole) - 1


def measure_complexity(
    model: Classifier,
    known: Cells,
    held_out: Cells,
    *,
    layers: Sequence[Layer] | None = None,
    rng: Rng = None,
    device: Device = None,
    progress: Progress | None = None,
) -> Complexity:
    """The share of what channels say of ``held_out`` cells that simple descriptions explain.

    Of the variance of a layer's answers over held-out cells, as fitted on ``known`` cells, those
    that the network was trained on; of at most 900 and 500 of them. ``layers``: those with
    channels, by default all but the input and the logits. Channels that answer alike to all known
    cells are left out; of a wide layer 64 are drawn. Intervals are over cells, or over the groups
    of the held-out cells, and over channels together. Raises InputError for fewer than 20 cells
    of either, or crops below 8 pixels.
    """
    draw = generator(rng)
    known, held_out = _some(known, KNOWN_FROM, draw), _some(held_out, JUDGED_ON, draw)
    if min(len(known), len(held_out)) < 20:
        raise InputError(
            f"{len(known)} training and {len(held_out)} held-out cells came; complexity takes at "
            "least 20 of each"
        )
    if layers is None:
        layers = find_layers(model.network, model.input_shape)[1:-1]
    report: Progress = progress or (lambda done, total, note: None)
    crops = np.concatenate([known.read(slice(None)), held_out.read(slice(None))])
    train = np.arange(len(crops)) < len(known)
    background = prepared_background(known.preparation).tolist()
    report(0, 5, "describing the cells")
    described = describe_simply(crops, train, background=background)
    answers: dict[_Asked, Floats32] = {}
    control = untrained(model, known, rng=draw)
    for done, (whose, one) in enumerate(((_TRAINED, model), (_UNTRAINED, control))):
        report(1 + done, 5, f"asking the {whose} network")
        found = _answers(one, crops, layers, device)
        answers |= {(whose, name): values for name, values in found.items()}
    report(3, 5, "random filters")
    largest = max(crops.shape[2:])
    fields = {layer.name: min(layer.receptive_field or largest, largest) for layer in layers}
    for field in sorted(set(fields.values())):
        answers[_RANDOM, str(field)] = random_answers(crops, field, background=background)
    report(4, 5, "explaining the answers")
    groups = None if held_out.groups is None else codes(held_out.groups)
    weights = resample_weights(len(held_out), groups=groups, resamples=_RESAMPLES, rng=draw)
    whole = np.vstack([np.ones(len(held_out)), weights])
    judge = _Judge(train, _blocks(known, held_out), whole, grouped=groups is not None)
    seen = _Seen(answers, train, draw)
    names = [
        la.name for la in layers if seen.has(_TRAINED, la.name) and seen.has(_UNTRAINED, la.name)
    ]
    shares, gaps, random, channels = _by_description(judge, seen, described, names, fields)
    earlier = _by_earlier_layer(judge, seen, names)
    by_name = {name: [shares[layer].get(name) for layer in names] for name in DESCRIPTIONS}
    by_name |= {name: [earlier[layer].get(name) for layer in names] for name in names[:-1]}
    falls = {name: _fall(names, found) for name, found in by_name.items()}
    return Complexity(shares, gaps, random, earlier, channels, falls, len(known), len(held_out))


class _Seen:
    """Answers of the channels that say anything of cells, of wide layers some."""

    def __init__(
        self,
        answers: Mapping[_Asked, Floats32],
        train: NDArray[np.bool_],
        draw: np.random.Generator,
    ) -> None:
        self._answers = answers
        alive = {asked: np.flatnonzero(_varies(table, train)) for asked, table in answers.items()}
        self.explained = {
            asked: _few(places, MOST_EXPLAINED, draw) for asked, places in alive.items()
        }
        self._known = {asked: _few(places, MOST_KNOWN, draw) for asked, places in alive.items()}

    def has(self, whose: str, name: str) -> bool:
        return len(self.explained.get((whose, name), ())) > 0

    def table(self, asked: _Asked) -> Floats:
        """The channels that are explained, (N, K)."""
        return self._answers[asked][:, self.explained[asked]].astype(np.float64)

    def known(self, asked: _Asked) -> Floats:
        """The channels that later layers are explained from, (N, F)."""
        return self._answers[asked][:, self._known[asked]].astype(np.float64)

    def tables(self) -> dict[_Asked, Floats]:
        """Of all that say anything."""
        return {asked: self.table(asked) for asked, k in self.explained.items() if len(k)}

    def of_layer(self, asked: _Asked, values: Floats) -> Floats:
        """Values of the explained channels at their places among all of a layer, NaN elsewhere."""
        whole = np.full(self._answers[asked].shape[1], np.nan)
        whole[self.explained[asked]] = values
        return whole


def _by_description(
    judge: "_Judge",
    seen: _Seen,
    described: Mapping[str, Floats],
    names: Sequence[str],
    fields: Mapping[str, int],
) -> tuple[
    dict[str, dict[str, Estimate]],
    dict[str, dict[str, Estimate]],
    dict[str, dict[str, float]],
    dict[str, dict[str, Floats]],
]:
    """Shares, trained minus untrained, those of random filters, and of each channel, by layer."""
    tables = seen.tables()
    shares, gaps, random, channels = ({name: {} for name in names} for _ in range(4))
    for description, features in described.items():
        found = judge.of(features, tables)
        for layer in names:
            trained, before = found[_TRAINED, layer], found[_UNTRAINED, layer]
            shares[layer][description] = judge.share(trained, before)
            gaps[layer][description] = judge.gap(trained, before)
            filters = found.get((_RANDOM, str(fields[layer])))
            if filters is not None:
                random[layer][description] = float(filters.shares[0])
            values = seen.of_layer((_TRAINED, layer), trained.by_channel)
            channels[layer][description] = values
    return shares, gaps, random, channels


def _by_earlier_layer(
    judge: "_Judge", seen: _Seen, names: Sequence[str]
) -> dict[str, dict[str, Estimate]]:
    """The share of each layer that each layer before it explains, in the network's own terms."""
    earlier: dict[str, dict[str, Estimate]] = {name: {} for name in names}
    for place, first in enumerate(names[:-1]):
        later = names[place + 1 :]
        trained, before = (
            judge.of(
                seen.known((whose, first)), {(whose, k): seen.table((whose, k)) for k in later}
            )
            for whose in (_TRAINED, _UNTRAINED)
        )
        for name in later:
            earlier[name][first] = judge.share(trained[_TRAINED, name], before[_UNTRAINED, name])
    return earlier


@dataclass(frozen=True)
class _Judge:
    """Predicts answers of held-out cells, and says what share of their variance that is."""

    train: NDArray[np.bool_]  # (N,), the others are held out
    blocks: NDArray[np.int64] | None  # (N,), groups of the cells
    weights: Floats  # (1 + R, held-out cell)
    grouped: bool

    def of(self, features: Floats, answers: Mapping[_Asked, Floats]) -> dict[_Asked, _Judged]:
        """Of each of the answers (N, K), as predicted from features (N, F)."""
        table = np.concatenate(list(answers.values()), axis=1)
        fits = fit_unseen(features, table, self.train, blocks=self.blocks)
        seen = table[~self.train]
        missed = self.weights @ (seen - fits) ** 2
        total = self.weights.sum(1, keepdims=True)
        centred = seen - seen.mean(0)
        whole = self.weights @ centred**2 - (self.weights @ centred) ** 2 / total
        ends = np.cumsum([values.shape[1] for values in answers.values()])[:-1]
        parts = zip(*(np.split(sums, ends, axis=1) for sums in (missed, whole)), strict=True)
        return {asked: _Judged(*part) for asked, part in zip(answers, parts, strict=True)}

    def share(self, trained: _Judged, before: _Judged) -> Estimate:
        found = self._estimate(trained.shares, [trained.over_channels], AT_MOST_ONE)
        return replace(found, untrained=float(before.shares[0]))

    def gap(self, trained: _Judged, before: _Judged) -> Estimate:
        both = [trained.over_channels, before.over_channels]
        return self._estimate(trained.shares - before.shares, both, ANYTHING)

    def _estimate(
        self, drawn: Floats, over_channels: list[tuple[float, float]], within: Range
    ) -> Estimate:
        """Over channels and cells together, as `numerics.estimates.mean_of_both`."""
        value, again = float(drawn[0]), drawn[1:]
        why = no_interval(again) if self.grouped else None
        if why is None and not np.isfinite([error for error, _ in over_channels]).all():
            why = "fewer than 3 channels"
        if why is not None:
            return Estimate(value, np.nan, np.nan, no_interval=why)
        over_cells = float(again.std()), 1e6
        if self.grouped:
            over_cells = float(np.sqrt(((again - value) ** 2).sum())), len(again) - 1
        error, freedom = combined([*over_channels, over_cells])
        return Estimate(value, *t_interval(value, error, freedom, within=within))


def _fall(names: Sequence[str], shares: Sequence[Estimate | None]) -> Fall:
    """From which layer on, the first that is below `LIMIT`."""
    found = [(name, share) for name, share in zip(names, shares, strict=True) if share is not None]

    def first(below: Callable[[Estimate], bool]) -> str | None:
        return next((name for name, share in found if below(share)), None)

    return Fall(
        layer=first(lambda share: share.value < LIMIT),
        earliest=first(lambda share: share.low < LIMIT),
        latest=first(lambda share: share.high < LIMIT),
        known=all(share.known for _, share in found),
        untrained=first(lambda share: share.untrained is not None and share.untrained < LIMIT),
    )


def _some(cells: Cells, most: int, draw: np.random.Generator) -> Cells:
    """At most so many cells, fewer of large crops, drawn at random."""
    share = min(1.0, _WORK / (KNOWN_FROM + JUDGED_ON) / int(np.prod(cells.shape)))
    most = max(min(most, _FEWEST), round(most * share))
    if len(cells) <= most:
        return cells
    return cells.subset(np.sort(draw.permutation(len(cells))[:most]))


def _blocks(known: Cells, held_out: Cells) -> NDArray[np.int64] | None:
    if known.groups is None or held_out.groups is None:
        return None
    return codes(np.concatenate([known.groups, held_out.groups]))


def _varies(answers: Floats32, train: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Whether a channel answers differently to cells, both training and held out: (K,)."""
    return (answers[train].std(0) > _SILENT) & (answers[~train].std(0) > _SILENT)


def _few(places: NDArray[np.int64], most: int, draw: np.random.Generator) -> NDArray[np.int64]:
    return places if len(places) <= most else np.sort(draw.permutation(places)[:most])


def _answers(
    model: Classifier, crops: NDArray[np.float32], layers: Sequence[Layer], device: Device
) -> dict[str, Floats32]:
    """Mean of each channel's map over positions and turns of each crop, by layer, (N, C)."""
    network = model.network
    chosen = device_of(network) if device is None else torch.device(device)
    views = _VIEWS if crops.shape[2] == crops.shape[3] else _VIEWS_OBLONG
    names = {layer.activation: layer.name for layer in layers}
    sums = {layer.name: np.zeros((len(crops), layer.channels), np.float32) for layer in layers}
    rows, batch = slice(0, 0), cells_at_once(None, chosen)

    def add(place: Place, value: Tensor) -> None:
        flat = value.reshape(*value.shape[:2], -1).mean(2)
        sums[names[place]][rows] += flat.float().cpu().numpy()

    with (
        on_device(network, chosen),
        evaluating(network),
        torch.inference_mode(),
        fast_layout(network, model.input_shape, chosen, names) as layout,
        capture(network, names, stop_at_last=True, consume=add),
    ):
        for start in range(0, len(crops), batch):
            rows = slice(start, min(start + batch, len(crops)))
            images = torch.from_numpy(crops[rows]).to(chosen)
            for view in views:
                network(laid_out(view_of(images, view), layout))
    return {name: total / np.float32(len(views)) for name, total in sums.items()}
