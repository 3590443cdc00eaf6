"""The networks of `bench_feature_images.py`, plain PyTorch, and their weights.

    python benchmarks/peers/networks.py FOLDER

trains both briefly on simulated cells and writes FOLDER/{vgg,resnet}.safetensors and, for
z-scores, FOLDER/{vgg,resnet}_cells.npy (float32, 0…1). The peers read these; they import nothing
of cytolens.
"""

import sys
from collections import OrderedDict
from pathlib import Path

import torch
from torch import Tensor, nn


def _conv(
    before: int, after: int, *, size: int = 3, stride: int = 1
) -> OrderedDict[str, nn.Module]:
    conv = nn.Conv2d(before, after, size, stride, size // 2, bias=False)
    return OrderedDict(conv=conv, norm=nn.BatchNorm2d(after), relu=nn.ReLU())


def vgg() -> nn.Module:
    """Eight 3 × 3 convolutions (32, 32, 64 … 256 channels), pooled in pairs; 1 × 48 × 48."""
    parts: OrderedDict[str, nn.Module] = OrderedDict()
    before = 1
    for stage, width in enumerate((32, 64, 128, 256)):
        parts[f"conv{2 * stage + 1}"] = nn.Sequential(_conv(before, width))
        parts[f"conv{2 * stage + 2}"] = nn.Sequential(_conv(width, width))
        parts[f"pool{stage + 1}"] = nn.MaxPool2d(2)
        before = width
    parts["gather"] = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
    parts["logits"] = nn.Linear(before, 2)
    return nn.Sequential(parts)


class Block(nn.Module):
    """The basic block of He et al. 2016 (arXiv:1512.03385)."""

    def __init__(self, before: int, after: int, stride: int) -> None:
        super().__init__()
        self.first = nn.Sequential(_conv(before, after, stride=stride))
        second = _conv(after, after)
        del second["relu"]
        self.second = nn.Sequential(second)
        short = _conv(before, after, size=1, stride=stride)
        del short["relu"]
        self.short = nn.Sequential(short) if stride > 1 or before != after else nn.Identity()
        self.relu = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        """(N, after, h, w) of x (N, before, H, W)."""
        return self.relu(self.second(self.first(x)) + self.short(x))


def resnet() -> nn.Module:
    """ResNet-18 for 1 × 224 × 224."""
    parts: OrderedDict[str, nn.Module] = OrderedDict()
    parts["stem"] = nn.Sequential(_conv(1, 64, size=7, stride=2))
    parts["pool"] = nn.MaxPool2d(3, 2, 1)
    before = 64
    for stage, width in enumerate((64, 128, 256, 512), start=1):
        for index in range(2):
            stride = 2 if index == 0 and stage > 1 else 1
            parts[f"stage{stage}_{index}"] = Block(before, width, stride)
            before = width
    parts["gather"] = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
    parts["logits"] = nn.Linear(before, 2)
    return nn.Sequential(parts)


TASKS = {  # what is climbed: network, crop side, the module whose output is the pre-activation
    "vgg": (vgg, 48, "conv4.norm"),
    "resnet": (resnet, 224, "stage3_0.second.norm"),
}


def load(name: str, folder: Path) -> nn.Module:
    """The trained network, in evaluation mode."""
    from safetensors.torch import load_file

    network = TASKS[name][0]()
    network.load_state_dict(load_file(folder / f"{name}.safetensors"))
    return network.eval()


def cells_of(size: int, n: int, seed: int) -> tuple[Tensor, Tensor]:
    """Simulated cells (n, 1, size, size) scaled to 0…1, and their classes (n,)."""
    import numpy as np

    from cytolens.simulation.simulate import simulate

    made = simulate(n, size=48, rng=seed)
    images = torch.from_numpy(made.images.astype(np.float32))
    low, high = np.quantile(made.images[:500], [0.001, 0.999])
    images = ((images - float(low)) / float(high - low)).clamp(0, 1)
    if size != 48:
        images = nn.functional.interpolate(images, (size, size), mode="bilinear")
    return images, torch.from_numpy(made.labels)


def train(name: str, folder: Path, *, n: int, epochs: int) -> None:
    """Train a network and write it, and cells it has not seen."""
    import numpy as np
    from safetensors.torch import save_file

    make, size, _ = TASKS[name]
    torch.manual_seed(0)
    network = make().train().to(memory_format=torch.channels_last)
    images, labels = cells_of(size, n, seed=0)
    optimiser = torch.optim.AdamW(network.parameters(), 2e-3)
    for epoch in range(epochs):
        right = 0
        for index in torch.randperm(n).split(32):
            answer = network(images[index].to(memory_format=torch.channels_last))
            loss = nn.functional.cross_entropy(answer, labels[index])
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            right += int((answer.argmax(1) == labels[index]).sum())
        print(f"{name}, epoch {epoch + 1} of {epochs}: {right / n:.1%} right", flush=True)
    save_file(
        {key: value.contiguous() for key, value in network.state_dict().items()},
        folder / f"{name}.safetensors",
    )
    held_out, _ = cells_of(size, 1000 if size == 48 else 100, seed=1)
    np.save(folder / f"{name}_cells.npy", held_out.numpy())


if __name__ == "__main__":
    place = Path(sys.argv[1])
    place.mkdir(parents=True, exist_ok=True)
    train("vgg", place, n=2000, epochs=3)
    train("resnet", place, n=128, epochs=1)
