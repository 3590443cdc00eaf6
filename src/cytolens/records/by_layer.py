"""Functions of the features of one layer, or of several by name, under one and the same name."""

from collections.abc import Callable, Mapping
from functools import wraps
from typing import Any, Concatenate, ParamSpec, Protocol, TypeVar, overload

from numpy.typing import ArrayLike

from cytolens.numerics.estimates import one_seed
from cytolens.numerics.features import feature_matrix
from cytolens.records.layers import Activations

P = ParamSpec("P")
R = TypeVar("R")

ByLayer = Activations | Mapping[str, Any]
"""Activations, or arrays (N, F) by layer name, in depth order."""


class OneOrByLayer(Protocol[P, R]):
    """Gives one result for an array (N, F), and results by layer name for `ByLayer`."""

    @overload
    def __call__(self, features: ByLayer, /, *args: P.args, **kwargs: P.kwargs) -> dict[str, R]: ...
    @overload
    def __call__(self, features: ArrayLike, /, *args: P.args, **kwargs: P.kwargs) -> R: ...


def _is_by_layer(value: Any) -> bool:
    return isinstance(value, Mapping | Activations)


def of_each_layer(measure: Callable[Concatenate[Any, P], R]) -> OneOrByLayer[P, R]:
    """``measure`` of one array, that also takes arrays by layer: each by itself, all as one seed.

    Keyword arguments that are by layer too (``untrained``) go to their layer; ``name`` is its name.
    """

    @wraps(measure)
    def call(features: Any, *args: Any, **options: Any) -> Any:
        if not _is_by_layer(features):
            return measure(features, *args, **options)
        options["rng"] = one_seed(options.get("rng"))

        def own(layer: str) -> dict[str, Any]:
            found = {k: v[layer] if _is_by_layer(v) else v for k, v in options.items()}
            return {**found, "name": layer}

        return {layer: measure(features[layer], *args, **own(layer)) for layer in features}

    return call  # pyright: ignore[reportReturnType]


def of_all_layers(make: Callable[Concatenate[Any, P], dict[str, R]]) -> OneOrByLayer[P, R]:
    """``make`` of arrays by layer, that also takes one array, of a layer called ``name``."""

    @wraps(make)
    def call(features: Any, *args: Any, **options: Any) -> Any:
        if _is_by_layer(features):
            return make(features, *args, **options)
        name = options.get("name", "features")
        return make({name: feature_matrix(features, name=name)}, *args, **options)[name]

    return call  # pyright: ignore[reportReturnType]
