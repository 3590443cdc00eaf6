"""torch-lucent 0.1.8 (arguments: see `timing`)."""

import sys
from pathlib import Path

import timing

sys.path.insert(0, str(Path(__file__).parent / "stand_in"))

import networks
import numpy as np
import torch
from lucent.optvis import objectives, param, render, transform


def prepare(task: str, folder: Path, options: dict[str, str]) -> timing.Make:
    torch.set_num_threads(1)
    network, (_, size, place) = networks.load(task, folder), networks.TASKS[task]
    layer, rate = place.replace(".", "_"), float(options.get("rate", 0.05))
    # Its standard transforms, as far as ours go: shift by a sixteenth, 15 degrees, 5 %.
    reach = size // 16
    transforms = [
        transform.pad(reach, mode="constant", constant_value=0.0),
        transform.jitter(reach + 1),
        transform.random_scale([1 + (i - 5) / 100 for i in range(11)]),
        transform.random_rotate(list(range(-15, 16))),
        transform.jitter(reach + 1),
    ]

    def make(channels: list[int], steps: int) -> np.ndarray:
        each = [objectives.channel(layer, c, batch=i) for i, c in enumerate(channels)]
        return render.render_vis(
            network,
            sum(each[1:], each[0]),
            lambda: param.image(size, batch=len(channels), channels=1),
            optimizer=lambda parameters: torch.optim.Adam(parameters, lr=rate),
            transforms=transforms,
            thresholds=(steps,),
            preprocess=False,
            progress=False,
            show_image=False,
            fixed_image_size=size,
        )[-1].transpose(0, 3, 1, 2)

    return make


timing.run(prepare)
