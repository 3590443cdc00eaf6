"""Modulated feature images, of a layer's channels and of the channels that decide one cell.

Single-channel feature images are modulated with up-scaled neuron activation maps so that only
their salient parts remain (arXiv:1811.06488). Which interpolation and which scale were taken
there is not said, so both are parameters here, and recorded with the result.
"""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from cytolens.activations.capture import capture, device_of, evaluating, network_of
from cytolens.activations.layers import resolve_layer
from cytolens.activations.maps import capture_maps
from cytolens.classifier.model import Classifier
from cytolens.errors import InputError, SettingError
from cytolens.features.decision import gradient_times_activation
from cytolens.features.gain import (
    Background,
    apply_gain,
    background_levels,
    gain_of,
    moved_to,
)
from cytolens.features.saliency import (
    channel_saliency,
    contrasting,
    measure_saliency,
    require_positions,
)
from cytolens.records.features import CellExplanation, FeatureImages, ModulatedImages
from cytolens.records.layers import Layer

_MOSTLY = 0.8  # of an image's activation: a channel that background alone drives as much


def modulate(
    images: FeatureImages,
    *,
    source: str = "self",
    activation_maps: NDArray[np.float32] | None = None,
    interpolation: str = "bicubic",
    normalisation: str = "peak",
    background: Background | None = None,
    threshold: float = 0.0,
    stride: float | None = None,
    form: str = "blend",
    model: nn.Module | Classifier | None = None,
) -> ModulatedImages:
    """Feature images that fade to the background where their channel does not answer.

    Modulated image = background + (image - background) · gain, where the gain (H, W) is the
    channel's rectified activation map, up-scaled to the image. ``form="product"`` is the paper's
    image · gain instead, the same where the background is 0. What a channel likes of darkness, or
    of the background itself, neither shows: `plot_modulated` fades what does not matter to paper
    white, and draws a contour about what does.

    A map is as coarse as its layer, and says where a neuron answers, not to what in its field.
    With the ``model`` comes ``salient``: the same gains in the order of `channel_saliency`, where
    a channel has any. It is of the image itself, so only with ``source="self"``.

    ``source``: "self" takes each feature image's own map; otherwise the name of a cell, whose
    maps (K, h, w), one per target, come as ``activation_maps``.
    ``normalisation``: "peak" (default) makes the gain 1 where the up-scaled map is largest, so
    that strong and weak channels can be compared in where, not in how much; "percentile" makes it
    1 from the 99th percentile on, which a single hot pixel cannot dim; "none" multiplies with the
    activations as they are. ``threshold``: gains below this share of the largest become 0.
    ``background``: intensity of "nothing there", one number or one per image channel; that of the
    feature images' own settings by default, or 0. A map without any activation gives background.

    Raises SettingError for unknown names and for layers without positions, InputError for maps
    that do not belong to the images.

    >>> from cytolens.features.optimisation import Ascent, feature_images
    >>> network = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(400, 2))
    >>> made = feature_images(
    ...     network, layer="0", input_shape=(1, 12, 12), ascent=Ascent(steps=4), rng=0
    ... )
    >>> salient = modulate(made)
    >>> salient.images.shape, salient.gain.shape
    ((4, 1, 12, 12), (4, 12, 12))
    """
    own = source == "self" and activation_maps is None
    maps = images.activation_maps if own else activation_maps
    if maps is None:
        raise SettingError(
            f"source '{source}' needs activation_maps (K, h, w), one per target;"
            " or take source='self'"
        )
    count = len(images.images)
    if len(maps) != count:
        raise InputError(f"{len(maps)} activation maps came for {count} feature images")
    if maps.ndim != 3 or maps.shape[1] * maps.shape[2] < 2:
        raise SettingError(
            f"layer '{images.layer}' has no positions to modulate by (maps of shape"
            f" {maps.shape[1:]}); choose a convolutional layer"
        )
    level: Background = images.settings.get("background", 0.0) if background is None else background
    levels = background_levels(level, images.images.shape[1])
    gain = gain_of(
        maps,
        images.images.shape[2:],
        interpolation=interpolation,
        normalisation=normalisation,
        threshold=threshold,
        stride=stride,
    )
    salient = None
    if model is not None and own and (images.channels >= 0).all():
        salient = salient_gain(model, images.images, images.channels, gain, images.layer, level)
    return ModulatedImages(
        layer=images.layer,
        targets=images.targets,
        salient=salient,
        images=apply_gain(images.images, gain, background=level, form=form),
        gain=gain,
        source=source,
        settings={
            "interpolation": interpolation,
            "normalisation": normalisation,
            "background": levels.flatten().tolist(),
            "threshold": threshold,
            "form": form,
            "stride": stride,
            "value_range": images.settings.get("value_range", (0.0, 1.0)),
        },
    )


def salient_gain(
    model: nn.Module | Classifier,
    images: NDArray[np.float32],
    channels: NDArray[np.int64],
    gain: NDArray[np.float32],
    layer: Layer | str,
    background: Background,
) -> NDArray[np.float32]:
    """The gains (K, H, W) moved to what in each image (K, C, H, W) drives its channel (K,).

    As they are for channels that plain background drives nearly as much as the image: what is
    there beyond the background is not what they answer to.
    """
    plain = np.broadcast_to(background_levels(background, images.shape[1])[None], images.shape)
    rows = np.arange(len(images))
    whole, none = (
        capture_maps(network_of(model), np.ascontiguousarray(one), layer)[rows, channels]
        for one in (images, plain)
    )
    saliency = channel_saliency(model, images, channels, layer=layer, background=background)
    peak = np.maximum(saliency.max(axis=(1, 2), keepdims=True), 1e-30)
    order = saliency / peak + 1e-3 * gain  # where there is no evidence at all, in that of the gain
    driven = none.mean((1, 2)) < _MOSTLY * whole.mean((1, 2))
    return np.where(driven[:, None, None], moved_to(gain, order), gain).astype(np.float32)


def explain_cell(
    model: nn.Module | Classifier,
    image: NDArray[np.float32],
    *,
    layer: Layer | str,
    class_names: Sequence[str] | None = None,
    cell: int = 0,
    name: str = "",
    true_class: str = "",
    features: FeatureImages | None = None,
    references: NDArray[np.float32] | None = None,
    top: int = 6,
    interpolation: str = "bicubic",
    normalisation: str = "peak",
    background: Background | None = None,
    stride: float | None = None,
) -> CellExplanation:
    """The channels of ``layer`` that speak most for the predicted class, and where in the cell.

    ``image`` (C, H, W) is the prepared crop. A channel's contribution is the sum over positions of
    gradient × activation, of the predicted class's logit minus the mean of the others (Ancona et
    al. 2018, section 2; in a network that is linear from there on they add up to that difference
    exactly, up to its constants). The ``top`` channels with the largest positive contributions are
    the deciding ones; where no channel speaks for the class, the least against it are given.

    Each deciding channel's feature image (a row of ``features``, where there is one; otherwise the
    cell itself) is modulated by the channel's activation map on this cell. ``total`` is their sum,
    weighted by their contributions. ``saliency`` says where in the cell the evidence for the class
    lies, through all channels and all depths up to the layer (`measure_saliency`); some of the
    ``references``, prepared crops (R, C, H, W), serve as contrast: those given another class.

    ``background`` as in ``modulate``; without feature images the lowest intensity of the crop's
    border, per image channel.

    Raises SettingError for layers without positions, InputError for images that do not fit.

    >>> network = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(400, 2))
    >>> cell = np.random.default_rng(0).random((1, 12, 12)).astype(np.float32)
    >>> why = explain_cell(network, cell, layer="0", class_names=["G1", "G2"], top=1)
    >>> len(why.channels), why.total.shape, why.saliency.shape
    (1, (1, 12, 12), (12, 12))
    """
    network = network_of(model)
    if image.ndim != 3:
        raise InputError(f"an image of shape {image.shape} came; give (channel, y, x)")
    found = resolve_layer(network, (image.shape[0], image.shape[1], image.shape[2]), layer)
    require_positions(found)
    if features is not None and features.layer != found.name:
        raise InputError(f"feature images of '{features.layer}' came for layer '{found.name}'")
    logits, maps, evidence = _evidence(network, image, found)
    if class_names is None:
        if not isinstance(model, Classifier):
            raise SettingError("no class_names came; give one per logit, or a Classifier")
        class_names = model.class_names
    if len(logits) != len(class_names):
        raise InputError(f"{len(class_names)} class names came for {len(logits)} classes")

    contributions = evidence.sum(axis=(1, 2))  # (channel,)
    order = np.argsort(-contributions, kind="stable")
    n_for = int((contributions > 0).sum())
    deciding = order[: min(top, max(n_for, 1))].astype(np.int64)
    weights = np.maximum(contributions[deciding], 0)
    weights = weights / weights.sum() if weights.sum() > 0 else np.full(len(deciding), 0.0)

    pictures, targets = _pictures(image, deciding, features)
    if background is None:
        background = _background(image, features)

    gain = gain_of(
        maps[deciding],
        image.shape[1:],
        interpolation=interpolation,
        normalisation=normalisation,
        stride=stride,
    )
    shown = apply_gain(pictures, gain, background=background)
    level = apply_gain(pictures[:1], np.zeros_like(gain[:1]), background=background)[0]
    total = level + np.tensordot(weights, shown - level, axes=1)
    predicted = int(logits.argmax())
    saliency = measure_saliency(
        network,
        image[None],
        layer=found,
        target=predicted,
        references=None if references is None else contrasting(network, references, predicted),
        background=background,
        interpolation=interpolation,
        stride=stride,
    )[0]
    peak = float(saliency.max())

    probabilities = np.exp(logits - logits.max())
    probabilities /= probabilities.sum()
    return CellExplanation(
        cell=cell,
        name=name,
        image=np.asarray(image, dtype=np.float32),
        true_class=true_class,
        predicted_class=class_names[predicted],
        probability=float(probabilities[predicted]),
        layer=found.name,
        channels=deciding,
        contributions=contributions[deciding].astype(np.float32),
        modulated=ModulatedImages(
            layer=found.name,
            targets=targets,
            images=shown,
            gain=gain,
            salient=salient_gain(
                network,
                np.repeat(image[None], len(deciding), axis=0).astype(np.float32),
                deciding,
                gain,
                found,
                background,
            ),
            source=name or f"cell {cell}",
            settings={
                "interpolation": interpolation,
                "normalisation": normalisation,
                "background": level[:, 0, 0].tolist(),
                "stride": stride,
            },
        ),
        total=total.astype(np.float32),
        saliency=(saliency / peak if peak > 0 else saliency).astype(np.float32),
        began=_began(deciding, features),
    )


def _evidence(
    model: nn.Module, image: NDArray[np.float32], layer: Layer
) -> tuple[NDArray[np.float64], NDArray[np.float32], NDArray[np.float64]]:
    """Logits (K,), rectified maps (C, h, w), and gradient × activation at each position."""
    picture = torch.from_numpy(np.array(image, dtype=np.float32))[None]
    picture = picture.to(device_of(model)).requires_grad_()
    logits_place = resolve_layer(model, (image.shape[0], *image.shape[1:]), "logits").activation
    places = [layer.activation, layer.pre_activation, logits_place]
    with evaluating(model), torch.enable_grad(), capture(model, places) as values:
        model(picture)
        activation = values[layer.activation]
        logits = values[logits_place]  # (1, K)
        product = gradient_times_activation(logits, values, layer)
    evidence = product[0].double().cpu().numpy()
    maps = activation[0].detach().clamp(min=0).float().cpu().numpy()
    return logits[0].detach().double().cpu().numpy(), maps, evidence


def _pictures(
    image: NDArray[np.float32], channels: NDArray[np.int64], features: FeatureImages | None
) -> tuple[NDArray[np.float32], tuple[str, ...]]:
    """What is modulated for each channel (K, C, H, W), and how it is called."""
    pictures: list[NDArray[np.float32]] = []
    targets: list[str] = []
    for channel in channels:
        rows = [] if features is None else np.flatnonzero(features.channels == channel)
        if features is not None and len(rows):
            pictures.append(features.images[rows[0]])
            targets.append(f"channel {channel}")
        else:
            pictures.append(np.asarray(image, dtype=np.float32))
            missing = "" if features is None else " (the cell itself)"
            targets.append(f"channel {channel}{missing}")
    if any(picture.shape != image.shape for picture in pictures):
        raise InputError("feature images are not of the cell's shape; make them for this network")
    return np.stack(pictures), tuple(targets)


def _began(channels: NDArray[np.int64], features: FeatureImages | None) -> FeatureImages | None:
    """The feature images of these channels, if they were made from cells."""
    if features is None or features.starts is None:
        return None
    rows = [int(row) for c in channels for row in np.flatnonzero(features.channels == c)[:1]]
    return features.of(rows) if rows else None


def _background(image: NDArray[np.float32], features: FeatureImages | None) -> Background:
    """Of the feature images' settings; else the lowest intensity along the crop's border."""
    if features is not None and "background" in features.settings:
        return features.settings["background"]
    edges = (image[:, 0], image[:, -1], image[:, :, 0], image[:, :, -1])
    return np.concatenate(edges, axis=1).min(axis=1).tolist()
