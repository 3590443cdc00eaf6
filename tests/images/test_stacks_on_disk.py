"""HDF5, AnnData and Zarr: pixels bit for bit, names, masks, pixel size; and what is refused."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anndata
import h5py
import numpy as np
import pandas as pd
import pytest
import zarr

from cytolens.errors import InputError
from cytolens.images.anndata_files import read_features
from cytolens.images.content import data_files
from cytolens.images.reading import read_cells
from cytolens.records.cells import Cells

pytestmark = pytest.mark.filterwarnings("ignore:Writing zarr v2")

N, C, H, W = 24, 3, 20, 16
LABELS = np.array(["a", "b"] * (N // 2))
NAMES = ("BF", "CD3", "DNA")


def crops_of(dtype: Any = np.uint16) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 4000, (N, C, H, W)).astype(dtype)


def masks_of() -> np.ndarray:
    masks = np.zeros((N, H, W), dtype=np.uint8)
    masks[:, 4:14, 3:11] = 7
    return masks


def pixels(cells: Cells) -> np.ndarray:
    """As the files have them: from crops at their own size."""
    return cells.images.read_raw(slice(0, len(cells)))


def read(path: Path, **more: Any) -> Cells:
    return read_cells(path, size=(H, W), **more)


def write_h5(path: Path, **datasets: Any) -> Path:
    attributes = datasets.pop("attrs", {})
    with h5py.File(path, "w") as file:
        for name, values in datasets.items():
            file.create_dataset(name.replace("__", "/"), data=values)
        file.attrs.update(attributes)
    return path


def write_anndata(path: Path, *, n_masks: int = 1, **more: Any) -> Path:
    """As scPortrait writes it: masks first, float16, described in uns and in attributes."""
    images = np.concatenate([masks_of()[:, None] > 0, crops_of() / 4096], axis=1).astype(np.float16)
    obs = pd.DataFrame(
        {"scportrait_cell_id": np.arange(N), "label": pd.Categorical(LABELS), "area": np.arange(N)}
        | more,
        index=[str(i) for i in range(N)],
    )
    names = ["seg_nucleus", *NAMES]
    table = anndata.AnnData(obs=obs)
    table.uns["single_cell_images"] = {
        "n_masks": n_masks,
        "channel_names": np.array(names),
        "channel_mapping": np.array(["mask", *["image_channel"] * C]),
    }
    table.obsm["single_cell_images"] = images
    if path.suffix == ".zarr":
        table.write_zarr(path)
    else:
        table.write_h5ad(path)
    return path


@pytest.mark.parametrize("last", [False, True])
def test_a_stack_in_hdf5_comes_back_bit_for_bit(last: bool, tmp_path: Path) -> None:
    crops = crops_of()
    stack = np.moveaxis(crops, 1, -1) if last else crops
    path = write_h5(
        tmp_path / "x.h5", images=stack, labels=LABELS.astype("S"), masks=masks_of(),
        donor=np.repeat([1, 2], N // 2),
        attrs={"channel_names": list(NAMES), "pixel_size": 0.25},
    )  # fmt: skip
    cells = read(path, group="donor")
    np.testing.assert_array_equal(pixels(cells), crops)
    assert (cells.channel_names, cells.pixel_size, cells.class_names) == (NAMES, 0.25, ("a", "b"))
    assert cells.preparation.dtype == "uint16"
    assert cells.groups is not None
    cut = read_cells(path, masks="crop")
    assert cut.original_sizes.tolist() == [[10, 8]] * N
    chosen = np.array([5, 3, 20])
    np.testing.assert_array_equal(cells.images.read_raw(chosen), crops[chosen])


def test_a_group_for_each_channel(tmp_path: Path) -> None:
    crops = crops_of()
    parts = {f"channel_{i + 1}__images": crops[:, i] for i in range(C)}
    path = write_h5(
        tmp_path / "x.hdf5", labels=LABELS.astype("S"), channel_1__masks=masks_of(), **parts
    )
    cells = read(path)
    np.testing.assert_array_equal(pixels(cells), crops)
    assert cells.channel_names == ("channel_1", "channel_2", "channel_3")
    assert read_cells(path, masks="crop").original_sizes[0].tolist() == [10, 8]


@pytest.mark.parametrize("folders", [False, True])
def test_a_file_for_each_cell(folders: bool, tmp_path: Path) -> None:
    crops, mask = crops_of(), np.repeat(masks_of()[0][..., None], C, axis=2)
    for i, crop in enumerate(crops):
        place = tmp_path / "data" / (f"donor_{i % 3}/{LABELS[i]}" if folders else ".")
        place.mkdir(parents=True, exist_ok=True)
        image = np.moveaxis(crop, 0, -1)
        write_h5(place / f"cell_{i:02}.h5", image=image, mask=mask, label=str(LABELS[i]))
    cells = read(tmp_path / "data")
    assert (cells.class_names, len(cells)) == (("a", "b"), N)
    assert cells.group_name == ("donor" if folders else None)
    places = [int(name[-5:-3]) for name in cells.names.tolist()]
    np.testing.assert_array_equal(pixels(cells), crops[places])
    assert read_cells(tmp_path / "data", masks="crop").original_sizes[0].tolist() == [10, 8]
    assert len(data_files(tmp_path / "data")) == N


@pytest.mark.parametrize("name", ["x.h5sc", "x.h5ad", "x.zarr"])
def test_the_images_of_anndata(name: str, tmp_path: Path) -> None:
    cells = read(write_anndata(tmp_path / name), labels="label")
    np.testing.assert_array_equal(pixels(cells), (crops_of() / 4096).astype(np.float16))
    assert cells.channel_names == NAMES
    assert cells.preparation.dtype == "float16"
    assert cells.class_names == ("a", "b")
    assert cells.covariates["area"].tolist() == list(range(N))
    blank = pixels(read(tmp_path / name, masks="blank"))
    inside = np.s_[:, :, 4:14, 3:11]
    np.testing.assert_array_equal(blank[inside], pixels(cells)[inside])
    assert len(np.unique(blank[0, 0, :4])) == 1


def test_a_table_of_spatialdata(tmp_path: Path) -> None:
    zarr.open_group(tmp_path / "x.zarr", mode="w", zarr_format=2).create_group("tables")
    write_anndata(tmp_path / "table.zarr")
    (tmp_path / "table.zarr").rename(tmp_path / "x.zarr/tables/cells")
    cells = read(tmp_path / "x.zarr")
    np.testing.assert_array_equal(pixels(cells), (crops_of() / 4096).astype(np.float16))


def test_features_without_images(tmp_path: Path) -> None:
    table = anndata.AnnData(
        np.eye(4, dtype=np.float32),
        obs=pd.DataFrame({"kind": ["b", "a", "b", "a"]}, index=list("wxyz")),
    )
    table.obsm["X_pca"] = np.arange(8.0).reshape(4, 2)
    for name in ("x.h5ad", "y.zarr"):
        path = tmp_path / name
        table.write_h5ad(path) if name == "x.h5ad" else table.write_zarr(path)
        found = read_features(path, labels="kind")
        assert list(found.features) == ["X", "pca"]
        np.testing.assert_array_equal(found.features["pca"], table.obsm["X_pca"])
        assert (found.labels.tolist(), found.class_names) == ([1, 0, 1, 0], ("a", "b"))
        with pytest.raises(InputError, match=r"no images in obsm.*X_pca.*read_features"):
            read_cells(path)


@pytest.mark.parametrize("version", [2, 3])
@pytest.mark.parametrize("shards", [False, True])
def test_zarr_groups_and_arrays(version: Any, shards: bool, tmp_path: Path) -> None:
    if shards and version == 2:
        pytest.skip("format 2 has none")
    crops = crops_of()
    group = zarr.open_group(tmp_path / "x.zarr", mode="w", zarr_format=version)
    more = {"shards": (12, C, H, W)} if shards else {}
    group.create_array("images", data=crops, chunks=(4, C, H, W), **more)
    group.create_array("labels", data=np.arange(N) % 2)
    group.create_array("masks", data=masks_of())
    group.attrs.update(channel_names=list(NAMES), class_names=["a", "b"], pixel_size=0.5)
    cells = read(tmp_path / "x.zarr")
    np.testing.assert_array_equal(pixels(cells), crops)
    assert (cells.channel_names, cells.class_names, cells.pixel_size) == (NAMES, ("a", "b"), 0.5)
    assert read_cells(tmp_path / "x.zarr", masks="crop").original_sizes[0].tolist() == [10, 8]
    zarr.save_array(tmp_path / "y", crops, zarr_format=version)
    (tmp_path / "y_labels.csv").write_text("label\n" + "\n".join(LABELS) + "\n")
    np.testing.assert_array_equal(pixels(read(tmp_path / "y")), crops)
    assert tmp_path / "y_labels.csv" in data_files(tmp_path / "y")


def write_ome(path: Path, version: str, *, stacked: bool = True, level: str = "0") -> Path:
    """Crops along t (0.4) or an axis called "cell" (0.5), with a label image."""
    group = zarr.open_group(path, mode="w", zarr_format=2 if version == "0.4" else 3)
    axis = {"name": "t", "type": "time"} if version == "0.4" else {"name": "cell", "type": "other"}
    spatial = [{"name": n, "type": "space", "unit": "micrometer"} for n in "zyx"]
    axes = [axis, {"name": "c", "type": "channel"}, *spatial]
    crops = crops_of()[: N if stacked else 1]
    scale = [{"type": "scale", "scale": [1, 1, 1, 0.5, 0.5]}]
    datasets = [{"path": level, "coordinateTransformations": scale}]

    def describe(place: Any, axes: list[Any], **more: Any) -> None:
        about = {"multiscales": [{"axes": axes, "datasets": datasets}], **more}
        place.attrs.update(about if version == "0.4" else {"ome": about | {"version": "0.5"}})

    describe(group, axes, omero={"channels": [{"label": n} for n in NAMES]})
    group.create_array("0", data=crops[:, :, None], chunks=(1, 1, 1, H, W))
    labels = group.create_group("labels/nuclei")
    describe(labels, [axis, *spatial])
    labels.create_array("0", data=masks_of()[:, None])
    path.with_name(f"{path.name[0]}_labels.csv").write_text("label\n" + "\n".join(LABELS) + "\n")
    return path


@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_ome_zarr(version: str, tmp_path: Path) -> None:
    cells = read(write_ome(tmp_path / "x.ome.zarr", version))
    np.testing.assert_array_equal(pixels(cells), crops_of())
    assert (cells.channel_names, cells.pixel_size) == (NAMES, 0.5)
    assert read_cells(tmp_path / "x.ome.zarr", masks="crop").original_sizes[0].tolist() == [10, 8]
    with pytest.raises(InputError, match="one picture only"):
        read(write_ome(tmp_path / "y.ome.zarr", version, stacked=False))
    with pytest.raises(InputError, match="lies outside of it"):
        read(write_ome(tmp_path / "z.ome.zarr", version, level="../x.ome.zarr/0"))


class Pickled:
    """What runs code when it is unpickled."""

    def __reduce__(self) -> Any:
        return os.mkdir, (os.environ["CYTOLENS_TEST_PICKLE"],)


def test_a_zarr_array_is_never_unpickled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import pickle

    monkeypatch.setenv("CYTOLENS_TEST_PICKLE", str(tmp_path / "ran"))
    group = zarr.open_group(tmp_path / "x.zarr", mode="w", zarr_format=2)
    group.create_array("images", data=crops_of(), chunks=(N, C, H, W))
    array = tmp_path / "x.zarr/images"
    about = json.loads((array / ".zarray").read_text())
    about["compressor"] = {"id": "pickle", "protocol": 5}
    (array / ".zarray").write_text(json.dumps(about))
    (array / "0.0.0.0").write_bytes(pickle.dumps(Pickled()))
    with pytest.raises(InputError, match="pickle"):
        read_cells(tmp_path / "x.zarr")
    assert not (tmp_path / "ran").exists()


def _external_link(path: Path) -> None:
    write_h5(path.with_name("secret.h5"), images=crops_of())
    with h5py.File(path, "w") as file:
        file["images"] = h5py.ExternalLink("secret.h5", "images")
        file["labels"] = LABELS.astype("S")


def _external_storage(path: Path) -> None:
    crops_of().tofile(path.with_name("secret.bin"))
    with h5py.File(path, "w") as file:
        file.create_dataset(
            "images", (N, C, H, W), "u2", external=[("secret.bin", 0, h5py.h5f.UNLIMITED)]
        )
        file["labels"] = LABELS.astype("S")


def _virtual(path: Path) -> None:
    write_h5(path.with_name("secret.h5"), images=crops_of())
    layout = h5py.VirtualLayout((N, C, H, W), "u2")
    layout[:] = h5py.VirtualSource("secret.h5", "images", (N, C, H, W))
    with h5py.File(path, "w") as file:
        file.create_virtual_dataset("images", layout)
        file["labels"] = LABELS.astype("S")


def _chunk_of_gigabytes(path: Path) -> None:
    with h5py.File(path, "w") as file:
        file.create_dataset(
            "images", (N, 1024, 4096, 4), "u2", chunks=(N, 1024, 4096, 4), compression="gzip"
        )
        file["labels"] = LABELS.astype("S")


def _huge(path: Path) -> None:
    with h5py.File(path, "w") as file:
        file.create_dataset(
            "images", (N, 1 << 20, 1 << 20), "u2", chunks=(1, 64, 64), compression="gzip"
        )
        file["labels"] = LABELS.astype("S")


def _truncated(path: Path) -> None:
    write_h5(path, images=crops_of(), labels=LABELS.astype("S"))
    os.truncate(path, path.stat().st_size // 2)


def _loop(path: Path) -> None:
    with h5py.File(path, "w") as file:
        file["images"] = crops_of()
        file["again"] = file["/"]


def _text(path: Path) -> None:
    write_h5(path, images=np.full((N, 2, 2), "x", "S1"), labels=LABELS.astype("S"))


HOSTILE: dict[str, tuple[Callable[[Path], None], str]] = {
    "link to another file": (_external_link, "not followed"),
    "pixels in another file": (_external_storage, "in other files"),
    "virtual dataset": (_virtual, "in other files"),
    "chunk of gigabytes": (_chunk_of_gigabytes, "chunks of|large"),
    "field of terabytes": (_huge, "pixels large"),
    "truncated": (_truncated, "truncated or damaged"),
    "group in itself": (_loop, "without end|more than"),
    "no HDF5": (lambda path: path.write_bytes(b"nothing") and None, "truncated or damaged"),
    "empty": (lambda path: path.touch(), "zero bytes"),
    "no images": (lambda path: write_h5(path, a=[1]) and None, "no dataset 'images'; it has: a"),
    "text": (_text, "not numbers"),
}  # fmt: skip


@pytest.mark.parametrize("kind", HOSTILE)
def test_a_hostile_hdf5_file_is_refused_in_one_line(kind: str, tmp_path: Path) -> None:
    make, message = HOSTILE[kind]
    make(tmp_path / "x.h5")
    with pytest.raises(InputError, match=message) as refused:
        read_cells(tmp_path / "x.h5")
    assert "\n" not in str(refused.value)
    assert str(tmp_path / "x.h5") in str(refused.value)


def test_a_folder_of_zarr_folders(tmp_path: Path) -> None:
    for i, kind in enumerate("ab"):
        for donor in (1, 2):
            rows = slice(12 * i + 6 * (donor - 1), 12 * i + 6 * donor)
            place = tmp_path / f"donor_{donor}/{kind}/x.zarr"
            place.parent.mkdir(parents=True)
            zarr.open_group(place, mode="w").create_array("images", data=crops_of()[rows])
    cells = read(tmp_path)
    assert (cells.class_names, cells.group_name) == (("a", "b"), "donor")
    order = [*range(6), *range(12, 18), *range(6, 12), *range(18, 24)]
    np.testing.assert_array_equal(pixels(cells), crops_of()[order])
    assert cells.names[0] == "donor_1/a/x.zarr[0]"
    assert len(data_files(tmp_path)) >= 12


def test_a_damaged_chunk_costs_its_cells(tmp_path: Path) -> None:
    group = zarr.open_group(tmp_path / "x.zarr", mode="w")
    group.create_array("images", data=crops_of(), chunks=(2, C, H, W))
    group.create_array("labels", data=LABELS)
    (tmp_path / "x.zarr/images/c/3/0/0/0").write_bytes(b"damaged")
    with pytest.raises(InputError, match=r"x\.zarr\[6\] cannot be decoded"):
        read(tmp_path / "x.zarr")
    cells = read(tmp_path / "x.zarr", skip_bad=True)
    assert [bad.name for bad in cells.skipped] == ["x.zarr[6]", "x.zarr[7]"]
