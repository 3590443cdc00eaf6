"""The setting of Webb et al. 2018 on public data: lymphocyte against granulocyte, 28 × 28 pixels.

    cytolens fetch bloodmnist
    python examples/paper_setting.py

The paper's own cells were measured without a stain, by an imaging flow cytometer, and are not
public; these are stained and in colour. What carries over is the question and the size.
"""

import sys
import tempfile
from pathlib import Path

import numpy as np

import cytolens as cl
from cytolens.study.fetching import data_home
from cytolens.study.settings import StudySettings
from cytolens.study.study import Study

GRANULOCYTES = (0, 1, 6)  # basophil, eosinophil, neutrophil
LYMPHOCYTE = 4


def two_classes(collection: Path, path: Path) -> Path:
    """Lymphocytes and granulocytes of BloodMNIST, grey, as an .npz with names."""
    with np.load(collection) as archive:
        parts = ("train", "val", "test")
        images = np.concatenate([archive[f"{part}_images"] for part in parts])
        kinds = np.concatenate([archive[f"{part}_labels"] for part in parts]).ravel()
    kept = np.isin(kinds, (*GRANULOCYTES, LYMPHOCYTE))
    grey = images[kept].astype(np.float32).mean(axis=-1).round().astype(np.uint8)
    labels = np.where(kinds[kept] == LYMPHOCYTE, "lymphocyte", "granulocyte")
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(path, images=grey, labels=labels)
    return path


def main(collection: Path, folder: Path, *, upto: str = "report", **settings: object) -> Path:
    data = two_classes(collection, folder / "lymphocytes_and_granulocytes.npz")
    print(cl.read_cells(data, size=28))
    study = Study(folder / "run", data, StudySettings(size=28, **settings))
    study.make(upto)
    return study.folder.path


if __name__ == "__main__":
    fetched = data_home() / "bloodmnist" / "bloodmnist.npz"
    if not fetched.is_file():
        sys.exit(f"{fetched} is not there; fetch it first: cytolens fetch bloodmnist")
    print(main(fetched, Path(sys.argv[1] if len(sys.argv) > 1 else tempfile.mkdtemp()), quick=True))
