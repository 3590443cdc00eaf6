"""Does what is kept of an image keep what it was kept for? Insertion and deletion of pixels.

Source: Petsiuk et al. 2018 (RISE), section 3.3.
"""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from torch import nn

from cytolens.activations.capture import network_of
from cytolens.activations.layers import resolve_layer
from cytolens.activations.maps import capture_maps
from cytolens.classifier.model import Classifier
from cytolens.errors import InputError
from cytolens.features.gain import apply_gain, descending, moved_to
from cytolens.features.saliency import SMOOTHING
from cytolens.numerics.estimates import Estimate, Rng, generator, mean_of
from cytolens.records.features import FeatureImages, ModulatedImages

TENTHS = tuple(k / 10 for k in range(1, 10))  # of the pixels

Maps = NDArray[np.floating]
Evidence = Callable[[NDArray[np.float32]], NDArray[np.floating]]
"""Images (N, C, H, W) -> one number each, (N,): what should be kept."""


def insertion(
    saliency: Maps,
    images: NDArray[np.float32],
    reference: NDArray[np.float32],
    evidence: Evidence,
    *,
    fractions: Sequence[float] = TENTHS,
) -> NDArray[np.float64]:
    """Share of the evidence that is there once the most salient pixels are put in, (N,).

    Pixels of ``images`` (N, C, H, W) are put into ``reference`` (of the same shape: background, or
    the same cell without a feature) in the order of ``saliency`` (N, H, W), the most salient
    first. 0 is the evidence of the reference (or less) and 1 that of the image (or more); the mean
    is over ``fractions`` of the pixels. NaN where an image has no more evidence than its reference.
    """
    none, whole = evidence(reference), evidence(images)
    return _mean_share(saliency, reference, images, evidence, none, whole, fractions)


def deletion(
    saliency: Maps,
    images: NDArray[np.float32],
    reference: NDArray[np.float32],
    evidence: Evidence,
    *,
    fractions: Sequence[float] = TENTHS,
) -> NDArray[np.float64]:
    """Share of the evidence that stays once the most salient pixels are taken out, (N,).

    The other way round than `insertion`: the lower, the more of what counts was found.
    """
    none, whole = evidence(reference), evidence(images)
    return _mean_share(saliency, images, reference, evidence, none, whole, fractions)


def displaced(maps: Maps, *, rng: Rng = None) -> Maps:
    """Each map (K, H, W) rolled by a random amount: the same shape in a random place.

    A fairer control than pixels in random order, which make a noise that no map makes.
    """
    draw = generator(rng)
    ways = [tuple(draw.integers(0, side) for side in maps.shape[1:]) for _ in maps]
    return np.stack([np.roll(m, way, (0, 1)) for m, way in zip(maps, ways, strict=True)])


def measure_kept(
    model: nn.Module | Classifier,
    images: FeatureImages,
    modulated: ModulatedImages,
    *,
    others: Mapping[str, Maps] | None = None,
    rng: Rng = None,
) -> dict[str, Estimate]:
    """How much of their channel's activation the kept parts of feature images keep.

    The activation is the mean of the channel's rectified map; 0 is that of plain background, 1
    that of the whole feature image (or more). ``kept``: of the modulated image. ``insertion``:
    mean while the image is put into the background, a tenth of the pixels at a time, in the order
    of the gain; ``deletion``: while they are taken out, the lower the better. The same with a
    prefix for the same gains elsewhere: ``random_`` in a random place (`displaced`),
    ``brightness_`` on the brightest pixels, ``contrast_`` on those of strongest local contrast
    (`local_contrast`), and with the name of each of ``others``, maps (K, H, W) that say another
    order; and ``salient_`` where the modulated images have it. ``ahead_of_…``: by how much
    ``kept`` is above theirs, channel by channel; ``salient_ahead_of_…`` by how much
    ``salient_kept`` is. Means over channels with bootstrap intervals; dead channels, and targets
    that are no channel, are left out, as are channels that plain background drives as much as
    the image does.

    Raises InputError where nothing is left, or where the two are not of the same targets.
    """
    network = network_of(model)
    if images.targets != modulated.targets or images.layer != modulated.layer:
        raise InputError(
            f"modulated images of {len(modulated.targets)} targets of '{modulated.layer}' came for "
            f"{len(images.targets)} feature images of '{images.layer}'; give those made from them"
        )
    chosen = np.flatnonzero((images.channels >= 0) & ~images.dead)
    if len(chosen) == 0:
        raise InputError("no image of a channel that is alive came; give some to measure")
    whole = images.images[chosen]
    background: list[float] = modulated.settings["background"]
    gains = modulated.gain[chosen]
    nothing = apply_gain(whole, np.zeros_like(gains), background=background)

    shape = (whole.shape[1], whole.shape[2], whole.shape[3])
    layer = resolve_layer(network, shape, images.layer)

    def activation(crops: NDArray[np.float32]) -> NDArray[np.floating]:
        maps = capture_maps(network, crops, layer)
        return maps[np.arange(len(crops)), images.channels[chosen]].mean(axis=(1, 2))

    none, full = activation(nothing), activation(whole)
    span = np.where(full > none, full - none, np.nan)
    draw = generator(rng)
    orders = {"": gains}
    if modulated.salient is not None:
        orders["salient_"] = modulated.salient[chosen]
    orders["random_"] = displaced(gains, rng=draw)
    elsewhere = {
        "brightness": (whole - nothing).mean(axis=1),
        "contrast": local_contrast(whole),
        **{name: maps[chosen] for name, maps in (others or {}).items()},
    }
    orders |= {f"{name}_": moved_to(gains, maps) for name, maps in elsewhere.items()}
    found: dict[str, Estimate] = {}
    kept: dict[str, NDArray[np.float64]] = {}
    for prefix, maps in orders.items():
        columns = {
            "insertion": _mean_share(maps, nothing, whole, activation, none, full, TENTHS),
            "deletion": _mean_share(maps, whole, nothing, activation, none, full, TENTHS),
        }
        faded = apply_gain(whole, maps.astype(np.float32), background=background)
        columns["kept"] = kept[prefix] = np.clip((activation(faded) - none) / span, 0, 1)
        for name, values in columns.items():
            found[prefix + name] = mean_of(values, rng=draw)
        if prefix not in ("", "salient_"):
            found[f"ahead_of_{prefix[:-1]}"] = mean_of(kept[""] - kept[prefix], rng=draw)
            if "salient_" in kept:
                more = kept["salient_"] - kept[prefix]
                found[f"salient_ahead_of_{prefix[:-1]}"] = mean_of(more, rng=draw)
    return found


def local_contrast(images: NDArray[np.float32]) -> NDArray[np.float32]:
    """Standard deviation of the intensities about each pixel (N, H, W), in a Gaussian window.

    Of images (N, C, H, W), the largest over image channels; the window's standard deviation is
    a 32nd of the smaller side, as saliency is smoothed.
    """
    sigma = (0, 0, *[SMOOTHING * min(images.shape[2:])] * 2)
    doubles = images.astype(np.float64)
    mean = ndimage.gaussian_filter(doubles, sigma)
    square = ndimage.gaussian_filter(doubles**2, sigma)
    return np.sqrt(np.maximum(square - mean**2, 0)).max(axis=1).astype(np.float32)


def _mean_share(
    saliency: Maps,
    start: NDArray[np.float32],
    end: NDArray[np.float32],
    evidence: Evidence,
    none: NDArray[np.floating],
    whole: NDArray[np.floating],
    fractions: Sequence[float],
) -> NDArray[np.float64]:
    """Mean share of the evidence (N,) while pixels of ``end`` replace those of ``start``."""
    n, _, height, width = start.shape
    order = descending(saliency)
    span = np.where(whole > none, whole - none, np.nan)
    shares: list[NDArray[np.floating]] = []
    for fraction in fractions:
        taken = np.zeros((n, height * width), dtype=bool)
        first = order[:, : max(1, round(fraction * height * width))]
        np.put_along_axis(taken, first, True, axis=1)
        mixed = np.where(taken.reshape(n, 1, height, width), end, start)
        shares.append(np.clip((evidence(mixed) - none) / span, 0, 1))
    return np.stack(shares).astype(np.float64).mean(axis=0)
