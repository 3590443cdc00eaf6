"""Simulated white blood cells with the truth about them, and features planted in one class."""

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cytolens.errors import SettingError, choose
from cytolens.numerics.estimates import Rng, generator
from cytolens.records.cells import Progress, Simulation
from cytolens.simulation.optics import Optics, expose, flat_through_lens, through_lens
from cytolens.simulation.rendering import Dye, render
from cytolens.simulation.shapes import CLASS_NAMES, CellTypes, Floats, Shapes, draw_shapes

BATCH = 64  # cells rendered together: 48 px arrays of one batch stay in a core's cache
DEFAULT_OPTICS = Optics()
DEFAULT_TYPES = CellTypes()
LEAST_FIELD = 12.0  # µm, the narrowest image that holds a white blood cell

# Size in µm and contrast of each kind, where not given: seen at a glance in focus, at difficulty 0.
_PLANTS = {"granule": (1.2, 2.0), "rim": (0.7, 0.7), "bar": (4.0, 1.0), "texture": (4.0, 1.0)}


@dataclass(frozen=True)
class Plant:
    """A known feature added to one class; a faithful explanation has to point at it.

    - ``kind``: "granule", a round spot; "rim", a ring along the cell's outline; "bar", a straight
      rod a quarter as wide as long; "texture", a round patch of parallel stripes.
    - ``class_name``: the class that carries it, or any unambiguous part of its name.
    - ``size_um``: full width at half maximum of the granule, thickness of the rim, length of the
      bar, diameter of the patch, µm; None takes 1.2, 0.7, 4 and 4.
    - ``contrast``: its peak over the mean brightness of that cell's nucleus, before the lens; None
      takes 2, 0.7, 1 and 1. What the lens leaves of it is the property ``plant_contrast``.
    - ``frequency``: the fraction of that class's cells that carry it.
    - ``period_um``: distance of the stripes of the texture, µm.

    Raises SettingError for an unknown kind or class and for numbers out of range.
    """

    kind: str = "granule"
    class_name: str = "neutrophil"
    size_um: float | None = None
    contrast: float | None = None
    frequency: float = 1.0
    period_um: float = 1.1

    def __post_init__(self) -> None:
        object.__setattr__(self, "kind", choose("plant", self.kind, tuple(_PLANTS)))
        object.__setattr__(self, "class_name", choose("class", self.class_name, CLASS_NAMES))
        object.__setattr__(self, "size_um", self.extent)
        object.__setattr__(self, "contrast", self.peak)
        for name, low, high in (
            ("size_um", 0.2, 10),
            ("contrast", 0, 100),
            ("frequency", 0, 1),
            ("period_um", 0.3, 10),
        ):
            value = getattr(self, name)
            if not (low <= value <= high and value > 0):
                raise SettingError(
                    f"plant: {name} is {value}; it must be above 0, from {low} to {high}"
                )

    @property
    def extent(self) -> float:
        """``size_um``, resolved."""
        return _PLANTS[self.kind][0] if self.size_um is None else self.size_um

    @property
    def peak(self) -> float:
        """``contrast``, resolved."""
        return _PLANTS[self.kind][1] if self.contrast is None else self.contrast


def simulate(
    n: int = 2000,
    *,
    size: int = 48,
    difficulty: float = 0.5,
    plant: Plant | None = None,
    optics: Optics = DEFAULT_OPTICS,
    types: CellTypes = DEFAULT_TYPES,
    rng: Rng = None,
    progress: Progress | None = None,
) -> Simulation:
    """``n`` lymphocytes and neutrophils, half and half, as an imaging flow cytometer sees them.

    One channel of a nuclear dye that also stains the cytoplasm weakly, ``size`` × ``size`` pixels,
    12-bit counts as uint16. At ``difficulty`` 0 the nuclei are easy to distinguish; towards 1 lobes
    merge, lymphocyte nuclei become oval and cleft, focus wanders and light fails, until the eye
    cannot distinguish them. Both classes hold the same amount of DNA, and cell sizes overlap, so
    neither total brightness nor area predicts the class. ``plant`` adds a known feature to one.

    Masks (N, H, W): ``nucleus`` (bool), ``lobes`` (uint8, 1 … n_lobes within the nucleus),
    ``cytoplasm`` (bool), ``plant`` (bool: where the plant's noiseless image exceeds half its
    maximum; of the texture, the patch as a whole; empty where there is none).
    Properties (N,): ``n_lobes``; ``nucleus_area_um2``, ``cell_area_um2``, ``nc_ratio`` (of these
    areas, nucleus to cell), ``cell_diameter_um``; ``brightness`` (dye of the nucleus over the
    average), ``photons`` (expected from the whole cell), ``defocus_um``; ``angle_deg`` (of the
    nucleus' long axis, 0 … 180, from the x to the y axis), ``x_px``, ``y_px`` (the cell's centre,
    as column and row); ``has_plant``, ``plant_x_px``, ``plant_y_px``, ``plant_angle_deg`` and
    ``plant_contrast`` (NaN where absent).

    The same seed gives the same bytes, and a larger ``n`` begins with the cells of a smaller one.
    Neither ``difficulty`` nor ``plant`` changes the random numbers that shape and place a cell, so
    cells can be compared in pairs. ``types`` holds the morphology of the classes by difficulty.
    Memory beyond the result does not depend on ``n``.

    Raises SettingError if ``n``, ``size``, ``difficulty`` or the field of view is out of range.

    >>> simulation = simulate(4, rng=0)
    >>> simulation.images.shape, simulation.images.dtype, sorted(simulation.labels.tolist())
    ((4, 1, 48, 48), dtype('uint16'), [0, 0, 1, 1])
    >>> bool((simulation.masks["lobes"].max(axis=(1, 2)) == simulation.properties["n_lobes"]).all())
    True
    """
    _check(n, size, difficulty, optics)
    entropy = generator(rng).integers(0, 2**32, size=4, dtype=np.uint32).tolist()
    images = np.empty((n, 1, size, size), dtype=np.uint16)
    labels = np.empty(n, dtype=np.int64)
    masks: dict[str, NDArray[Any]] = {
        name: np.empty((n, size, size), dtype=np.uint8 if name == "lobes" else bool)
        for name in ("nucleus", "lobes", "cytoplasm", "plant")
    }
    properties: dict[str, NDArray[Any]] = {}
    for start in range(0, n, BATCH):
        seeds = np.random.SeedSequence(entropy, spawn_key=(start // BATCH,)).spawn(4)
        # A whole batch is drawn even if only part of it is wanted: larger n, same first cells.
        batch = _simulate_batch(size, difficulty, plant, optics, types, seeds)
        stop = min(start + BATCH, n)
        chosen = slice(start, stop)
        images[chosen, 0] = batch.images[: stop - start, 0]
        labels[chosen] = batch.labels[: stop - start]
        for name, mask in batch.masks.items():
            masks[name][chosen] = mask[: stop - start]
        for name, column in batch.properties.items():
            properties.setdefault(name, np.empty(n, dtype=column.dtype))
            properties[name][chosen] = column[: stop - start]
        if progress is not None:
            progress(stop, n, "simulating cells")
    settings = {
        "n": n,
        "size": size,
        "difficulty": difficulty,
        "plant": None if plant is None else asdict(plant),
        "optics": asdict(optics),
        "types": asdict(types),
        "seed": rng if isinstance(rng, int) else None,
    }
    return Simulation(
        images, labels, CLASS_NAMES, masks, properties, optics.pixel_size_um, settings
    )


def _check(n: int, size: int, difficulty: float, optics: Optics) -> None:
    if n < 1:
        raise SettingError(f"cells: {n} asked for; ask for at least 1")
    if not 16 <= size <= 512:
        raise SettingError(f"size is {size}; it must be from 16 to 512 pixels")
    if not 0 <= difficulty <= 1:
        raise SettingError(f"difficulty is {difficulty}; it must be from 0 (easy) to 1 (hard)")
    if size * optics.pixel_size_um < LEAST_FIELD:
        raise SettingError(
            f"{size} pixels of {optics.pixel_size_um} µm are too narrow for a white blood cell; "
            f"choose a size of at least {int(np.ceil(LEAST_FIELD / optics.pixel_size_um))}, or "
            f"Optics(pixel_size_um={np.ceil(100 * LEAST_FIELD / size) / 100})"
        )


def _simulate_batch(
    size: int,
    difficulty: float,
    plant: Plant | None,
    optics: Optics,
    types: CellTypes,
    seeds: list[np.random.SeedSequence],
) -> Simulation:
    """``BATCH`` cells. Shape, plant, noise and the plant's noise have a stream each.

    So a cell is the same, to its noise, with a plant and without.
    """
    draw, draw_plant, draw_noise, draw_more = (np.random.default_rng(seed) for seed in seeds)
    axis = ((np.arange(size) - (size - 1) / 2) * optics.pixel_size_um).astype(np.float32)
    first = draw.integers(0, 2, BATCH // 2)
    labels = np.stack([first, 1 - first], 1).ravel()  # each pair of cells holds one of each class
    shapes, order = draw_shapes(
        labels,
        difficulty=difficulty,
        field=size * optics.pixel_size_um,
        focus_sd=optics.focus_sd_um,
        brightness_cv=optics.brightness_cv,
        types=types,
        draw=draw,
    )
    dye = render(shapes, axis, axis)
    image = through_lens(dye.total, dye.moment_1, dye.moment_2, shapes.defocus, optics)
    planted = _plant(image.shape, plant, shapes, dye, axis, order, optics, draw_plant)
    scale = (optics.photons * shapes.light)[:, None, None]
    image *= scale
    more = planted.light * scale

    pixel = optics.pixel_size_um
    nucleus_area = dye.nucleus.sum((1, 2)) * pixel**2
    cell_area = dye.cell.sum((1, 2)) * pixel**2
    masks = {
        "nucleus": dye.nucleus,
        "lobes": dye.lobes,
        "cytoplasm": dye.cell & ~dye.nucleus,
        "plant": planted.mask,
    }
    properties: dict[str, NDArray[Any]] = {
        "n_lobes": shapes.n_lobes,
        "nucleus_area_um2": nucleus_area,
        "cell_area_um2": cell_area,
        "nc_ratio": nucleus_area / cell_area,
        "cell_diameter_um": 2 * shapes.radius,
        "brightness": shapes.dna,
        "photons": (image + more).sum((1, 2)),
        "defocus_um": shapes.defocus,
        "angle_deg": np.rad2deg(_long_axis(dye.nucleus, axis)),
        "x_px": shapes.centre[:, 0] / pixel + (size - 1) / 2,
        "y_px": shapes.centre[:, 1] / pixel + (size - 1) / 2,
        "has_plant": planted.present,
        "plant_x_px": planted.place[:, 0] / pixel + (size - 1) / 2,
        "plant_y_px": planted.place[:, 1] / pixel + (size - 1) / 2,
        "plant_angle_deg": np.rad2deg(planted.angle),
        "plant_contrast": planted.contrast,
    }
    back = np.argsort(order)
    properties = {
        name: column[back].astype(np.float32 if column.dtype.kind == "f" else column.dtype)
        for name, column in properties.items()
    }
    counts = expose(image[back], optics, draw_noise, added=(more[back], draw_more))
    return Simulation(
        counts[:, None],
        shapes.labels[back],
        CLASS_NAMES,
        {name: mask[back] for name, mask in masks.items()},
        properties,
        pixel,
        {},
    )


def _long_axis(masks: NDArray[np.bool_], axis: Floats) -> NDArray[np.float64]:
    """Direction of the long axis of each mask, 0…π, from the x to the y axis: second moments."""
    weights = masks.astype(np.float32)
    area = weights.sum((1, 2), dtype=np.float64)
    columns, rows = weights.sum(1), weights.sum(2)
    x, y = columns @ axis / area, rows @ axis / area
    xx, yy = columns @ axis**2 / area - x**2, rows @ axis**2 / area - y**2
    xy = (weights @ axis) @ axis / area - x * y
    return 0.5 * np.arctan2(2 * xy, xx - yy) % np.pi


@dataclass(frozen=True)
class _Planted:
    """Where the plants of a batch are; NaN where there is none."""

    light: Floats  # (n, H, W), what it adds to the noiseless image
    present: NDArray[np.bool_]  # (n,)
    mask: NDArray[np.bool_]  # (n, H, W)
    place: Floats  # (n, 2), µm from the middle of the image
    angle: Floats  # (n,), radians
    contrast: Floats  # (n,), peak behind the lens over the mean brightness of the nucleus


def _plant(
    shape: tuple[int, ...],
    plant: Plant | None,
    shapes: Shapes,
    dye: Dye,
    axis: Floats,
    order: NDArray[np.int64],
    optics: Optics,
    draw: np.random.Generator,
) -> _Planted:
    """What the plant adds to noiseless images of this ``shape`` (n, H, W), and where it is."""
    n = shape[0]
    chance, far, way, angle = draw.uniform(0, 1, (4, n)).astype(np.float32)[:, order]
    none = np.full(n, np.nan, dtype=np.float32)
    planted = _Planted(
        np.zeros(shape, dtype=np.float32),
        np.zeros(n, dtype=bool),
        np.zeros(shape, dtype=bool),
        np.full((n, 2), np.nan, dtype=np.float32),
        none,
        none.copy(),
    )
    if plant is None:
        return planted
    present = (shapes.labels == CLASS_NAMES.index(plant.class_name)) & (chance < plant.frequency)
    chosen = np.flatnonzero(present)
    if chosen.size == 0:
        return planted
    radius = shapes.radius[chosen]
    angle = (np.pi * angle[chosen]).astype(np.float32)
    room = np.maximum(0, 0.95 * radius - plant.extent / 2) * (plant.kind != "rim")
    away, way = room * np.sqrt(far[chosen]), 2 * np.pi * way[chosen]
    place = shapes.centre[chosen] + np.stack([away * np.cos(way), away * np.sin(way)], -1)
    pattern, region = _draw_plant(plant, place, angle, radius, dye.edge[chosen], axis)
    level = (plant.peak * dye.nuclear_level[chosen])[:, None, None]
    seen = flat_through_lens(pattern * level, shapes.defocus[chosen], optics)
    planted.light[chosen] = seen
    filled = seen
    if region is not pattern:
        filled = flat_through_lens(region, shapes.defocus[chosen], optics)
    planted.present[chosen] = True
    planted.mask[chosen] = filled > 0.5 * filled.max((1, 2), keepdims=True)
    planted.place[chosen] = place
    planted.angle[chosen] = angle
    planted.contrast[chosen] = seen.max((1, 2)) / dye.nuclear_level[chosen]
    return planted


def _draw_plant(
    plant: Plant, place: Floats, angle: Floats, radius: Floats, edge: Floats, axis: Floats
) -> tuple[Floats, Floats]:
    """The plant in front of the lens, (n, H, W), peak 1; and the region it fills."""
    column = (slice(None), None, None)
    dx, dy = axis - place[:, :1], axis - place[:, 1:]
    extent = plant.extent
    if plant.kind == "rim":  # Gaussian across the outline of the cell, which bends with it
        across = radius[column] * (np.sqrt(edge) - 1) + extent / 2
        ring = np.exp(-4 * np.log(2) * (across / extent) ** 2).astype(np.float32)
        return ring, ring
    cos, sin = np.cos(angle)[column], np.sin(angle)[column]
    along = (cos * dx[:, None, :] + sin * dy[:, :, None]) / (extent / 2)  # ±1 at the ends
    across = (cos * dy[:, :, None] - sin * dx[:, None, :]) / (extent / 2)
    if plant.kind == "granule":
        spot = np.exp(-np.log(2) * (along**2 + across**2)).astype(np.float32)
        return spot, spot
    if plant.kind == "bar":
        rod = np.exp(-np.log(2) * (along**8 + (4 * across) ** 2)).astype(np.float32)
        return rod, rod
    patch = np.exp(-np.log(2) * (along**2 + across**2) ** 4).astype(np.float32)
    stripes = 0.5 + 0.5 * np.cos(along * np.float32(np.pi * extent / plant.period_um))
    return (patch * stripes).astype(np.float32), patch
