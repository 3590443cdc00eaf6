"""Small networks in the styles that users bring."""

from collections import OrderedDict
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from architectures import BasicBlock
from cytolens.records.cells import Cells, Preparation


def named(**modules: nn.Module) -> nn.Sequential:
    return nn.Sequential(OrderedDict(modules))


def reference_like() -> nn.Module:
    def pair(width: int, channels: int) -> nn.Module:
        conv = nn.Conv2d(width, channels, 3, padding=1, bias=False)
        return named(conv=conv, norm=nn.BatchNorm2d(channels), relu=nn.ReLU(inplace=True))

    return named(
        conv1=pair(1, 4),
        conv2=pair(4, 4),
        pool1=nn.MaxPool2d(2),
        conv3=pair(4, 6),
        conv4=pair(6, 6),
        pool2=nn.AdaptiveAvgPool2d(2),
        flatten=nn.Flatten(),
        dropout=nn.Dropout(),
        pre_softmax=named(linear=nn.Linear(24, 5), relu=nn.ReLU()),
        logits=nn.Linear(5, 2),
    )


def vgg_like() -> nn.Module:
    return named(
        features=nn.Sequential(
            nn.Conv2d(1, 4, 3),
            nn.ReLU(True),
            nn.MaxPool2d(2),
            nn.Conv2d(4, 4, 3),
            nn.BatchNorm2d(4),
            nn.ReLU(True),
        ),
        flatten=nn.Flatten(),
        classifier=nn.Sequential(
            nn.Linear(4 * 11 * 11, 8), nn.ReLU(True), nn.Dropout(), nn.Linear(8, 3)
        ),
    )


class ResNetLike(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, 4, 7, 2, 3)
        self.bn1 = nn.BatchNorm2d(4)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool2d(3, 2, 1)
        self.layer1 = nn.Sequential(BasicBlock(4, 4), BasicBlock(4, 4))
        self.layer2 = nn.Sequential(BasicBlock(4, 6, 2))
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(6, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.layer2(self.layer1(self.maxpool(self.relu(self.bn1(self.conv1(x))))))
        return self.fc(torch.flatten(self.avgpool(x), 1))


class Functional(nn.Module):
    """Every non-linearity and pooling is a function; ends in a softmax."""

    def __init__(self) -> None:
        super().__init__()
        self.c1 = nn.Conv2d(1, 4, 3)
        self.c2 = nn.Conv2d(4, 4, 3)
        self.f1 = nn.Linear(100, 10)
        self.f2 = nn.Linear(10, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(F.max_pool2d(self.c1(x), 2), inplace=True)
        x = F.max_pool2d(F.relu(self.c2(x)), 2)
        x = F.relu(self.f1(x.view(x.size(0), -1)))
        return F.softmax(self.f2(F.dropout(x, training=self.training)), dim=1)


class Transformer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.patch = nn.Conv2d(1, 8, 4, 4)
        self.encoder = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
        self.head = nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.encoder(self.patch(x).flatten(2).transpose(1, 2))[:, 0])


def seeded(model: nn.Module, seed: int = 0) -> nn.Module:
    """The same network with weights, and norm statistics, that depend on the seed alone."""
    draw = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for weight in model.parameters():
            weight.copy_(torch.randn(weight.shape, generator=draw) * 0.3)
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                mean, variance = module.running_mean, module.running_var
                assert mean is not None
                assert variance is not None
                mean.copy_(torch.randn(mean.shape, generator=draw) * 0.1)
                variance.copy_(1 + torch.rand(variance.shape, generator=draw))
    return model


class Images:
    def __init__(self, data: np.ndarray) -> None:
        self.data = data
        self.shape = data.shape

    def read(self, index: Any) -> np.ndarray:
        return self.data[index]

    read_raw = read

    def masks(self, index: Any) -> np.ndarray:
        return np.ones(self.data[index].shape[::2], bool)


def cells_of(images: np.ndarray) -> Cells:
    """Cells over an array (N, C, H, W)."""
    n, channels, height, width = images.shape
    return Cells(
        images=Images(images.astype(np.float32)),
        labels=np.arange(n) % 2,
        class_names=("a", "b"),
        channel_names=tuple(f"channel {i}" for i in range(channels)),
        names=np.array([f"cell {i}" for i in range(n)]),
        preparation=Preparation(
            (height, width), "none", (0.0,) * channels, (1.0,) * channels, (0.0,), "float32"
        ),
        original_sizes=np.full((n, 2), height),
    )
