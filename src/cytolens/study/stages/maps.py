"""Maps of the feature space at every depth."""

from cytolens.records.cells import Progress
from cytolens.records.layers import Activations
from cytolens.records.maps import Embedding
from cytolens.study.parts import Made, Parts
from cytolens.study.stage import Stage, Summary
from cytolens.study.stages.cells import Rows

Maps = dict[str, dict[str, Embedding]]
"""``maps[method][layer]``."""


def maps(
    activations: Activations,
    mapped: Rows,
    *,
    methods: list[str],
    seed: int,
    device: str | None,
    progress: Progress,
) -> Made[dict[str, Embedding], Maps]:
    """Each depth in the plane, by each method."""
    from cytolens.embedding.methods import embed

    features = {name: activations.rows(name, mapped) for name in activations}

    def by_method(number: int) -> dict[str, Embedding]:
        method = methods[number]
        return embed(features, method=method, device=device, rng=seed, progress=progress)

    made = yield Parts(methods, by_method)
    return dict(zip(methods, made, strict=True))


def _summary(maps: Maps) -> Summary:
    return Summary(
        {
            "maps": [
                {"layer": layer, "method": method, "quality": dict(embedding.quality)}
                for method, by_layer in maps.items()
                for layer, embedding in by_layer.items()
            ]
        }
    )


MAPS = Stage("maps", "making maps", maps, version=3, summary=_summary)
