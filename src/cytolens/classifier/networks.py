"""The reference network: a plain feed-forward CNN for small crops, its depth taken from their size.

Source: after the VGG pattern (Simonyan & Zisserman 2015, arXiv:1409.1556), narrow, with batch
normalisation (Ioffe & Szegedy 2015, arXiv:1502.03167).
"""

from collections import OrderedDict
from collections.abc import Generator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from cytolens.errors import SettingError

SMALLEST_MAP = 7  # pixels; stages are added while the feature maps are larger than this
WIDEST = 8  # the last stages are at most this many times as wide as the first


class CellNet(nn.Module):
    """Pairs of conv–norm–ReLU with pooling after each, a dense pre-softmax layer, logits.

    Child modules in depth order: ``conv1``, ``conv2``, ``pool1``, ``conv3`` … each ``convK`` a
    Sequential of ``conv``, ``norm``, ``relu``; then ``gather`` (mean over the map),
    ``pre_softmax`` (``linear``, ``relu``) and ``logits``. Takes (N, C, H, W) prepared crops and
    gives logits (N, class). ``stages`` pairs, by default as many as ``stages_for`` says; stage s
    (from 0) has ``width`` · 2^s channels, at most ``width`` · 8.
    """

    def __init__(
        self,
        input_shape: tuple[int, int, int],
        n_classes: int,
        *,
        width: int = 8,
        stages: int | None = None,
        pre_softmax: int = 64,
    ) -> None:
        super().__init__()
        channels, height, width_px = input_shape
        depth = stages_for((height, width_px)) if stages is None else stages
        if depth < 1 or 2**depth > min(height, width_px):
            raise SettingError(
                f"{depth} stages do not fit crops of {height}×{width_px} pixels; each stage "
                "halves the map, choose fewer or leave stages out"
            )
        self.arguments = {
            "input_shape": list(input_shape),
            "n_classes": n_classes,
            "width": width,
            "stages": depth,
            "pre_softmax": pre_softmax,
        }
        for stage in range(depth):
            out = width * min(2**stage, WIDEST)
            self.add_module(f"conv{2 * stage + 1}", _conv(channels, out))
            self.add_module(f"conv{2 * stage + 2}", _conv(out, out))
            self.add_module(f"pool{stage + 1}", nn.MaxPool2d(2))
            channels = out
        self.gather = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
        self.pre_softmax = _named(linear=nn.Linear(channels, pre_softmax), relu=nn.ReLU())
        self.logits = nn.Linear(pre_softmax, n_classes)
        if not self.logits.weight.is_meta:  # where there is nothing to draw, and trying is slow
            self.reset_parameters()

    def forward(self, x: Tensor) -> Tensor:
        """Logits (N, class) of crops (N, C, H, W)."""
        for module in self.children():
            x = module(x)
        return x

    def reset_parameters(self, generator: torch.Generator | None = None) -> None:
        """Draw all weights anew: He et al. 2015 (arXiv:1502.01852) before a ReLU, else Glorot.

        Without a ``generator`` draws are PyTorch's global ones, as in its own modules.
        """
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu", generator=generator)
            elif isinstance(module, nn.Linear):
                nn.init.xavier_normal_(module.weight, generator=generator)
                nn.init.zeros_(module.bias)
            elif isinstance(module, nn.BatchNorm2d):
                module.reset_parameters()


def build_network(
    input_shape: tuple[int, int, int], n_classes: int, *, seed: int = 0, **options: int | None
) -> CellNet:
    """A CellNet on the CPU whose weights are drawn from ``seed`` and from nothing global.

    ``options`` are those of CellNet. Safe in several threads at once.
    """
    with torch.device("meta"):  # no memory, no draws
        network = CellNet(input_shape, n_classes, **options)  # type: ignore[arg-type]
    empty = {k: torch.empty(v.shape, dtype=v.dtype) for k, v in network.state_dict().items()}
    network.load_state_dict(empty, assign=True)  # not to_empty(), which loads SymPy: half a second
    network.reset_parameters(torch.Generator().manual_seed(seed))
    return network


def stages_for(size: tuple[int, int]) -> int:
    """How many conv pairs suit crops of ``size`` (height, width) pixels; at least one.

    Maps are halved until their smaller side is at most 7 pixels, where a cell that fills the crop
    is seen whole: 48 px → 3 stages (6 px, receptive field 32 px), 64 px → 4, 28 px → 2.

    >>> [stages_for((side, side)) for side in (16, 28, 40, 48, 64, 128)]
    [2, 2, 3, 3, 4, 5]
    """
    side, stages = min(size), 0
    while side > SMALLEST_MAP:
        side, stages = side // 2, stages + 1
    return max(stages, 1)


@contextmanager
def seeded(seed: int) -> Generator[None]:
    """Draws from PyTorch's global CPU generator inside start at ``seed``; its state is restored.

    PyTorch's own initialisers know no other source of randomness.
    """
    state = torch.get_rng_state()
    torch.default_generator.manual_seed(seed)
    try:
        yield
    finally:
        torch.set_rng_state(state)


def _conv(channels: int, out: int) -> nn.Sequential:
    conv = nn.Conv2d(channels, out, 3, padding=1, bias=False)
    return _named(conv=conv, norm=nn.BatchNorm2d(out), relu=nn.ReLU())


def _named(**modules: nn.Module) -> nn.Sequential:
    return nn.Sequential(OrderedDict(modules))
