"""What records show of themselves at a prompt and in a notebook."""

import base64
import io
import re
from dataclasses import fields, is_dataclass
from importlib import import_module
from pkgutil import iter_modules
from types import NoneType, UnionType
from typing import Any, get_args, get_origin, get_type_hints

import numpy as np
import pytest
from PIL import Image

import cytolens.records
from cytolens.errors import SettingError
from cytolens.images.arrays import cells_from_arrays
from cytolens.numerics.estimates import Estimate
from cytolens.records.cells import Cells
from cytolens.records.features import FeatureImages
from cytolens.records.layers import Activations, Layer
from cytolens.records.shown import LINES, WIDTH

MANY = 100


def records() -> list[type]:
    modules = [
        import_module(f"cytolens.records.{module.name}")
        for module in iter_modules(cytolens.records.__path__)
    ]
    return [
        kind
        for module in modules
        for kind in vars(module).values()
        if isinstance(kind, type) and is_dataclass(kind) and kind.__module__ == module.__name__
    ]


def large(kind: Any) -> Any:
    """A value of a type, larger than any screen."""
    origin, parts = get_origin(kind), get_args(kind)
    origin = get_origin(getattr(origin, "__value__", None)) or origin  # NumPy 2.5 has named types
    if origin is np.ndarray:
        return np.zeros((MANY, 4), dtype=np.int64)
    if origin is UnionType:
        return large(next(part for part in parts if part is not NoneType))
    if origin is tuple:
        return (large(parts[0]),) * MANY if parts[-1] is ... else tuple(map(large, parts))
    if origin is not None and issubclass(origin, dict | import_module("collections.abc").Mapping):
        return {f"key {i}": large(parts[1]) for i in range(MANY)}
    if is_dataclass(kind):
        assert isinstance(kind, type)
        hints = get_type_hints(kind)
        return kind(**{field.name: large(hints[field.name]) for field in fields(kind)})
    known = {str: "long text\n" * MANY, int: 7, float: 1 / 3, bool: True}
    return known.get(kind)


@pytest.mark.parametrize("kind", [k for k in records() if k is not Cells], ids=lambda k: k.__name__)
def test_every_record_is_shown_on_few_lines_that_name_its_fields(kind: type) -> None:
    shown = repr(large(kind)).splitlines()
    assert len(shown) <= LINES
    assert max(map(len, shown)) <= WIDTH
    assert shown[0].startswith(f"{kind.__name__}: ")
    assert [line.split()[0] for line in shown[1:]] == [f.name for f in fields(kind)]


def test_values_are_shown_as_a_reader_wants_them() -> None:
    images = feature_images(3)
    said = dict(line.split(maxsplit=1) for line in repr(images).splitlines()[1:])
    assert said["images"] == "float32 (3, 1, 8, 8)"
    assert said["targets"] == "channel 0, channel 1, channel 2"
    assert said["activation"] == "0, 1, 2"
    assert said["settings"] == "steps=20, prior=cells"
    assert "… (200)" in repr(feature_images(200))


def test_cells_are_shown_by_their_classes_and_groups_however_many_they_are() -> None:
    labels = np.arange(20_000) % 3
    crops = np.random.default_rng(0).integers(0, 99, (20_000, 4, 4), dtype=np.uint8)
    cells = cells_from_arrays(crops, labels, class_names=["G1", "S", "G2"], size=16)
    shown = repr(cells.subset(np.arange(10_000))).splitlines()
    assert len(shown) <= LINES
    assert max(map(len, shown)) <= WIDTH
    assert shown[0].startswith("Cells: 10000 crops of 1 × 16 × 16 px")
    assert "G1=3334, S=3333, G2=3333" in shown[1]


def picture_in(html: str) -> np.ndarray:
    found = re.search(r"base64,([^\"]+)\"", html)
    assert found is not None
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(found[1]))))


@pytest.mark.parametrize("channels", [1, 2, 3])
def test_a_notebook_shows_a_strip_of_the_images_below_100_kb(channels: int) -> None:
    html = feature_images(30, channels=channels, side=160)._repr_html_()
    assert len(html) < 100_000
    strip = picture_in(html)
    assert strip.ndim == (3 if channels == 3 else 2)
    assert strip.shape[1] > 3 * strip.shape[0]
    assert "FeatureImages: " in html


def test_pictures_are_scaled_from_their_darkest_to_their_brightest_pixel() -> None:
    crops = np.zeros((24, 16, 16), dtype=np.uint16)
    crops[:, 3, 5] = 4000
    crops[:, 0, 0] = np.arange(24)
    cell = cells_from_arrays(crops, ["a", "b"] * 12)[1]
    strip = picture_in(cell._repr_html_())
    assert (strip[3, 5], strip[10, 10]) == (255, 0)


def feature_images(n: int, *, channels: int = 1, side: int = 8) -> FeatureImages:
    random = np.random.default_rng(0)
    return FeatureImages(
        layer="conv1",
        targets=tuple(f"channel {i}" for i in range(n)),
        channels=np.arange(n),
        images=random.random((n, channels, side, side), dtype=np.float32),
        activation=np.arange(n, dtype=np.float32),
        natural=np.zeros((n, 3), dtype=np.float32),
        activation_maps=np.zeros((n, 4, 4), dtype=np.float32),
        history=np.zeros((n, 20), dtype=np.float32),
        dead=np.zeros(n, dtype=bool),
        settings={"steps": 20, "prior": "cells"},
    )


def test_an_estimate_is_shown_with_its_interval_within_a_record() -> None:
    from cytolens.records.classifier import Evaluation

    measures = {"accuracy": Estimate(0.9, 0.8, 0.95)}
    evaluation = Evaluation(measures, np.eye(2, dtype=np.int64), np.zeros((5, 3)), 40)
    assert "accuracy=0.900 [0.800, 0.950]" in repr(evaluation)


def test_activations_know_their_layers_and_name_them() -> None:
    place = ("conv1", 0, "output")
    layers = tuple(
        Layer(name, "conv", depth, (4, 8, 8), 3, place, place)
        for depth, name in enumerate(("conv1", "conv2"))
    )
    features = {"conv1": np.ones((5, 4)), "conv2": np.zeros((5, 4))}
    activations = Activations(layers, features, "mean")
    assert (len(activations), list(activations)) == (2, ["conv1", "conv2"])
    assert "conv1" in activations
    assert "nope" not in activations
    assert activations["conv2"].shape == (5, 4)
    for read in (activations.__getitem__, lambda name: activations.rows(name, np.array([0]))):
        with pytest.raises(SettingError, match="'nope' is unknown; choose one of: conv1, conv2"):
            read("nope")
