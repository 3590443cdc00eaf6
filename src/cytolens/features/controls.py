"""Images that a feature image has to outdo before it says anything of its channel.

An image that starts at a real cell owes much to that cell, and a channel may be no better a thing
to ask for than any other direction of its layer. So the same ascent is repeated without the
network, for another channel from the same start, and for the channels rotated (the last as the
control of Bau et al. 2017, Network Dissection, section 4.2).
"""

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from torch import nn

from cytolens.activations.capture import network_and_shape
from cytolens.activations.layers import find_layers
from cytolens.classifier.model import Classifier
from cytolens.errors import InputError
from cytolens.features.ascent import Ascent
from cytolens.features.objectives import channel, direction
from cytolens.features.optimisation import feature_images
from cytolens.features.priors import Prior
from cytolens.numerics.estimates import Rng, generator, one_seed
from cytolens.records.features import FeatureImages
from cytolens.records.shown import record


@record
class Controls:
    """Controls of some images of a layer."""

    layer: str
    rows: NDArray[np.int64]  # (k,), the images that they belong to
    hold_only: NDArray[np.float32]  # (k, C, H, W), the ascent with the network's part times zero
    wrong_channel: NDArray[np.float32]  # (k, C, H, W), another channel from the same start
    rotated: NDArray[np.float32]  # (r, C, H, W), of random directions of the layer
    directions: NDArray[np.float64]  # (r, channel), these, in the layer's activation


def make_controls(
    model: nn.Module | Classifier,
    images: FeatureImages,
    scores: NDArray[np.floating],
    *,
    prior: Prior,
    ascent: Ascent | None = None,
    input_shape: tuple[int, int, int] | None = None,
    count: int = 4,
    rng: Rng = None,
    device: str | None = None,
) -> Controls:
    """Controls of at most ``count`` of the images of one layer's channels, and as many rotations.

    ``images`` were made with this ``prior``, whose images start at cells, and this ``ascent``.
    ``scores`` (n, channel): what the layer answers to the prior's cells. The wrong channel of an
    image is another of the ``images``, half the gallery away. Rotations are random orthogonal ones
    of the channels that answer to cells at all, each in its standard deviations.

    Raises InputError where images did not start from cells.
    """
    network, shape = network_and_shape(model, input_shape)
    if images.starts is None or not prior.starts_from_cells:
        raise InputError(f"images of '{images.layer}' did not start at cells; controls take those")
    draw, seed = generator(rng), one_seed(rng)
    plain = replace(ascent or Ascent(), variants=1, guided_by=None)
    alive = np.flatnonzero(~images.dead)
    rows = alive[:count]
    own = images.channels[rows].tolist()
    others = np.roll(alive, -max(1, len(alive) // 2))[: len(rows)]
    guided = replace(plain, guided_by=scores[:, own])

    def make(objective: object, settings: Ascent) -> NDArray[np.float32]:
        return feature_images(
            network, objective=objective, input_shape=shape, prior=prior, ascent=settings,  # pyright: ignore[reportArgumentType]
            rng=seed, device=device,
        ).images  # fmt: skip

    empty = np.zeros((0, *shape), np.float32)
    held = wrong = rotated = empty
    if own:
        first = next(la for la in find_layers(network, shape) if la.kind != "input")
        held = make(0.0 * channel(first.name, [0] * len(own)), guided)
    if len(alive) > 1:
        wrong = make(channel(images.layer, images.channels[others].tolist()), guided)
    directions = _rotations(scores, len(rows), draw)
    if len(directions):
        rotated = make(direction(images.layer, directions), plain)
    return Controls(images.layer, rows, held, wrong, rotated, directions)


def _rotations(
    scores: NDArray[np.floating], count: int, draw: np.random.Generator
) -> NDArray[np.float64]:
    """Random orthonormal directions (count, channel) of the standardised channels."""
    deviation = scores.std(0, dtype=np.float64)
    lively = np.flatnonzero(deviation > 1e-6 * deviation.max(initial=1e-12))
    count = min(count, len(lively))
    if len(lively) < 2 or count == 0:
        return np.zeros((0, scores.shape[1]))
    turned, _ = np.linalg.qr(draw.standard_normal((len(lively), count)))
    found = np.zeros((count, scores.shape[1]))
    found[:, lively] = turned.T / deviation[lively]
    return found / np.linalg.norm(found, axis=1, keepdims=True)
