import numpy as np

from cytolens.records.cells import Cells, Preparation


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
