"""From an Amnis file to a report: classes from a gate, the cell's surroundings blanked by its mask.

    python examples/from_cif.py cells.cif

Classes come from where you have them: a table ``cells_labels.csv`` with a column ``label`` next to
the file, a column of the features that IDEAS exported (``cells.txt``, joined by object number,
named with ``--labels``), or a file per population in one folder. Here a gate stands for them: more
or less side scatter than the median. Then the same is, on the command line,
``cytolens run cells.cif --masks blank --out RUN``.
"""

import sys
from pathlib import Path

import numpy as np

import cytolens as cl
from cytolens.images.amnis_cif import CifCrops, index_cif
from cytolens.images.describing import describe_data
from cytolens.study.settings import StudySettings
from cytolens.study.study import Study


def gate(cif: Path, channel: int = 0) -> Path:
    """Writes labels next to the file: the summed intensity of a channel within the cell's mask."""
    index = index_cif(cif)
    crops, total = CifCrops(cif, index), []
    for start in range(0, len(crops), crops.batch):
        rows = np.arange(start, min(start + crops.batch, len(crops)))
        for crop, mask in zip(crops.load(rows), crops.load_masks(rows)):
            readable = isinstance(crop, np.ndarray) and isinstance(mask, np.ndarray)
            total.append(float(crop[channel][mask].sum()) if readable else 0.0)
    labels = np.where(np.array(total) > np.median(total), "much_scatter", "little_scatter")
    table = cif.with_name(f"{cif.stem}_labels.csv")
    table.write_text("label\n" + "\n".join(labels) + "\n")
    return table


def main(cif: Path, out: Path | None = None, last: str = "report", **settings: object) -> object:
    if not cif.with_name(f"{cif.stem}_labels.csv").is_file():
        print("gated:", gate(cif))
    for line in describe_data(cif):
        print(f"{line.what:<14} {line.taken}")
    cells = cl.read_cells(cif, masks="blank")
    print(cells)
    out = out or cif.with_name(f"{cif.stem}-run")
    result = Study(out, cif, StudySettings(masks="blank", **settings))[last]
    print(result if last == "report" else last)
    return result


if __name__ == "__main__":
    main(Path(sys.argv[1]))
