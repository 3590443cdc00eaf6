"""Small faithful versions of the architectures that users bring, for crops (1, 32, 32).

Written as the well-known libraries write them, so that modules are called, shared and named alike.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from token_networks import N_CLASSES, InlineViT, Mixer, Permute, Swin, TorchViT, ViT
from torch import Tensor, nn

SIZE = 32


def conv_norm_act(width: int, channels: int, kernel: int = 3, stride: int = 1, groups: int = 1,
                  act: type[nn.Module] = nn.ReLU) -> nn.Sequential:  # fmt: skip
    conv = nn.Conv2d(width, channels, kernel, stride, kernel // 2, groups=groups, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(channels), act(inplace=True))


class PlainCNN(nn.Module):
    """Functional pooling and non-linearities, as in PyTorch's first tutorial."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, 8, 3, padding=1)
        self.conv2 = nn.Conv2d(8, 12, 3, padding=1)
        self.fc1 = nn.Linear(12 * 8 * 8, 16)
        self.fc2 = nn.Linear(16, N_CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        x = F.max_pool2d(F.relu(self.conv1(x)), 2)
        x = F.max_pool2d(F.relu(self.conv2(x)), 2)
        return self.fc2(F.relu(self.fc1(torch.flatten(x, 1))))


class BasicBlock(nn.Module):
    """torchvision's: one ReLU for both, the sum in place."""

    def __init__(self, width: int, channels: int, stride: int = 1) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(width, channels, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.relu = nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(channels, channels, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.downsample = None
        if stride > 1:
            conv = nn.Conv2d(width, channels, 1, stride, bias=False)
            self.downsample = nn.Sequential(conv, nn.BatchNorm2d(channels))

    def forward(self, x: Tensor) -> Tensor:
        identity = x if self.downsample is None else self.downsample(x)
        out = self.relu(self.bn1(self.conv1(x)))
        out = self.bn2(self.conv2(out))
        out += identity
        return self.relu(out)


class ResNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, 8, 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(8)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool2d(3, 2, 1)
        self.layer1 = nn.Sequential(BasicBlock(8, 8), BasicBlock(8, 8))
        self.layer2 = nn.Sequential(BasicBlock(8, 12, 2), BasicBlock(12, 12))
        self.avgpool = nn.AdaptiveAvgPool2d((1, 1))
        self.fc = nn.Linear(12, N_CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        x = self.maxpool(self.relu(self.bn1(self.conv1(x))))
        x = self.layer2(self.layer1(x))
        return self.fc(torch.flatten(self.avgpool(x), 1))


class DenseLayer(nn.Module):
    def __init__(self, width: int, growth: int) -> None:
        super().__init__()
        self.norm1, self.relu1 = nn.BatchNorm2d(width), nn.ReLU(inplace=True)
        self.conv1 = nn.Conv2d(width, 2 * growth, 1, bias=False)
        self.norm2, self.relu2 = nn.BatchNorm2d(2 * growth), nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(2 * growth, growth, 3, padding=1, bias=False)

    def forward(self, features: list[Tensor]) -> Tensor:
        x = self.conv1(self.relu1(self.norm1(torch.cat(features, 1))))
        return self.conv2(self.relu2(self.norm2(x)))


class DenseBlock(nn.ModuleDict):
    def __init__(self, width: int, growth: int, n: int) -> None:
        super().__init__()
        for i in range(n):
            self.add_module(f"denselayer{i + 1}", DenseLayer(width + i * growth, growth))

    def forward(self, x: Tensor) -> Tensor:
        features = [x]
        for layer in self.values():
            features.append(layer(features))
        return torch.cat(features, 1)


class Transition(nn.Sequential):
    def __init__(self, width: int, channels: int) -> None:
        super().__init__()
        self.norm, self.relu = nn.BatchNorm2d(width), nn.ReLU(inplace=True)
        self.conv = nn.Conv2d(width, channels, 1, bias=False)
        self.pool = nn.AvgPool2d(2)


class DenseNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential()
        self.features.add_module("conv0", nn.Conv2d(1, 8, 3, 2, 1, bias=False))
        self.features.add_module("norm0", nn.BatchNorm2d(8))
        self.features.add_module("relu0", nn.ReLU(inplace=True))
        self.features.add_module("denseblock1", DenseBlock(8, 4, 3))
        self.features.add_module("transition1", Transition(20, 10))
        self.features.add_module("denseblock2", DenseBlock(10, 4, 3))
        self.features.add_module("norm5", nn.BatchNorm2d(22))
        self.classifier = nn.Linear(22, N_CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.features(x), inplace=True)
        return self.classifier(torch.flatten(F.adaptive_avg_pool2d(x, (1, 1)), 1))


class BasicConv(nn.Module):
    def __init__(self, width: int, channels: int, kernel: int, padding: int = 0) -> None:
        super().__init__()
        self.conv = nn.Conv2d(width, channels, kernel, padding=padding, bias=False)
        self.bn = nn.BatchNorm2d(channels, eps=0.001)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.bn(self.conv(x)), inplace=True)


class InceptionBlock(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.branch1 = BasicConv(width, 4, 1)
        self.branch2 = nn.Sequential(BasicConv(width, 4, 1), BasicConv(4, 4, 3, 1))
        self.branch3 = nn.Sequential(BasicConv(width, 2, 1), BasicConv(2, 4, 5, 2))
        self.branch4 = BasicConv(width, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        pooled = F.avg_pool2d(x, 3, 1, 1)
        return torch.cat([self.branch1(x), self.branch2(x), self.branch3(x),
                          self.branch4(pooled)], 1)  # fmt: skip


class Inception(nn.Module):
    """With a second head that is used in training only."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = BasicConv(1, 8, 3, 1)
        self.mixed1 = InceptionBlock(8)
        self.aux = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, N_CLASSES))
        self.mixed2 = InceptionBlock(16)
        self.fc = nn.Linear(16, N_CLASSES)

    def forward(self, x: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        x = self.mixed1(F.max_pool2d(self.stem(x), 2))
        aux = self.aux(x) if self.training else None
        x = self.fc(self.mixed2(F.max_pool2d(x, 2)).mean((2, 3)))
        return x if aux is None else (x, aux)


class MobileNet(nn.Module):
    """Depthwise separable convolutions, version 1."""

    def __init__(self) -> None:
        super().__init__()

        def separable(width: int, channels: int, stride: int) -> nn.Sequential:
            return nn.Sequential(
                *conv_norm_act(width, width, 3, stride, groups=width),
                *conv_norm_act(width, channels, 1),
            )

        self.model = nn.Sequential(
            conv_norm_act(1, 8, 3, 2), separable(8, 12, 1), separable(12, 16, 2),
            nn.AdaptiveAvgPool2d(1),
        )  # fmt: skip
        self.fc = nn.Linear(16, N_CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.model(x).view(-1, 16))


class LayerNorm2d(nn.LayerNorm):
    def forward(self, x: Tensor) -> Tensor:
        x = x.permute(0, 2, 3, 1)
        x = F.layer_norm(x, self.normalized_shape, self.weight, self.bias, self.eps)
        return x.permute(0, 3, 1, 2)


class CNBlock(nn.Module):
    """ConvNeXt's, torchvision's way."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.block = nn.Sequential(
            nn.Conv2d(dim, dim, 7, padding=3, groups=dim), Permute([0, 2, 3, 1]),
            nn.LayerNorm(dim), nn.Linear(dim, 4 * dim), nn.GELU(), nn.Linear(4 * dim, dim),
            Permute([0, 3, 1, 2]),
        )  # fmt: skip
        self.layer_scale = nn.Parameter(torch.ones(dim, 1, 1) * 0.5)

    def forward(self, x: Tensor) -> Tensor:
        result = self.layer_scale * self.block(x)
        result += x
        return result


class ConvNeXt(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Sequential(nn.Conv2d(1, 8, 4, 4), LayerNorm2d(8)),
            nn.Sequential(CNBlock(8), CNBlock(8)),
            nn.Sequential(LayerNorm2d(8), nn.Conv2d(8, 12, 2, 2)),
            nn.Sequential(CNBlock(12)),
        )
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.classifier = nn.Sequential(LayerNorm2d(12), nn.Flatten(1), nn.Linear(12, N_CLASSES))

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(self.avgpool(self.features(x)))


class SqueezeExcitation(nn.Module):
    def __init__(self, width: int, squeezed: int) -> None:
        super().__init__()
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc1 = nn.Conv2d(width, squeezed, 1)
        self.fc2 = nn.Conv2d(squeezed, width, 1)
        self.activation, self.scale_activation = nn.SiLU(), nn.Sigmoid()

    def forward(self, x: Tensor) -> Tensor:
        scale = self.fc2(self.activation(self.fc1(self.avgpool(x))))
        return self.scale_activation(scale) * x


class MBConv(nn.Module):
    def __init__(self, width: int, channels: int, stride: int) -> None:
        super().__init__()
        self.residual = stride == 1 and width == channels
        self.block = nn.Sequential(
            conv_norm_act(width, 2 * width, 1, act=nn.SiLU),
            conv_norm_act(2 * width, 2 * width, 3, stride, 2 * width, act=nn.SiLU),
            SqueezeExcitation(2 * width, 4),
            nn.Conv2d(2 * width, channels, 1, bias=False),
            nn.BatchNorm2d(channels),
        )

    def forward(self, x: Tensor) -> Tensor:
        result = self.block(x)
        if self.residual:
            result += x
        return result


class EfficientNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(
            conv_norm_act(1, 8, 3, 2, act=nn.SiLU),
            nn.Sequential(MBConv(8, 8, 1)),
            nn.Sequential(MBConv(8, 12, 2), MBConv(12, 12, 1)),
            conv_norm_act(12, 16, 1, act=nn.SiLU),
        )
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.classifier = nn.Sequential(nn.Dropout(0.2), nn.Linear(16, N_CLASSES))

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(torch.flatten(self.avgpool(self.features(x)), 1))


class UNet(nn.Module):
    """A whole U-Net with a head on the decoder's features, so that every depth is in use."""

    def __init__(self) -> None:
        super().__init__()

        def double(width: int, channels: int) -> nn.Sequential:
            return nn.Sequential(
                *conv_norm_act(width, channels), *conv_norm_act(channels, channels)
            )

        self.down1, self.down2, self.bottom = double(1, 6), double(6, 8), double(8, 12)
        self.up2 = nn.ConvTranspose2d(12, 8, 2, 2)
        self.dec2 = double(16, 8)
        self.up1 = nn.Upsample(scale_factor=2, mode="bilinear", align_corners=False)
        self.dec1 = double(14, 6)
        self.head = nn.Linear(6, N_CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        one = self.down1(x)
        two = self.down2(F.max_pool2d(one, 2))
        deep = self.bottom(F.max_pool2d(two, 2))
        x = self.dec2(torch.cat([two, self.up2(deep)], 1))
        x = self.dec1(torch.cat([one, self.up1(x)], 1))
        return self.head(x.mean((2, 3)))


class UNetEncoder(nn.Module):
    """The encoder of a U-Net that gives all its scales, with a head on the deepest."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.ModuleList(
            [conv_norm_act(1, 6), conv_norm_act(6, 8), conv_norm_act(8, 12)]
        )
        self.head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(12, N_CLASSES))

    def forward(self, x: Tensor) -> Tensor:
        scales: list[Tensor] = []
        for stage in self.encoder:
            x = stage(x if not scales else F.max_pool2d(x, 2))
            scales.append(x)
        return self.head(scales[-1])


ARCHITECTURES: dict[str, Callable[[], nn.Module]] = {
    "plain": PlainCNN,
    "resnet": ResNet,
    "densenet": DenseNet,
    "inception": Inception,
    "mobilenet": MobileNet,
    "convnext": ConvNeXt,
    "efficientnet": EfficientNet,
    "unet": UNet,
    "unet-encoder": UNetEncoder,
    "torch-vit": TorchViT,
    "torch-vit-second": lambda: TorchViT(batch_first=False),
    "vit": ViT,
    "inline-vit": InlineViT,
    "swin": Swin,
    "mixer": Mixer,
}


def made(name: str, seed: int = 0) -> nn.Module:
    """The network of that name with weights, and norm statistics, that depend on the seed alone."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        network = ARCHITECTURES[name]()
        for module in network.modules():
            if isinstance(module, nn.BatchNorm2d):
                assert module.running_mean is not None
                assert module.running_var is not None
                module.running_mean.normal_(0, 0.1)
                module.running_var.uniform_(0.5, 1.5)
    return network.eval()
