"""What matters in a cell: modulated feature images, and cells explained by them."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from cytolens.errors import SettingError
from cytolens.numerics.estimates import Estimate
from cytolens.records.cells import Cells, Progress, Split
from cytolens.records.classifier import Predictions
from cytolens.records.features import (
    CellExplanation,
    FeatureImages,
    Galleries,
    ModulatedImages,
    Modulation,
)
from cytolens.records.layers import Layer
from cytolens.study.stage import Stage, Summary, as_entries
from cytolens.study.stages.cells import Rows
from cytolens.study.stages.features import Ascents, Layers

if TYPE_CHECKING:
    from cytolens.classifier.model import Classifier

_REFERENCES = 64  # cells that an explained cell is compared with


def modulated(
    network: "Classifier",
    cells: Cells,
    split: Split,
    layers: tuple[Layer, ...],
    evaluation: Predictions | None,
    features: Galleries,
    ascents: Ascents,
    *,
    source: str,
    explain: int,
    seed: int,
    progress: Progress,
) -> Modulation:
    """Modulated feature images, and cells explained by those of their deciding channels.

    ``source``: the cell whose activation maps modulate, or "self" for each image's own.
    """
    from cytolens.activations.maps import capture_maps
    from cytolens.features.insertion import measure_kept
    from cytolens.features.modulation import modulate
    from cytolens.features.saliency import explaining_layer

    cell = None if source == "self" else _find_cell(cells, source)
    chosen = np.empty(0, dtype=np.int64)
    if evaluation is not None:
        chosen = _representative_cells(cells, split, evaluation.probabilities, explain)
    if cell is not None and evaluation is not None:
        chosen = np.unique(np.append(chosen, cell))
    by_name = {layer.name: layer for layer in layers}
    spatial = [g for g in features.channels if len(by_name[g.layer].shape) == 3]
    made: list[ModulatedImages] = []
    kept: dict[str, Mapping[str, Estimate]] = {}
    for gallery in spatial:
        if cell is None:
            made.append(modulate(gallery, model=network))
            if not gallery.dead.all():
                kept[gallery.layer] = measure_kept(network, gallery, made[-1], rng=seed)
            continue
        crop, layer = cells.read(np.array([cell])), by_name[gallery.layer]
        maps = capture_maps(network.network, crop, layer)[0, gallery.channels]
        made.append(modulate(gallery, source=str(cells.names[cell]), activation_maps=maps))
    layer = explaining_layer([by_name[g.layer] for g in spatial], network.input_shape[1])
    explanations: list[CellExplanation] = []
    if layer is not None and len(chosen):
        gallery = next(g for g in spatial if g.layer == layer.name)
        explanations = _explain(network, cells, chosen, layer, gallery, ascents, progress)
    return Modulation(tuple(made), kept, tuple(explanations))


def _explain(
    network: "Classifier",
    cells: Cells,
    chosen: Rows,
    layer: Layer,
    gallery: FeatureImages,
    ascents: Ascents,
    progress: Progress,
) -> list[CellExplanation]:
    """The chosen cells explained; feature images that the gallery lacks are made as its own are."""
    from cytolens.features.modulation import explain_cell

    def explain(index: int, images: FeatureImages) -> CellExplanation:
        return explain_cell(
            network.network,
            cells.read(np.array([index]))[0],
            layer=layer,
            class_names=network.class_names,
            cell=index,
            name=str(cells.names[index]),
            true_class=cells.class_names[cells.labels[index]],
            features=images,
            references=ascents.cells[:_REFERENCES],
        )

    first = [explain(index, gallery) for index in chosen.tolist()]
    deciding = {channel for found in first for channel in found.channels.tolist()}
    missing = sorted(deciding - set(gallery.channels.tolist()))
    if not missing:
        return first
    progress(0, 1, f"{len(missing)} more channels of {layer.name}")
    more = ascents.alike(gallery).of_channels(network, layer.name, missing)
    images = gallery.joined(more)
    return [explain(index, images) for index in chosen.tolist()]


def _find_cell(cells: Cells, name: str) -> int:
    """The cell of that name, or of that number. Raises SettingError where there is none."""
    found = np.flatnonzero(cells.names == name)
    if len(found) == 0 and name.isdigit() and int(name) < len(cells):
        return int(name)
    if len(found) != 1:
        raise SettingError(
            f"--source '{name}' is no cell of this run; give 'self', a file name such as "
            f"'{cells.names[0]}', or a number below {len(cells)}"
        )
    return int(found[0])


def _representative_cells(
    cells: Cells, split: Split, probabilities: NDArray[np.float32], per_class: int
) -> Rows:
    """Test cells to explain: of each class the surest that are right, and one that is wrong."""
    test = split.test
    predicted = probabilities[test].argmax(1)
    chosen: list[int] = []
    for label in range(len(cells.class_names)):
        own = test[(cells.labels[test] == label) & (predicted == label)]
        order = np.argsort(-probabilities[own, label], kind="stable")
        chosen += own[order[:per_class]].tolist()
    wrong = test[predicted != cells.labels[test]]
    if per_class and len(wrong):
        chosen.append(int(wrong[probabilities[wrong].max(1).argmax()]))
    return np.array(chosen, dtype=np.int64)


def _summary_of_modulation(modulated: Modulation, layers: Layers) -> Summary:
    kept = {name: as_entries(found) for name, found in modulated.kept.items()}
    return Summary(layers={la.name: {"modulation": kept.get(la.name, {})} for la in layers})


MODULATED = Stage(
    "modulated", "modulating feature images", modulated, version=3, summary=_summary_of_modulation
)
