"""Records made by hand, of any odd shape, for the tests of the figures and of the report."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.text import Text

from cytolens.numerics.estimates import Estimate
from cytolens.records.cells import Cells, Preparation
from cytolens.records.classifier import Evaluation
from cytolens.records.clusters import Clusters
from cytolens.records.contrast import ContrastPairs, Edits, PropertyShift, Series, Target
from cytolens.records.features import (
    Atlas,
    CellExplanation,
    ChannelContext,
    ChannelRanking,
    Complexity,
    Fall,
    FeatureImages,
    FieldImages,
    ModulatedImages,
)
from cytolens.records.layers import Layer
from cytolens.records.maps import Embedding
from cytolens.records.separation import Gain

SHARED = Path(__file__).parents[2].parent / "shared"
NAN = float("nan")


class InMemory:
    """Prepared crops (N, C, H, W) as an image source."""

    def __init__(self, images: np.ndarray) -> None:
        self.images = images.astype(np.float32)
        self.shape = images.shape

    def read(self, index: Any) -> np.ndarray:
        return self.images[index]

    read_raw = read

    def masks(self, index: Any) -> np.ndarray:
        return np.ones((len(self.images[index]), *self.shape[2:]), dtype=bool)


def blobs(n: int, channels: int, side: int, rng: np.random.Generator) -> np.ndarray:
    """Round bright spots (n, channels, side, side), 0…1."""
    y, x = np.mgrid[:side, :side] - (side - 1) / 2
    radius = rng.uniform(0.15, 0.4, size=(n, channels, 1, 1)) * side
    shape = np.exp(-(((x**2 + y**2) / radius**2) ** 2))
    return np.clip(shape + rng.normal(0, 0.05, size=(n, channels, side, side)), 0, 1)


def make_cells(
    n: int = 60,
    *,
    channels: int = 1,
    classes: int = 2,
    side: int = 20,
    images: np.ndarray | None = None,
    labels: np.ndarray | None = None,
    class_names: tuple[str, ...] | None = None,
    channel_names: tuple[str, ...] | None = None,
    **more: Any,
) -> Cells:
    rng = np.random.default_rng(0)
    images = blobs(n, channels, side, rng) if images is None else images
    n, channels = images.shape[:2]
    labels = np.arange(n) % classes if labels is None else labels
    preparation = Preparation(
        size=images.shape[2:],
        intensity="dataset",
        low=(0.0,) * channels,
        high=(4095.0,) * channels,
        background=(0.0,) * channels,
        dtype="uint16",
    )
    fields: dict[str, Any] = {
        "original_sizes": np.full((n, 2), images.shape[2]),
        "names": np.array([f"cells.npz[{i}]" for i in range(n)]),
        "source": "cells.npz",
    }
    return Cells(
        images=InMemory(images),
        labels=labels.astype(np.int64),
        class_names=class_names or tuple(f"class {k}" for k in range(classes)),
        channel_names=channel_names or tuple(f"channel {c}" for c in range(channels)),
        preparation=preparation,
        **{**fields, **more},
    )


def make_probabilities(labels: np.ndarray, classes: int, *, skill: float = 2.0) -> np.ndarray:
    rng = np.random.default_rng(1)
    logits = rng.normal(size=(len(labels), classes)) + skill * np.eye(classes)[labels]
    return (np.exp(logits) / np.exp(logits).sum(1, keepdims=True)).astype(np.float32)


def make_evaluation(classes: int = 2, *, good: float = 0.86, n: int = 301) -> Evaluation:
    per_class = n // classes
    confusion = np.full((classes, classes), round(per_class * (1 - good) / max(classes - 1, 1)))
    np.fill_diagonal(confusion, round(per_class * good))
    confidence = np.linspace(1 / classes, 0.98, 8)
    bins = np.stack([confidence, confidence - 0.03, np.geomspace(5, 90, 8).round()], axis=1)
    return Evaluation(
        measures={
            "accuracy": Estimate(good + 0.01, good - 0.03, good + 0.05),
            "balanced_accuracy": Estimate(good, good - 0.04, good + 0.04),
            "auc": Estimate(good + 0.08, good + 0.05, min(good + 0.11, 1.0)),
            "calibration_error": Estimate(0.06, 0.04, 0.1),
        },
        confusion=confusion.astype(np.int64),
        reliability=np.concatenate([[[NAN, NAN, 0]], bins]),
        n=n,
        note="bootstrap over cells",
    )


def make_layers(depth: int = 8, *, channels: int = 16, side: int = 40) -> tuple[Layer, ...]:
    place = ("", 0, "output")
    layers = [Layer("input", "input", 0, (1, side, side), 1, place, place)]
    for k in range(1, depth - 2):
        shape = (channels, side // 2 ** (k // 3), side // 2 ** (k // 3))
        layers.append(Layer(f"conv{k}", "conv", k, shape, 3 + 6 * (k - 1), place, place))
    layers.append(Layer("pre_softmax", "linear", depth - 2, (64,), None, place, place))
    layers.append(Layer("logits", "linear", depth - 1, (2,), None, place, place))
    return tuple(layers)


def make_separation(layers: tuple[Layer, ...]) -> dict[str, dict[str, Estimate]]:
    made: dict[str, dict[str, Estimate]] = {}
    for layer in layers:
        t = layer.depth / (len(layers) - 1)
        made[layer.name] = {
            "silhouette": Estimate(0.02 + 0.4 * t**2, 0.4 * t**2, 0.05 + 0.43 * t**2, 0.03, 0.04),
            "knn_accuracy": Estimate(
                0.6 + 0.25 * t, 0.56 + 0.25 * t, 0.64 + 0.25 * t, 0.55, 0.62 + 0.02 * t
            ),
            "probe_accuracy": Estimate(
                0.64 + 0.22 * t**0.6, 0.6 + 0.22 * t**0.6, 0.68 + 0.22 * t**0.6, 0.55, 0.66
            ),
            "gdv": Estimate(
                -0.05 - 0.5 * t**2, -0.08 - 0.5 * t**2, -0.02 - 0.5 * t**2, -0.01, -0.06
            ),
        }
    return made


def make_gains(separation: dict[str, dict[str, Estimate]], half: float = 0.03) -> dict[str, Gain]:
    """Differences of the probes in ``separation``, with intervals of that half width."""
    probes = {name: found["probe_accuracy"] for name, found in separation.items()}
    first = next(iter(probes.values()))

    def ahead(probe: Estimate, other: Estimate) -> Estimate:
        value = probe.value - other.value
        if probe.no_interval is not None:
            return Estimate(value, NAN, NAN, no_interval=probe.no_interval)
        return Estimate(value, value - half, value + half)

    gains: dict[str, Gain] = {}
    previous = first
    for name, probe in probes.items():
        over = ahead(probe, first)
        gains[name] = Gain(name, over, ahead(probe, previous), None, clear=over.low > 0)
        previous = probe
    return gains


def make_complexity(layers: tuple[Layer, ...], *, fall: float = 0.1) -> Complexity:
    """Shares that fall by so much a layer, before training by half of that."""
    names = [layer.name for layer in layers if layer.kind in ("conv", "linear")]
    described = ("intensity", "profile", "first_order", "second_order")

    def share(depth: int, more: float) -> Estimate:
        value, half = 1 - (1 - more) * fall * depth, 0.04
        before = 1 - (1 - more) * fall * depth / 2
        return Estimate(value, value - half, min(value + half, 1.0), untrained=before)

    shares = {
        name: {key: share(depth, 0.2 * k) for k, key in enumerate(described)}
        for depth, name in enumerate(names)
    }
    gaps = {
        name: {
            key: Estimate(gap, gap - 0.02, gap + 0.02)
            for key, one in found.items()
            if (gap := one.value - float(one.untrained or 0)) <= 0
        }
        for name, found in shares.items()
    }
    earlier = {
        name: {first: share(depth - k, 0.5) for k, first in enumerate(names[:depth])}
        for depth, name in enumerate(names)
    }
    below = {key: [name for name in names if shares[name][key].value < 0.8] for key in described}
    falls = {
        key: Fall(found[0] if found else None, found[0] if found else None, None, True, None)
        for key, found in below.items()
    }
    random = {name: dict.fromkeys(described, 0.97) for name in names}
    return Complexity(shares, gaps, random, earlier, {}, falls, 500, 200)


def make_embedding(
    n: int = 60, *, layer: str = "conv3", labels: np.ndarray | None = None, quality: float = 0.42
) -> Embedding:
    rng = np.random.default_rng(len(layer))
    xy = rng.normal(size=(n, 2))
    if labels is not None:
        angle = 2 * np.pi * labels / max(labels.max() + 1, 1)
        xy = xy + 2.2 * np.stack([np.cos(angle), np.sin(angle)], axis=1)
    return Embedding(layer, "tsne", xy.astype(np.float32), {"recall_10": quality}, {})


def make_clusters(cells: Cells, *, n: int = 4, layer: str = "conv3") -> Clusters:
    rng = np.random.default_rng(3)
    labels = rng.integers(-1 if n else 0, max(n, 1), size=len(cells)) if n != 1 else None
    labels = np.zeros(len(cells), dtype=np.int64) if labels is None else labels
    labels = np.full(len(cells), -1) if n == 0 else labels
    kinds = len(cells.class_names)
    table = [np.bincount(cells.labels[labels == k], minlength=kinds) for k in range(n)]
    return Clusters(
        layer=layer,
        method="kmeans",
        labels=labels.astype(np.int64),
        typical=tuple(np.flatnonzero(labels == k)[:9] for k in range(n)),
        table=np.array(table, dtype=np.int64).reshape(n, kinds),
        agreement={
            "ari": Estimate(0.31, 0.25, 0.37, null=0.01),
            "nmi": Estimate(0.28, 0.2, 0.35, null=0.02),
        },
        settings={},
    )


def make_images(
    layer: str = "conv3",
    *,
    count: int = 12,
    channels: int = 1,
    side: int = 40,
    dead: tuple[int, ...] = (),
    targets: tuple[str, ...] | None = None,
) -> FeatureImages:
    """Gratings of many angles and wavelengths."""
    rng = np.random.default_rng(7)
    y, x = np.mgrid[:side, :side] / side
    angle = rng.uniform(0, np.pi, size=(count, channels, 1, 1))
    waves = rng.uniform(2, 8, size=(count, channels, 1, 1))
    phase = 2 * np.pi * waves * (x * np.cos(angle) + y * np.sin(angle))
    images = 0.5 + 0.5 * np.sin(phase) * np.exp(-((x - 0.5) ** 2 + (y - 0.5) ** 2) / 0.1)
    natural = np.stack([np.full(count, 0.5), np.full(count, 0.3), np.full(count, 2.0)], axis=1)
    mask = np.isin(np.arange(count), dead)
    natural[mask] = [0.0, 0.0, 0.0]
    return FeatureImages(
        layer=layer,
        targets=targets or tuple(f"channel {3 * k}" for k in range(count)),
        channels=np.full(count, -1) if targets else 3 * np.arange(count),
        images=images.astype(np.float32),
        activation=np.where(mask, 0, rng.uniform(1, 6, count)).astype(np.float32),
        natural=natural.astype(np.float32),
        activation_maps=rng.random((count, 10, 10)).astype(np.float32),
        history=np.zeros((count, 4), dtype=np.float32),
        dead=mask,
        settings={"value_range": (0.0, 1.0), "background": 0.0},
    )


def begun_as_cells(images: FeatureImages) -> FeatureImages:
    """The images, as if they had begun as darker ones."""
    similarity = np.linspace(0.5, 0.97, len(images.targets), dtype=np.float32)
    return replace(images, starts=0.8 * images.images, similarity=similarity)


def make_field_images(layer: str = "conv1", *, side: int = 5, patches: int = 2) -> FieldImages:
    """The middle of `make_images`, and patches that are like it."""
    whole = make_images(layer, count=4, dead=(2,))
    cut = whole.images[:, :, 20 : 20 + side, 20 : 20 + side]
    made = replace(whole, images=cut, similarity=np.full(4, 0.75, np.float32))
    likely = replace(made, images=0.5 + 0.5 * cut, activation=made.activation / 2)
    shown = np.repeat(cut[:, None], patches, axis=1) / 2
    return FieldImages(layer, made, likely, shown, np.full((4, patches), 2.0, np.float32), 90)


def make_modulated(images: FeatureImages) -> ModulatedImages:
    side = images.images.shape[-1]
    y, x = np.mgrid[:side, :side] / side
    centre = np.random.default_rng(2).uniform(0.3, 0.7, size=(2, len(images.targets), 1, 1))
    gain = np.exp(-((x - centre[0]) ** 2 + (y - centre[1]) ** 2) / 0.04)
    shown = images.images * gain[:, None]
    return ModulatedImages(
        images.layer, images.targets, shown.astype(np.float32), gain.astype(np.float32), "self", {}
    )


def make_explanation(cells: Cells, cell: int = 0, *, count: int = 6) -> CellExplanation:
    channels, side = cells.shape[0], cells.shape[-1]
    images = make_images(count=count, channels=channels, side=side)
    modulated = make_modulated(images)
    weights = np.linspace(1.4, -0.5, count).astype(np.float32)
    return CellExplanation(
        cell=cell,
        name=str(cells.names[cell]),
        image=cells.read(np.array([cell]))[0],
        true_class=cells.class_names[cells.labels[cell]],
        predicted_class=cells.class_names[0],
        probability=0.87,
        layer="conv3",
        channels=images.channels,
        contributions=weights,
        modulated=modulated,
        total=np.tensordot(weights, modulated.images, axes=1),
        saliency=modulated.gain.mean(axis=0) / modulated.gain.mean(axis=0).max(),
    )


def make_pairs(
    name: str = "G2 rather than S", *, channels: int = 1, side: int = 20, cells: int = 4
) -> ContrastPairs:
    """Nine pairs, some cells edited (none: real cells only), and the numbers that go with them."""
    rng = np.random.default_rng(2)
    pictures = blobs(18, channels, side, rng).astype(np.float32)
    share = Estimate(0.8, 0.7, 0.9)
    displays = ("pairs", "best_cells", "best_and_worst", "best_cell", "axis")
    controls = ("permuted", "untrained", "random_direction", "rotation")
    edits = None
    if cells:
        judged = np.full((cells, 2, 2), 0.9)
        judged[0, 0] = 0.3
        edits = Edits(
            np.arange(cells), *(blobs(cells, channels, side, rng).astype(np.float32),) * 3,
            ("sparse edit", "region filled in"), np.full((cells, 2), 0.95), judged,
            np.full((cells, 2), 0.4), np.full((cells, 2), 0.1), np.arange(2 * cells).reshape(-1, 2),
            blobs(2 * cells, channels, side, rng).reshape(-1, 2, channels, side, side),
        )  # fmt: skip
    kinds = ("scattering", "measured properties")
    steps = blobs(15, channels, side, rng).reshape(3, 5, channels, side, side).astype(np.float32)
    series = Series(
        np.arange(15).reshape(3, 5), steps, 9, dict.fromkeys(kinds, share),
        dict.fromkeys(kinds, Estimate(0.7, 0.6, 0.8)), 0.75, {"focus": np.linspace(-1, 1, 5)},
        pictures[:5] if cells else None,
    )  # fmt: skip
    shifts = (
        PropertyShift("focus", Estimate(1.3, 0.9, 1.7), Estimate(1.0, NAN, NAN), True),
        PropertyShift("area", Estimate(0.05, -0.1, 0.2), None, False),
    )
    return ContrastPairs(
        Target(name, "class", "logits", np.array([-1.0, 1.0])), np.array([-2.0, 2.0]), share,
        np.arange(9), np.arange(9, 18), pictures[:9], pictures[9:], np.linspace(0.5, 0.9, 9),
        {kind: dict.fromkeys(displays, share) for kind in kinds},
        200, shifts, edits, series, dict.fromkeys(controls, share),
    )  # fmt: skip


def make_context(
    cells: Cells, channel: int = 3, *, layer: str = "conv3", alike: int = 0, field: float = 6.0
) -> ChannelContext:
    """A channel that follows area and nothing else; field 0: the whole crop is seen."""
    rng = np.random.default_rng(channel)
    classes, side = len(cells.class_names), cells.shape[-1]
    best = rng.permutation(len(cells))[:6]
    whole = np.tile([0.0, 0.0, side, side], (len(best), 1))
    box = np.tile([2.0, 3.0, field, field], (len(best), 1))
    return ChannelContext(
        layer=layer,
        channel=channel,
        importance=1.25,
        ablation=0.5,
        members=np.arange(channel, channel + 1 + alike),
        best=best,
        activation=np.linspace(2, 1, len(best)).astype(np.float32),
        peaks=np.full((len(best), 2), np.nan if field == 0 else 6.0),
        fields=whole if field == 0 else box,
        edges=np.linspace(0, 2, 13),
        histogram=rng.random((classes, 12)),
        auc={name: 0.3 + 0.6 * k / classes for k, name in enumerate(cells.class_names)},
        correlations={
            "area": Estimate(0.71, 0.6, 0.8, null=0.2),
            "texture_contrast": Estimate(-0.11, -0.3, 0.1, null=0.2),
        },
        n=len(cells),
    )


def make_ranking(layer: str = "conv3", channels: int = 16) -> ChannelRanking:
    """Channels 3 and 4 say the same; the others stand alone."""
    values = np.linspace(1, 0, channels)
    rest = [np.array([k]) for k in range(channels) if k not in (3, 4)]
    groups = (np.array([3, 4]), *rest)
    return ChannelRanking(layer, values, values / 2, Estimate(0.8, 0.7, 0.9), groups, 0.9)


def make_atlas(cells: Cells, *, layer: str = "conv3") -> Atlas:
    """Three tiles, one of which is dead."""
    classes = len(cells.class_names)
    images = make_images(
        layer, count=3, channels=cells.shape[0], side=cells.shape[-1], dead=(1,),
        targets=("tile 0,0", "tile 1,2", "tile 3,3"),
    )  # fmt: skip
    shares = np.zeros((3, classes))
    shares[:, 0], shares[:, -1] = [1, 0.25, 0], [0, 0.75, 1]
    return Atlas(
        layer=layer,
        method="tsne",
        grid=4,
        limits=(-1.0, 1.0, -1.0, 1.0),
        positions=np.array([[0, 0], [1, 2], [3, 3]]),
        counts=np.array([40, 10, 1]),
        shares=shares,
        typical=np.array([0, 5, 9]),
        images=images,
        left_out=7,
    )


def make_history(epochs: int = 30) -> tuple[dict[str, float], ...]:
    t = np.arange(1, epochs + 1)
    return tuple(
        {
            "epoch": float(e),
            "train_loss": float(0.7 * np.exp(-e / 9) + 0.05),
            "validation_loss": float(0.6 * np.exp(-e / 7) + 0.2 + 0.004 * e),
            "train_accuracy": float(0.97 - 0.4 * np.exp(-e / 8)),
            "validation_accuracy": float(0.88 - 0.3 * np.exp(-e / 6)),
        }
        for e in t
    )


def texts(figure: Figure) -> list[str]:
    """Everything written in a figure, after it has been drawn once."""
    figure.draw_without_rendering()
    return [text.get_text() for text in figure.findobj(Text) if text.get_text().strip()]
