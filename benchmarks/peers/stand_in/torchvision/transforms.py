"""The transforms that the peers name; those that this benchmark runs do as torchvision's do."""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional


class Compose:
    """One after the other."""

    def __init__(self, transforms: list) -> None:
        self.transforms = transforms

    def __call__(self, image: Tensor) -> Tensor:
        """All of them."""
        for transform in self.transforms:
            image = transform(image)
        return image


class Normalize(nn.Module):
    """(image - mean) / std, channel by channel."""

    def __init__(self, mean: list[float], std: list[float]) -> None:
        super().__init__()
        self.mean, self.std = torch.tensor(mean)[:, None, None], torch.tensor(std)[:, None, None]

    def forward(self, image: Tensor) -> Tensor:
        """Images (…, C, H, W)."""
        return (image - self.mean) / self.std


class RandomAffine(nn.Module):
    """One rotation and one shift for the whole batch, nearest neighbour, as torchvision does."""

    def __init__(self, degrees: float, translate: tuple[float, float] = (0, 0)) -> None:
        super().__init__()
        self.degrees, self.translate = degrees, translate

    def forward(self, image: Tensor) -> Tensor:
        """A view of images (N, C, H, W)."""
        turn, right, down = (2 * torch.rand(3) - 1).tolist()
        cosine, sine = (f(math.radians(turn * self.degrees)) for f in (math.cos, math.sin))
        shift = 2 * right * self.translate[0], 2 * down * self.translate[1]
        theta = torch.tensor([[cosine, -sine, shift[0]], [sine, cosine, shift[1]]])
        size = list(image.shape)
        grid = functional.affine_grid(theta.expand(len(image), 2, 3), size, align_corners=False)
        return functional.grid_sample(image, grid, mode="nearest", align_corners=False)


class _Unused:
    """Named at import, never run here."""

    def __init__(self, *args: object, **options: object) -> None: ...


ToTensor = ToPILImage = RandomRotation = Resize = _Unused
