"""How far one gets without a network: logistic regression on the pixels, same split."""

import numpy as np
from numpy.typing import NDArray

from cytolens.classifier.model import seed_from
from cytolens.numerics.estimates import Rng, generator
from cytolens.records.cells import Cells, Split

LARGEST = 32  # pixels; larger crops are mean-pooled to at most this
COMPONENTS = 100
PENALTY = 0.01  # inverse strength of the L2 penalty, on components of standardised pixels
MOST_CELLS = 20_000  # training cells used; more change a hundred weights little
_BATCH = 1024


def linear_baseline(cells: Cells, split: Split, *, rng: Rng = None) -> NDArray[np.float32]:
    """Class probabilities (n_test, class) of the test cells from a linear model of their pixels.

    Crops are mean-pooled to at most 32 pixels a side, each pixel standardised, reduced to at most
    100 principal components, then classified by logistic regression (L2, C = 0.01, the same for
    all data sets) with classes weighted alike, as the network's are. Trained on the training and
    validation cells together: it has no use for a validation part.
    """
    from sklearn.decomposition import PCA  # slow to load
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    draw = generator(rng)
    index = np.concatenate([split.train, split.validation])
    if len(index) > MOST_CELLS:
        index = np.sort(draw.choice(index, MOST_CELLS, replace=False))  # so that all is read once
    seed = seed_from(draw) % 2**32
    pixels = _pixels(cells.subset(index))
    components = min(COMPONENTS, *pixels.shape)
    model = make_pipeline(
        StandardScaler(),
        PCA(components, svd_solver="randomized", random_state=seed),
        LogisticRegression(C=PENALTY, class_weight="balanced", max_iter=1000),
    )
    model.fit(pixels, cells.labels[index])
    probabilities = np.zeros((len(split.test), len(cells.class_names)), dtype=np.float32)
    for rows, crops in cells.subset(split.test).batches(_BATCH):
        probabilities[rows, model.classes_] = model.predict_proba(_pooled(crops))
    return probabilities


def _pixels(cells: Cells) -> NDArray[np.float32]:
    """Mean-pooled crops, (N, pixel)."""
    return np.concatenate([_pooled(crops) for _, crops in cells.batches(_BATCH)])


def _pooled(crops: NDArray[np.float32]) -> NDArray[np.float32]:
    """(n, C, H, W) -> (n, C · h · w): means over blocks; a remainder is trimmed off evenly."""
    n, channels, height, width = crops.shape
    block = -(-max(height, width) // LARGEST)
    rows, columns = height // block, width // block
    top, left = (height - rows * block) // 2, (width - columns * block) // 2
    inner = crops[:, :, top : top + rows * block, left : left + columns * block]
    blocks = inner.reshape(n, channels, rows, block, columns, block)
    return blocks.mean((3, 5)).reshape(n, -1)
