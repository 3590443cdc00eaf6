import numpy as np
import pytest

from cytolens.records import Cells, Preparation


class Pictures:
    """An image source over an array that counts how often it is read."""

    def __init__(self, images):
        self.images, self.reads = images, 0

    @property
    def shape(self):
        return self.images.shape

    def read(self, index):
        self.reads += 1
        return self.images[index]

    read_raw = read

    def masks(self, index):
        return np.ones(self.images[index][:, 0].shape, dtype=bool)


def make_cells(images, labels, *, groups=None, class_names=None):
    images = np.asarray(images, dtype=np.float32)
    labels = np.asarray(labels, dtype=np.int64)
    n, channels, height, width = images.shape
    k = int(labels.max()) + 1
    return Cells(
        images=Pictures(images),
        labels=labels,
        class_names=class_names or tuple(f"class {code}" for code in range(k)),
        channel_names=tuple(f"channel {code}" for code in range(channels)),
        names=np.array([f"cell {number}" for number in range(n)]),
        preparation=Preparation(
            (height, width), "none", (0.0,) * channels, (1.0,) * channels, (0.0,) * channels, "f4"
        ),
        original_sizes=np.full((n, 2), height),
        groups=None if groups is None else np.asarray(groups).astype(str),
        group_name=None if groups is None else "donor",
    )


@pytest.fixture
def spots():
    """Two classes that differ in grain, not brightness: 16 px, groups of 24."""
    draw = np.random.default_rng(0)
    labels = np.arange(96) % 2
    images = draw.normal(0, 0.3, size=(96, 1, 16, 16))
    rows, columns = np.mgrid[:16, :16]
    fine, coarse = (rows + columns) % 2, (rows // 4 + columns // 4) % 2
    images += np.where(labels[:, None, None, None] == 1, fine, coarse)
    return make_cells(images, labels, groups=np.arange(96) // 24)
