"""Crops with planted defects, and unusual crops without one, each with what it truly is."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

Floats = NDArray[np.float64]

MOST_COVERED = 0.6  # of a crop, by its cell

DEFECTS = ("empty", "debris", "cut off", "doublet", "out of focus", "saturated")
BOTH = "doublet, cut off"  # two cells for which the crop is too small
UNUSUAL = ("dim", "bright", "with debris", "shifted", "large")
"""Whole single cells: no defect may be named for any of them."""


@dataclass(frozen=True)
class Source:
    """Real or made crops, without their limits of intensity."""

    crops: NDArray[np.generic]  # (N, C, H, W)
    labels: NDArray[np.int64]  # (N,)
    limit: float  # the highest intensity that the detector gives
    dark: bool = False  # cells are darker than the ground


@dataclass(frozen=True)
class Planted:
    """The same crops with defects."""

    crops: NDArray[np.generic]  # (N, C, H, W)
    labels: NDArray[np.int64]  # (N,)
    kinds: NDArray[np.str_]  # (N,), of `DEFECTS`, of `UNUSUAL`, `BOTH`, or "plain"


def plant(source: Source, rng: np.random.Generator) -> Planted:
    """Each defect in 1 to 4 % of the crops, each unusual kind in 2 to 4 %, none twice.

    Works in intensities over the ground (turned round where cells are dark), adds the noise of
    the crop again where smoothing or a gain has changed it, and clips to the detector's limits. A
    crop for which a kind is impossible (no room for a shift, a gain that would clip) stays plain.
    """
    n = len(source.crops)
    made = source.crops.copy()
    kinds = np.full(n, "plain", dtype="<U16")
    order = iter(rng.permutation(n).tolist())
    shares = {kind: rng.uniform(0.01, 0.04) for kind in (*DEFECTS, BOTH)}
    shares |= {kind: rng.uniform(0.02, 0.04) for kind in UNUSUAL}
    others = Others(source, rng)
    for kind, share in shares.items():
        for _ in range(max(3, round(share * n))):
            k = next(order)
            changed = _change(kind, Crop.of(source, k), others, rng)
            if changed is not None:
                made[k] = _as_counts(changed, source, k)
                kinds[k] = kind
    return Planted(made, source.labels, kinds)


@dataclass(frozen=True)
class Crop:
    """A crop over its ground, positive where the cell is."""

    over: Floats  # (C, H, W)
    noise: Floats  # (C, 1, 1), s.d. from pixel to pixel
    mask: NDArray[np.bool_]  # (H, W), roughly where the cell is
    ceiling: Floats  # (C, 1, 1), over the ground

    @staticmethod
    def of(source: Source, k: int) -> "Crop":
        """The ``k``-th crop of a source."""
        over, ground = _over(source, k)
        fine = np.diff(np.diff(over, axis=1), axis=2) / 2
        noise = 1.4826 * np.median(np.abs(fine), axis=(1, 2))[:, None, None]
        smooth = ndimage.gaussian_filter(over.sum(0), 1.5)
        high = smooth > 0.25 * np.quantile(smooth, 0.99)
        named, count = ndimage.label(high)
        sizes = np.bincount(named.ravel())[1:] if count else np.zeros(0)
        mask = named == int(sizes.argmax()) + 1 if count else high
        ceiling = ground if source.dark else source.limit - ground
        return Crop(over, noise, np.asarray(ndimage.binary_fill_holes(mask)), ceiling)

    @property
    def box(self) -> tuple[int, int, int, int]:
        """Top, bottom, left, right of the cell (the last ones outside)."""
        y, x = np.flatnonzero(self.mask.any(1)), np.flatnonzero(self.mask.any(0))
        return (int(y[0]), int(y[-1]) + 1, int(x[0]), int(x[-1]) + 1) if len(y) else (0, 0, 0, 0)

    @property
    def bright(self) -> float:
        """Mean of the cell over the ground, of the brightest channel."""
        return (
            max(float(self.over[:, self.mask].mean(axis=1).max()), 1.0) if self.mask.any() else 1.0
        )

    @property
    def whole(self) -> bool:
        """Whether the cell lies inside the crop, with a pixel around it."""
        top, bottom, left, right = self.box
        height, width = self.mask.shape
        return top > 1 and left > 1 and bottom < height - 1 and right < width - 1


class Others:
    """Other crops of the same source, drawn at random."""

    def __init__(self, source: Source, rng: np.random.Generator) -> None:
        self.source, self.rng = source, rng
        self.bright = float(np.median([self.draw().bright for _ in range(64)]))

    def draw(self) -> Crop:
        """One of them."""
        return Crop.of(self.source, int(self.rng.integers(len(self.source.crops))))


def _change(kind: str, crop: Crop, others: Others, rng: np.random.Generator) -> Floats | None:
    """Intensities over the ground (C, H, W) of the crop with the defect; None: not possible."""
    if ndimage.binary_dilation(crop.mask, iterations=3).mean() > MOST_COVERED:
        return None  # there is no ground to take
    size = min(crop.mask.shape)
    if kind == "empty":
        made = _ground(crop, rng)
        return made + rng.integers(0, 2, made.shape) if np.ptp(made) == 0 else made
    if kind == "debris":
        return _ground(crop, rng) + _speck(
            crop, max(crop.bright, others.bright), rng, anywhere=True
        )
    if kind == "cut off":
        return _moved(crop, rng, rng.uniform(0.3, 0.6))
    if kind in ("doublet", BOTH):
        return _two(crop, others, rng, beyond=kind == BOTH)
    if kind == "out of focus":
        blurred = ndimage.gaussian_filter(crop.over, (0, *[rng.uniform(2.5, 4) * size / 48] * 2))
        return blurred + crop.noise * rng.normal(size=blurred.shape)
    top = np.quantile(crop.over[:, crop.mask], 0.9) if crop.mask.any() else 0
    if kind == "saturated":
        cells_top = np.quantile(crop.over[:, crop.mask], rng.uniform(0.7, 0.95)) if top > 0 else 0
        return crop.over * float(crop.ceiling.min()) / cells_top * 1.02 if cells_top > 0 else None
    if kind == "dim":
        return 0.3 * crop.over + crop.noise * np.sqrt(1 - 0.09) * rng.normal(size=crop.over.shape)
    if kind == "bright":
        highest = np.maximum(crop.over.max((1, 2)), 1)
        gain = min(1.6, float((0.95 * crop.ceiling[:, 0, 0] / highest).min()))
        return gain * crop.over if gain > 1.15 else None
    if kind == "with debris":
        return crop.over + _speck(crop, max(crop.bright, others.bright), rng, anywhere=False)
    if kind == "shifted":
        return _moved(crop, rng, 0.0) if crop.whole else None
    return _larger(crop)


def _ground(crop: Crop, rng: np.random.Generator) -> Floats:
    """Ground alone: a corner of the crop mirrored to its size, or the cell painted over."""
    wide = ndimage.binary_dilation(crop.mask, iterations=3)
    height, width = crop.mask.shape
    if rng.random() < 0.5:
        side = max(6, min(height, width) // 4)
        corners = [
            (y, x) for y in (0, height - side) for x in (0, width - side)
        ]  # fmt: skip
        free = [wide[y : y + side, x : x + side].mean() for y, x in corners]
        if min(free) == 0:
            y, x = corners[int(np.argmin(free))]
            patch = crop.over[:, y : y + side, x : x + side]
            rest = ((0, 0), (0, height - side), (0, width - side))
            return np.pad(patch, rest, mode="symmetric")
    filled = crop.over.copy()
    outside = np.flatnonzero(~wide)
    chosen = rng.choice(outside, int(wide.sum()))
    filled[:, wide] = crop.over.reshape(len(crop.over), -1)[:, chosen]
    return filled


def _speck(crop: Crop, bright: float, rng: np.random.Generator, *, anywhere: bool) -> Floats:
    """A spot (C, H, W), small as against the crop's cell, anywhere in the crop or off the cell.

    As wide (s.d.) as 0.1 to 0.25 of the cell's radius, at least 0.7 px; 0.4 to 1.5 times as
    bright as ``bright``, and never clipped.
    """
    height, width = crop.mask.shape
    free = np.ones_like(crop.mask)
    if not anywhere:
        free = ~ndimage.binary_dilation(crop.mask, iterations=3)
    inner = np.zeros_like(free)
    inner[3:-3, 3:-3] = True
    places = np.argwhere(free & inner)
    if not len(places):
        places = np.argwhere(inner)
    cy, cx = places[rng.integers(len(places))]
    y, x = np.mgrid[:height, :width]
    spread = max(rng.uniform(0.1, 0.25) * np.sqrt(crop.mask.sum() / np.pi), 0.7)
    spot = np.exp(-((y - cy) ** 2 + (x - cx) ** 2) / (2 * spread**2))
    height_of_it = min(rng.uniform(0.4, 1.5) * bright, 0.8 * float(crop.ceiling.min()))
    return np.broadcast_to(height_of_it * spot, crop.over.shape)


def _moved(crop: Crop, rng: np.random.Generator, beyond: float) -> Floats | None:
    """The cell moved towards a side: ``beyond`` it by that share of its width; 0: just inside."""
    top, bottom, left, right = crop.box
    if bottom <= top:
        return None
    height, width = crop.mask.shape
    side = int(rng.integers(4))
    dy = (-top, height - bottom, 0, 0)[side]
    dx = (0, 0, -left, width - right)[side]
    if beyond:
        dy += (
            int(np.sign(dy or (side == 1) - (side == 0)) * beyond * (bottom - top))
            if side < 2
            else 0
        )
        dx += (
            int(np.sign(dx or (side == 3) - (side == 2)) * beyond * (right - left))
            if side > 1
            else 0
        )
    else:
        dy, dx = dy - int(np.sign(dy)) * 2, dx - int(np.sign(dx)) * 2
    moved = _ground(crop, rng)
    wide = ndimage.binary_dilation(crop.mask, iterations=3)
    ys, xs = np.nonzero(wide)
    inside = (ys + dy >= 0) & (ys + dy < height) & (xs + dx >= 0) & (xs + dx < width)
    ys, xs = ys[inside], xs[inside]
    moved[:, ys + dy, xs + dx] = crop.over[:, ys, xs]
    return moved


def _two(crop: Crop, others: Others, rng: np.random.Generator, *, beyond: bool) -> Floats | None:
    """A second cell next to the first, touching it or nearly; both moved off the middle.

    None where they do not both lie inside; ``beyond``: where more than a fifth of one does not.
    """
    other = others.draw()
    if not (crop.mask.any() and other.mask.any()):
        return None
    radii = [np.sqrt(one.mask.sum() / np.pi) for one in (crop, other)]
    apart = rng.uniform(0.8, 1.2) * sum(radii)
    angle = rng.uniform(0, 2 * np.pi)
    total = _ground(crop, rng)
    for one, sign in ((crop, 1), (other, -1)):
        dy = round(float(sign * apart / 2 * np.sin(angle)))
        dx = round(float(sign * apart / 2 * np.cos(angle)))
        wide = ndimage.binary_dilation(one.mask, iterations=2)
        ys, xs = np.nonzero(wide)
        height, width = wide.shape
        inside = (ys + dy >= 0) & (ys + dy < height) & (xs + dx >= 0) & (xs + dx < width)
        if inside.mean() < (0.8 if beyond else 1.0):
            return None
        ys, xs = ys[inside], xs[inside]
        place = (slice(None), ys + dy, xs + dx)
        total[place] = np.maximum(total[place], one.over[:, ys, xs])
    return total


def _larger(crop: Crop) -> Floats | None:
    """The crop magnified by 1.3 about the cell, where it then still lies inside."""
    if not crop.mask.any():
        return None
    top, bottom, left, right = crop.box
    middle = np.array([(top + bottom - 1) / 2, (left + right - 1) / 2])
    shape = np.array(crop.mask.shape)
    if 1.3 * max(bottom - top, right - left) > shape.min() - 4:
        return None
    target = (shape - 1) / 2
    offset = middle - target / 1.3
    return np.stack(
        [
            ndimage.affine_transform(one, np.full(2, 1 / 1.3), offset, order=3, mode="mirror")
            for one in crop.over
        ]
    )


def _over(source: Source, k: int) -> tuple[Floats, Floats]:
    crop = source.crops[k].astype(np.float64)
    frame = np.ones(crop.shape[1:], dtype=bool)
    frame[2:-2, 2:-2] = False
    ground = np.median(crop[:, frame], axis=1)[:, None, None]
    return (ground - crop if source.dark else crop - ground), ground


def _as_counts(over: Floats, source: Source, k: int) -> NDArray[np.generic]:
    ground = _over(source, k)[1]
    values = ground - over if source.dark else ground + over
    return np.clip(np.round(values), 0, source.limit).astype(source.crops.dtype)
