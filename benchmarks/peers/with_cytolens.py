"""cytolens itself (arguments: see `timing`), run as the peers are."""

from pathlib import Path

import networks
import numpy as np
import timing
import torch

from cytolens.features.ascent import Ascent
from cytolens.features.optimisation import feature_images


def prepare(task: str, folder: Path, options: dict[str, str]) -> timing.Make:
    torch.set_num_threads(int(options.get("threads", 1)))
    network, (_, size, place) = networks.load(task, folder), networks.TASKS[task]

    def make(channels: list[int], steps: int) -> np.ndarray:
        return feature_images(
            network,
            layer=place,  # the output of the norm: what is climbed is the mean pre-activation
            channels=channels,
            input_shape=(1, size, size),
            ascent=Ascent(
                value_range=(0, 1),
                regularisers={},
                steps=steps,
                batch_size=int(options["batch"]) if "batch" in options else None,
                learning_rate=float(options["rate"]) if "rate" in options else None,
            ),
            rng=int(options.get("seed", 0)),
        ).images

    return make


timing.run(prepare)
