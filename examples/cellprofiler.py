"""From what CellProfiler leaves behind: field images, Image.csv and Nuclei.csv.

The experiment is made here, of simulated cells on a plate; with your own, only the last lines are
needed, or on the command line

    cytolens run MyExpt_Nuclei.csv --labels Treatment --window 40 --out RUN
"""

import csv
import sys
import tempfile
from pathlib import Path

import numpy as np
import tifffile

import cytolens as cl
from cytolens.study.settings import StudySettings
from cytolens.study.study import Study

SIZE, ACROSS, DOWN = 40, 5, 4  # pixels of a cell; cells along a field's sides


def make_experiment(folder: Path, cells: int) -> Path:
    """Fields of view, and the two tables that ExportToSpreadsheet writes of them."""
    simulated = cl.simulate(cells, size=SIZE, difficulty=0.2, rng=0)
    kinds, crops = simulated.labels, simulated.images  # (n,), (n, 1, h, w)
    each = ACROSS * DOWN
    images: list[dict[str, object]] = []
    objects: list[dict[str, object]] = []
    (folder / "plate1").mkdir(parents=True)
    for kind, treatment in enumerate(("control", "drug")):
        rows = np.flatnonzero(kinds == kind)
        for start in range(0, len(rows) - each + 1, each):
            number = len(images) + 1
            field = np.zeros((DOWN * SIZE, ACROSS * SIZE), crops.dtype)
            for place, row in enumerate(rows[start : start + each].tolist()):
                top, left = place // ACROSS * SIZE, place % ACROSS * SIZE
                field[top : top + SIZE, left : left + SIZE] = crops[row, 0]
                objects.append(
                    {
                        "ImageNumber": number,
                        "ObjectNumber": place + 1,
                        "AreaShape_Area": 300,
                        "Location_Center_X": left + SIZE / 2,
                        "Location_Center_Y": top + SIZE / 2,
                    }
                )
            tifffile.imwrite(folder / "plate1" / f"site{number}_DNA.tif", field)
            images.append(
                {
                    "ImageNumber": number,
                    "FileName_DNA": f"site{number}_DNA.tif",
                    "PathName_DNA": "D:\\screens\\plate1",  # as it was on the microscope's computer
                    "Metadata_Well": f"{'AB'[kind]}{number % 6 + 1:02}",
                    "Metadata_Treatment": treatment,
                }
            )
    for name, rows_of in (("Image", images), ("Nuclei", objects)):
        with (folder / f"MyExpt_{name}.csv").open("w", newline="") as file:
            writer = csv.DictWriter(file, list(rows_of[0]))
            writer.writeheader()
            writer.writerows(rows_of)
    return folder / "MyExpt_Nuclei.csv"


def main(cells: int, folder: Path, *, upto: str = "report", **settings: object) -> Path:
    table = make_experiment(folder / "experiment", cells)
    found = cl.read_cells(table, labels="Treatment", window=SIZE)
    print(found)  # how the table was understood
    chosen = StudySettings(labels="Treatment", window=SIZE, **settings)
    study = Study(folder / "run", table, chosen)
    study.make(upto)
    return study.folder.path


if __name__ == "__main__":
    print(main(800, Path(sys.argv[1] if len(sys.argv) > 1 else tempfile.mkdtemp()), quick=True))
