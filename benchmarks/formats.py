"""Every format through ``cytolens run --quick``: the same real cells, written as each of them.

The cells are those of a real CIF (111 eosinophils, six image channels, masks); the two classes are
those with more and with less side scatter than the median, so that there is something to learn.
Each format is read back, compared pixel by pixel, and studied as a user would.

    python benchmarks/formats.py --cif example.cif --result benchmarks/results/formats.md
"""

import argparse
import json
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parent.parent / "tests" / "images"))

from made_cif import write_cif

from cytolens.images.amnis_cif import CifCrops, index_cif
from cytolens.images.preparation import pad_or_crop
from cytolens.images.reading import read_cells

SIDE = 48
QUICK = [
    "--quick", "--epochs", "1", "--gallery", "1", "--steps", "2", "--map-cells", "60", "--size",
    "32", "--channel", "0", "4", "--method", "pca", "--folds", "none", "--layers", "conv1",
    "pre_softmax", "logits", "--permutations", "20", "--halves", "3", "--equalised", "0",
]  # fmt: skip


class Source:
    """The cells: crops (C, h, w) of their own sizes, masks, labels; and all at one size."""

    def __init__(self, cif: Path) -> None:
        self.cif, index = cif, index_cif(cif)
        reader, rows = CifCrops(cif, index), np.arange(len(index.objects))
        self.crops: list[Any] = reader.load(rows)
        self.masks: list[Any] = reader.load_masks(rows)
        self.channels, self.pixel_size = index.channel_names, index.pixel_size
        scatter = np.array([crop[0].astype(float).sum() for crop in self.crops])
        self.labels = np.where(scatter > np.median(scatter), "granular", "smooth")
        none = [0.0] * len(self.channels)
        self.stack = np.stack([pad_or_crop(crop, (SIDE, SIDE), none) for crop in self.crops])
        self.mask_stack = np.stack(
            [pad_or_crop(m[None].astype(np.uint8), (SIDE, SIDE), [0])[0] for m in self.masks]
        )

    def sidecar(self, path: Path) -> None:
        """Labels in a table next to ``path``."""
        text = "label\n" + "\n".join(self.labels) + "\n"
        (path.parent / f"{path.name.split('.')[0]}_labels.csv").write_text(text)


Maker = Callable[[Source, Path], Path]


def cif(source: Source, root: Path) -> Path:
    path = root / "cells.cif"
    path.write_bytes(source.cif.read_bytes())
    source.sidecar(path)
    return path


def cif_per_class(source: Source, root: Path) -> Path:
    for name in np.unique(source.labels):
        rows = np.flatnonzero(source.labels == name)
        crops = [source.crops[i] for i in rows]
        masks = [np.repeat(source.masks[i][None], len(crops[0]), 0) for i in rows]
        write_cif(root / f"data/{name}.cif", crops, masks, numbers=rows.tolist())
    return root / "data"


def h5_per_cell(source: Source, root: Path) -> Path:
    import h5py

    for i, (crop, mask, label) in enumerate(zip(source.crops, source.masks, source.labels)):
        (root / "data" / label).mkdir(parents=True, exist_ok=True)
        with h5py.File(root / f"data/{label}/{i:04}.h5", "w") as file:
            file["image"] = np.moveaxis(crop, 0, -1)
            file["mask"] = np.repeat(mask[..., None], len(crop), -1).astype(np.uint8)
            file["label"] = str(label)
    return root / "data"


def h5_stack(source: Source, root: Path) -> Path:
    import h5py

    with h5py.File(root / "x.h5", "w") as file:
        file.create_dataset("images", data=source.stack, compression="gzip")
        file["masks"], file["labels"] = source.mask_stack, source.labels.astype("S")
        file.attrs["channel_names"] = list(source.channels)
        file.attrs["pixel_size"] = source.pixel_size
    return root / "x.h5"


def h5_channels(source: Source, root: Path) -> Path:
    import h5py

    with h5py.File(root / "x.hdf5", "w") as file:
        for i in range(source.stack.shape[1]):
            file[f"channel_{i + 1}/images"] = source.stack[:, i]
            file[f"channel_{i + 1}/masks"] = source.mask_stack
        file["labels"] = source.labels.astype("S")
    return root / "x.hdf5"


def _anndata(source: Source, path: Path, dtype: Any) -> Path:
    import anndata
    import pandas as pd

    rows = [str(i) for i in range(len(source.labels))]
    table = anndata.AnnData(obs=pd.DataFrame({"label": source.labels}, index=rows))
    images = np.concatenate([source.mask_stack[:, None], source.stack], axis=1)
    table.obsm["single_cell_images"] = images.astype(dtype)
    names = np.array(["seg", *source.channels])
    table.uns["single_cell_images"] = {"n_masks": 1, "channel_names": names}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        (table.write_zarr if path.suffix == ".zarr" else table.write_h5ad)(path)
    return path


def h5sc(source: Source, root: Path) -> Path:
    return _anndata(source, root / "x.h5sc", np.float16)  # exact up to 2048, which these are


def anndata_zarr(source: Source, root: Path) -> Path:
    return _anndata(source, root / "x.zarr", np.uint16)


def _zarr(source: Source, root: Path, version: Any) -> Path:
    import zarr

    group = zarr.open_group(root / "x.zarr", mode="w", zarr_format=version)
    group.create_array("images", data=source.stack, chunks=(16, *source.stack.shape[1:]))
    group.create_array("masks", data=source.mask_stack)
    group.create_array("labels", data=(source.labels == "smooth").astype(np.int64))
    group.attrs.update(channel_names=list(source.channels), class_names=["granular", "smooth"])
    return root / "x.zarr"


def zarr_2(source: Source, root: Path) -> Path:
    return _zarr(source, root, 2)


def zarr_3(source: Source, root: Path) -> Path:
    return _zarr(source, root, 3)


def _ome_zarr(source: Source, root: Path, version: str) -> Path:
    import zarr

    path = root / "x.ome.zarr"
    group = zarr.open_group(path, mode="w", zarr_format=2 if version == "0.4" else 3)
    axes = [
        {"name": "t", "type": "time"}, {"name": "c", "type": "channel"},
        *({"name": n, "type": "space", "unit": "micrometer"} for n in "yx"),
    ]  # fmt: skip
    scale = [{"type": "scale", "scale": [1, 1, source.pixel_size, source.pixel_size]}]
    about: dict[str, Any] = {
        "multiscales": [
            {"axes": axes, "datasets": [{"path": "0", "coordinateTransformations": scale}]}
        ],
        "omero": {"channels": [{"label": name} for name in source.channels]},
    }
    group.attrs.update(about if version == "0.4" else {"ome": about | {"version": version}})
    group.create_array("0", data=source.stack, chunks=(1, *source.stack.shape[1:]))
    source.sidecar(path)
    return path


def ome_zarr_04(source: Source, root: Path) -> Path:
    return _ome_zarr(source, root, "0.4")


def ome_zarr_05(source: Source, root: Path) -> Path:
    return _ome_zarr(source, root, "0.5")


def parquet_pictures(source: Source, root: Path) -> Path:
    import io

    import pyarrow as pa
    import tifffile
    from pyarrow import parquet

    rows: list[dict[str, Any]] = []
    for crop in source.crops:
        buffer = io.BytesIO()
        tifffile.imwrite(buffer, crop, photometric="minisblack")
        rows.append({"bytes": buffer.getvalue(), "path": None})
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    table = pa.table({"image": pa.array(rows, kind), "label": source.labels.tolist()})
    parquet.write_table(table, root / "train-00000-of-00001.parquet", row_group_size=50)
    return root / "train-00000-of-00001.parquet"


def image_folder(source: Source, root: Path) -> Path:
    import tifffile

    lines = ["file_name,label"]
    (root / "data/images").mkdir(parents=True)
    for i, (crop, label) in enumerate(zip(source.crops, source.labels)):
        tifffile.imwrite(root / f"data/images/{i:04}.tif", crop, photometric="minisblack")
        lines.append(f"images/{i:04}.tif,{label}")
    (root / "data/metadata.csv").write_text("\n".join(lines) + "\n")
    return root / "data"


def channel_files(source: Source, root: Path) -> Path:
    import tifffile

    for i, (crop, label) in enumerate(zip(source.crops, source.labels)):
        (root / "data" / label).mkdir(parents=True, exist_ok=True)
        for name, picture in zip(source.channels, crop):
            tifffile.imwrite(root / f"data/{label}/{i:04}_{name}.tif", picture)
    return root / "data"


def ome_tiff(source: Source, root: Path) -> Path:
    import tifffile

    for i, (crop, label) in enumerate(zip(source.crops, source.labels)):
        (root / "data" / label).mkdir(parents=True, exist_ok=True)
        about = {"axes": "CYX", "Channel": {"Name": list(source.channels)}}
        about |= {"PhysicalSizeX": source.pixel_size, "PhysicalSizeY": source.pixel_size}
        path = root / f"data/{label}/{i:04}.ome.tif"
        tifffile.imwrite(path, crop, metadata=about, photometric="minisblack")
    return root / "data"


def _fields(source: Source) -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
    """Four fields of each class: a path, the image (C, H, W) of tiles, the number of each tile."""
    for label in np.unique(source.labels).tolist():
        rows = np.flatnonzero(source.labels == label)
        for number in range(4):
            tiles = source.stack[rows[number::4]]
            count, across = len(tiles), 4
            image = np.zeros((tiles.shape[1], -(-count // across) * SIDE, across * SIDE), np.uint16)
            numbers = np.zeros(image.shape[1:], np.uint16)
            for i, tile in enumerate(tiles):
                y, x = (i // across) * SIDE, (i % across) * SIDE
                image[:, y : y + SIDE, x : x + SIDE] = tile
                numbers[y : y + SIDE, x : x + SIDE] = i + 1
            yield f"{label}/{number}", image, numbers


def tiff_fields(source: Source, root: Path) -> Path:
    import tifffile

    for name, image, numbers in _fields(source):
        path = root / "data" / f"{name}.ome.tif"
        path.parent.mkdir(parents=True, exist_ok=True)
        about = {"axes": "CYX", "Channel": {"Name": list(source.channels)}}
        about |= {"PhysicalSizeX": source.pixel_size, "PhysicalSizeY": source.pixel_size}
        tifffile.imwrite(path, image, metadata=about, photometric="minisblack")
        tifffile.imwrite(path.with_name(f"{path.name[0]}_cp_masks.tif"), numbers)
    return root / "data"


def ome_zarr_fields(source: Source, root: Path) -> Path:
    import zarr

    for name, image, numbers in _fields(source):
        group = zarr.open_group(root / "data" / f"{name}.ome.zarr", mode="w", zarr_format=2)
        scale = [source.pixel_size, source.pixel_size]
        axes = [{"name": n, "type": "space", "unit": "micrometer"} for n in "yx"]
        channel = {"name": "c", "type": "channel"}
        for place, data, kept, sizes in (
            (group, image, [channel, *axes], [1, *scale]),
            (group.create_group("labels/cells"), numbers, axes, scale),
        ):
            moved = [{"type": "scale", "scale": sizes}]
            levels = [{"path": "0", "coordinateTransformations": moved}]
            named = {"channels": [{"label": name} for name in source.channels]}
            about = {"multiscales": [{"axes": kept, "datasets": levels}], "omero": named}
            place.attrs.update(about)
            place.create_array("0", data=data)
    return root / "data"


def npz(source: Source, root: Path) -> Path:
    np.savez_compressed(
        root / "x.npz", images=source.stack, labels=source.labels, channel_names=source.channels,
        pixel_size=source.pixel_size,
    )  # fmt: skip
    return root / "x.npz"


FORMATS: dict[str, Maker] = {
    "CIF, table of labels next to it": cif,
    "CIF, a file per class": cif_per_class,
    "OME-TIFF in class folders": ome_tiff,
    "`*_Ch1.tif`, a file per channel": channel_files,
    "HDF5, a file per cell": h5_per_cell,
    "HDF5, a stack": h5_stack,
    "HDF5, `channel_N/images`": h5_channels,
    "scPortrait `.h5sc`": h5sc,
    "AnnData in Zarr": anndata_zarr,
    "Zarr 2": zarr_2,
    "Zarr 3": zarr_3,
    "OME-Zarr 0.4": ome_zarr_04,
    "OME-Zarr 0.5": ome_zarr_05,
    "Parquet with pictures": parquet_pictures,
    "image folder with `metadata.csv`": image_folder,
    "NumPy `.npz`": npz,
    "OME-TIFF fields, label images next to them": tiff_fields,
    "OME-Zarr fields with `labels/cells`": ome_zarr_fields,
}


def differing(source: Source, path: Path) -> int:
    """How many crops come back with another pixel."""
    cells = read_cells(path, size=SIDE, background=0)
    raw = cells.images.read_raw(slice(0, len(cells)))
    wanted = {crop.tobytes() for crop in source.stack}
    return (
        sum(crop.astype(np.uint16).tobytes() not in wanted for crop in raw)
        + len(source.crops)
        - len(cells)
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cif", type=Path, required=True, help="the real file")
    parser.add_argument("--result", type=Path, help="Markdown file to write")
    parser.add_argument("--only", help="part of a format's name")
    parser.add_argument("--no-run", action="store_true", help="read only")
    chosen = parser.parse_args()
    source = Source(chosen.cif)
    lines = [
        "# Every format through a study", "",
        "Made by `benchmarks/formats.py` on 2 virtual cores (AMD EPYC, one thread, others "
        f"beside it) from the {len(source.crops)} cells of a real CIF, six image channels, written "
        "as each format, read back, and studied with `cytolens run --quick` at small settings.", "",
        "| format | crops with another pixel | masks | µm | channel names | read, cells/s "
        "| study | CPU s |",
        "|---|---|---|---|---|---|---|---|",
    ]  # fmt: skip
    with TemporaryDirectory() as folder:  # so that no format pays for what is loaded once
        read_cells(cif(source, Path(folder)))
    for name, make in FORMATS.items():
        if chosen.only and chosen.only.lower() not in name.lower():
            continue
        with TemporaryDirectory() as folder:
            path = make(source, Path(folder))
            started = time.process_time()
            cells = read_cells(path, size=SIDE, background=0)
            took = time.process_time() - started
            wrong = differing(source, path)
            try:
                read_cells(path, masks="crop")
                masks = "yes"
            except Exception:
                masks = "no"
            named = (
                "yes" if cells.channel_names == source.channels else cells.channel_names[0] + " …"
            )
            size = "–" if cells.pixel_size is None else f"{cells.pixel_size:g}"
            study, cpu = "–", 0.0
            if not chosen.no_run:
                command = [sys.executable, "-m", "cytolens", "run", str(path)]
                out = Path(folder) / "run"
                begun = _children()
                done = subprocess.run(
                    [*command, "--out", str(out), *QUICK],
                    capture_output=True,
                    text=True,
                    check=False,
                )
                cpu = _children() - begun
                whole = done.returncode == 0 and (out / "report.html").is_file()
                study = "whole" if whole else done.stderr.strip().splitlines()[-1]
                if whole:
                    n = json.loads((out / "summary.json").read_text())["cells"]["n"]
                    study = f"whole, {n} cells"
            lines.append(
                f"| {name} | {wrong} of {len(source.crops)} | {masks} | {size} | {named} "
                f"| {len(cells) / max(took, 1e-6):,.0f} | {study} | {cpu:.0f} |"
            )
            print(lines[-1], flush=True)
        if chosen.result is not None:
            chosen.result.write_text("\n".join(lines) + "\n")


def _children() -> float:
    import resource

    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


if __name__ == "__main__":
    main()
