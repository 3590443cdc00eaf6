"""Fields in OME-Zarr with label images in them: the cells are cut as from any other fields."""

from pathlib import Path

import numpy as np
import pytest
import zarr
from made_fields import CHANNELS, Field, make_fields

from cytolens.errors import InputError
from cytolens.images.content import data_files
from cytolens.images.isolation import isolated
from cytolens.images.new_cells import read_alike
from cytolens.images.reading import read_cells

FIELDS = make_fields()
N = sum(len(one.rows) for one in FIELDS)


def write_ome_field(path: Path, one: Field, version: str, *, planes: int = 1) -> Path:
    """As NGFF 0.4 (Zarr 2) or 0.5 (Zarr 3) have it: c, z, y, x; labels without channels."""
    group = zarr.open_group(path, mode="w", zarr_format=2 if version == "0.4" else 3)
    spatial = [{"name": n, "type": "space", "unit": "micrometer"} for n in "zyx"]

    def describe(place: zarr.Group, axes: list, scale: list[float], **more: object) -> None:
        moved = [{"type": "scale", "scale": scale}]
        levels = [{"path": "0", "coordinateTransformations": moved}]
        about = {"multiscales": [{"axes": axes, "datasets": levels}], **more}
        place.attrs.update(about if version == "0.4" else {"ome": about | {"version": "0.5"}})

    channels = {"channels": [{"label": name} for name in CHANNELS]}
    describe(group, [{"name": "c", "type": "channel"}, *spatial], [1, 2, 0.5, 0.5], omero=channels)
    image = np.repeat(one.image[:, None], planes, axis=1)
    group.create_array("0", data=image, chunks=(1, 1, 64, 64))
    listed = group.create_group("labels")
    listed.attrs.update({"labels": ["nuclei", "cells"]})
    for name, labels in (("nuclei", one.labels // 3), ("cells", one.labels)):
        label = listed.create_group(name)
        describe(label, spatial, [2, 0.5, 0.5])
        label.create_array("0", data=np.repeat(labels[None], planes, axis=0))
    return path


def write_all(root: Path, version: str = "0.4") -> Path:
    for one in FIELDS:
        (root / one.treatment).mkdir(parents=True, exist_ok=True)
        write_ome_field(root / one.treatment / f"{one.name}.ome.zarr", one, version)
    return root


@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_cells_are_cut_by_the_label_image_of_cells(version: str, tmp_path: Path) -> None:
    data = write_all(tmp_path, version)
    cells = read_cells(data, window=24, size=24, blank="surroundings")
    assert (len(cells), cells.class_names, cells.group_name) == (N, ("DMSO", "drug"), "field")
    assert (cells.channel_names, cells.pixel_size) == (CHANNELS, 0.5)
    crops = dict(zip(cells.names.tolist(), cells.images.read_raw(slice(None))))
    for one in FIELDS:
        background = np.median(one.image[:, one.labels == 0], axis=1).astype(np.uint16)
        for row in one.rows:
            crop = crops[f"{one.treatment}/{one.name}.ome.zarr[{row['number']}]"]
            own = one.image[:, one.labels == row["number"]]  # (2, pixels)
            for plane, pixels, empty in zip(crop, own, background):
                kept = plane[plane != empty]
                assert np.isin(kept, pixels).all()
                assert len(kept) > 0.9 * len(pixels)
    chunks = [file for file in data_files(data) if "cells" in file.parts]
    assert chunks  # a change of a label image is a change of the data


def test_the_same_in_a_process_of_its_own_and_one_field_alone(tmp_path: Path) -> None:
    cells = read_cells(write_all(tmp_path), window=24, size=24)
    with isolated():
        apart = read_cells(tmp_path, window=24, size=24)
        raw = apart.images.read_raw(slice(None))
    np.testing.assert_array_equal(raw, cells.images.read_raw(slice(None)))
    from cytolens.images.field_crops import Cutting

    one = read_alike(tmp_path / "drug" / "s2.ome.zarr", cells, cutting=Cutting(window=24))
    assert len(one) == len(FIELDS[1].rows)
    assert "drug/s2.ome.zarr" not in one.names[0]


def test_fields_in_three_dimensions_are_refused(tmp_path: Path) -> None:
    for one in FIELDS[:2]:
        (tmp_path / one.treatment).mkdir()
        write_ome_field(tmp_path / one.treatment / "a.zarr", one, "0.4", planes=3)
    with pytest.raises(InputError, match="write a projection along z"):
        read_cells(tmp_path)


def test_a_label_image_of_another_size_is_named(tmp_path: Path) -> None:
    write_all(tmp_path)
    label = zarr.open_group(tmp_path / "drug" / "s2.ome.zarr" / "labels" / "cells", mode="a")
    label.create_array("0", data=FIELDS[1].labels[None, :50], overwrite=True)
    with pytest.raises(InputError, match=r"s2.*its label image has 50 × 140 pixels"):
        read_cells(tmp_path, blank="neighbours")
    cells = read_cells(tmp_path, blank="neighbours", skip_bad=True)
    assert len(cells) < N
    assert any("s2.ome.zarr" in bad.name for bad in cells.skipped)
