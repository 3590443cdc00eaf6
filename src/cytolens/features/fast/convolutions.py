"""A convolution that computes one output channel per image, and no more.

It holds the weights of a plain convolution and gives its numbers, up to rounding. A convolution is
a matrix product, which gives what every pixel adds to its neighbours, and a fold, which adds it
there (Chellapilla, Puri & Simard 2006, read backwards).
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

FOLD = 16
"""Multiplications that take as long as folding in one number; measured on a CPU."""


class OwnChannel(nn.Module):
    """A convolution of which every image of a batch may ask for one output channel alone.

    With ``own`` (N,) set, image i gets channel ``own[i]`` and nothing else: (N, 1, h, w) instead
    of (N, C, h, w), forward and backward, at 1/C of the cost. Raises ValueError for what
    ``suits`` refuses.
    """

    def __init__(self, conv: nn.Conv2d) -> None:
        super().__init__()
        if not self.suits(conv):
            raise ValueError(f"{conv} cannot be computed channel by channel")
        self.conv = conv
        self.own: Tensor | None = None

    @staticmethod
    def suits(conv: nn.Module) -> bool:
        """True for ungrouped convolutions padded with fewer zeros than their kernel reaches."""
        return (
            type(conv) is nn.Conv2d
            and conv.groups == 1
            and conv.padding_mode == "zeros"
            and not isinstance(conv.padding, str)
            and all(pad <= reach for pad, reach in zip(_padding(conv), _reach(conv), strict=True))
        )

    @staticmethod
    def pays(conv: nn.Conv2d) -> bool:
        """True where one channel costs clearly less than all; not for few channels, long strides.

        Every pixel is multiplied and folded, whatever the stride; thin matrices are a third as
        fast as convolutions.
        """
        own = 6 * conv.stride[0] * conv.stride[1] * (conv.in_channels + FOLD)
        return own <= conv.in_channels * conv.out_channels

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, h, w) of x (N, B, H, W), or (N, 1, h, w) with ``own``."""
        conv = self.conv
        if self.own is None:
            return conv(x)
        taps = conv.weight[self.own].flatten(2).flip(2)  # (N, B, k), k numbers in a kernel
        # This way round the gradient comes out with channels last, as the layers before like it.
        added = torch.bmm(x.flatten(2).transpose(1, 2), taps)  # (N, H·W, k)
        (down, across), (top, left) = _reach(conv), _padding(conv)
        own = functional.fold(
            added.transpose(1, 2),
            (x.shape[2] + 2 * top - down, x.shape[3] + 2 * left - across),
            conv.kernel_size,
            dilation=conv.dilation,
            padding=(down - top, across - left),
        )[:, :, :: conv.stride[0], :: conv.stride[1]]
        return own if conv.bias is None else own + conv.bias[self.own].view(-1, 1, 1, 1)


def _padding(conv: nn.Conv2d) -> tuple[int, int]:
    top, left = (int(number) for number in conv.padding)
    return top, left


def _reach(conv: nn.Conv2d) -> tuple[int, int]:
    """Pixels between the first and the last number of the kernel, down and across."""
    down, across = (d * (k - 1) for d, k in zip(conv.dilation, conv.kernel_size, strict=True))
    return down, across
