"""The paper's question with a known answer: does what is shown point at what the network uses?"""

import numpy as np

from cytolens.activations.layers import find_layers
from cytolens.classifier.model import untrained
from cytolens.classifier.training import TrainingSettings, train
from cytolens.features.modulation import explain_cell
from cytolens.features.saliency import explaining_layer
from cytolens.images.arrays import cells_from_arrays
from cytolens.simulation.optics import Optics
from cytolens.simulation.simulate import Plant, simulate

PIXEL = 0.5  # µm


def test_deciding_channels_point_at_a_planted_granule():
    plant = Plant(kind="granule", contrast=8.0, size_um=1.5)
    made = simulate(
        500, size=32, difficulty=1.0, plant=plant, optics=Optics(pixel_size_um=PIXEL), rng=0
    )
    cells = cells_from_arrays(made.images, made.labels, class_names=made.class_names)
    training = train(cells, settings=TrainingSettings(epochs=12), rng=0)
    test = training.split.test
    planted = made.properties["has_plant"][test] & (made.properties["plant_contrast"][test] > 0.8)
    shown = test[planted.astype(bool)][:25]
    assert len(shown) >= 10

    def pointing(network) -> float:
        """Share of cells whose saliency peaks on the granule, or within a pixel of it."""
        layers = find_layers(network, cells.shape)
        layer = explaining_layer([la for la in layers if la.kind == "conv"], cells.shape[1])
        hits = 0
        for index in shown:
            crop = cells.read(np.array([index]))[0]
            found = explain_cell(network, crop, layer=layer, class_names=cells.class_names)
            y, x = np.unravel_index(found.saliency.argmax(), found.saliency.shape)
            near = made.masks["plant"][index][max(0, y - 1) : y + 2, max(0, x - 1) : x + 2]
            hits += bool(near.any())
        return hits / len(shown)

    trained = pointing(training.model.network)
    assert trained >= 0.9
    assert trained > pointing(untrained(training.model, cells, rng=0).network)
