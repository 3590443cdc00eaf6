"""torch-dreams 4.0.0 (arguments: see `timing`); images are RGB, the network sees their mean."""

import sys
from pathlib import Path

import timing

sys.path.insert(0, str(Path(__file__).parent / "stand_in"))

import networks
import numpy as np
import torch
from torch import Tensor, nn
from torch_dreams import Dreamer
from torch_dreams.batched_image_param import BatchedAutoImageParam
from torch_dreams.batched_objective import BatchedObjective


class Grey(nn.Module):
    """The network, shown the mean of three colours."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor) -> Tensor:
        """What the network says of x (N, 3, H, W)."""
        return self.network(x.mean(1, keepdim=True))


def prepare(task: str, folder: Path, options: dict[str, str]) -> timing.Make:
    torch.set_num_threads(1)
    network, (_, size, place) = networks.load(task, folder), networks.TASKS[task]
    dreamer = Dreamer(Grey(network), quiet=True, device="cpu")
    dreamer.get_default_transforms(
        rotate=15, scale_max=1.05, scale_min=0.95, translate_x=1 / 16, translate_y=1 / 16
    )
    dreamer.set_custom_normalization(nn.Identity())
    dreamer.set_custom_transforms(dreamer.transforms)
    rate = float(options.get("rate", 9e-3))

    def make(channels: list[int], steps: int) -> np.ndarray:
        images = BatchedAutoImageParam(len(channels), size, size, device="cpu", lr=rate)
        each = [lambda answer, c=c: -answer[0][:, c].mean() for c in channels]
        made = dreamer.render(
            [network.get_submodule(place)],
            image_parameter=images,
            iters=steps,
            custom_func=BatchedObjective(each),
        )
        with torch.no_grad():
            rgb = torch.cat([p.postprocess(device="cpu") for p in made.image_params])
        return rgb.mean(1, keepdim=True).numpy()

    return make


timing.run(prepare)
