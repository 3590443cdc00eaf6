"""The setting of Webb et al. 2018 on public data: lymphocyte against granulocyte, 28 × 28 pixels.

    cytolens fetch bsccmnist           # without a stain, as in the paper; types by fluorescence
    python examples/paper_setting.py

The paper's own cells were measured by an imaging flow cytometer and are not public. BSCCMNIST's are
the nearest: label-free, on slides. Where it was not fetched, BloodMNIST's are taken (cytolens fetch
bloodmnist): stained and in colour, so that only the question and the size carry over.
"""

import sys
import tempfile
from pathlib import Path

import numpy as np

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
    chosen = dict(size=28, **settings)
    if collection.is_dir():  # BSCCMNIST
        data = collection
        chosen |= {"channels": ["Brightfield"], "classes": ["granulocyte", "lymphocyte"]}
    else:
        data = two_classes(collection, folder / "lymphocytes_and_granulocytes.npz")
    study = Study(folder / "run", data, StudySettings(**chosen))
    print(study["cells"])
    study.make(upto)
    return study.folder.path


if __name__ == "__main__":
    places = (data_home() / "bsccmnist", data_home() / "bloodmnist" / "bloodmnist.npz")
    fetched = next((place for place in places if place.exists()), None)
    if fetched is None:
        sys.exit(f"{places[0]} is not there; fetch it first: cytolens fetch bsccmnist")
    print(main(fetched, Path(sys.argv[1] if len(sys.argv) > 1 else tempfile.mkdtemp()), quick=True))
