"""The study in Python: cells, classifier, activations, maps, separation, feature images.

Runs on simulated cells; put your own folder into ``read_cells`` instead.
"""

import sys
import tempfile
from pathlib import Path

import cytolens as cl
from cytolens.store.files import write_simulation


def main(n: int = 2000, out: Path | None = None) -> None:
    out = out or Path(tempfile.mkdtemp())
    data = write_simulation(out / "cells", cl.simulate(n, difficulty=0.3, rng=0))

    cells = cl.read_cells(data)
    training = cl.train(cells, rng=0)
    network = training.model.network
    held_out = cells.subset(training.split.test)
    acts = cl.extract(network, held_out)
    maps = cl.embed(acts, method="tsne", rng=0)
    depth = {name: cl.measure_separation(acts[name], held_out.labels, rng=0) for name in acts}
    prior = cl.fit_prior(cells.subset(training.split.train), rng=0)
    images = cl.feature_images(
        network,
        layer="conv4",
        channels=range(8),
        input_shape=cells.shape,
        prior=prior,
        cells=held_out,
        rng=0,
    )
    salient = cl.modulate(images)

    print(
        depth["logits"]["probe_accuracy"],
        "on logits;",
        depth["input"]["probe_accuracy"],
        "on pixels",
    )
    cl.plot_embedding(maps["pre_softmax"], held_out).savefig(out / "map.png", dpi=150)
    cl.plot_feature_images(images).savefig(out / "feature_images.png", dpi=150)
    print(salient.images.shape, "modulated feature images; figures in", out)


if __name__ == "__main__":
    main(*map(int, sys.argv[1:2]))
