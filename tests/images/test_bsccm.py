"""Berkeley Single Cell Computational Microscopy, laid out as the authors' reader has it."""

import json
from pathlib import Path

import numpy as np
import pytest
from made_bsccm import CHANNELS, write_bsccm

from cytolens.errors import InputError
from cytolens.images.content import data_files
from cytolens.images.describing import describe_data
from cytolens.images.isolation import isolated
from cytolens.images.reading import read_cells


@pytest.fixture
def folder(tmp_path: Path) -> tuple[Path, np.ndarray]:
    return tmp_path, write_bsccm(tmp_path / "BSCCMNIST" / "inner", 90)


def test_cells_with_a_type_are_read_bit_for_bit(folder: tuple[Path, np.ndarray]) -> None:
    path, crops = folder[0] / "BSCCMNIST", folder[1]
    cells = read_cells(path, size=28)
    assert cells.class_names == ("granulocyte", "lymphocyte", "monocyte")
    assert cells.channel_names == CHANNELS
    numbers = np.array([int(name.removeprefix("cell_")) for name in cells.names])
    rows = (numbers - 3) // 7
    np.testing.assert_array_equal(cells.images.read_raw(slice(None)), crops[rows])
    kinds = np.where(rows % 2 == 0, 0, 1 + rows % 9)
    assert set(kinds) == {0, 1, 2, 3, 7, 8, 9}  # neither red blood cells nor unknown ones
    np.testing.assert_allclose(cells.covariates["CD45"], kinds / 10)
    lymphocytes = cells.labels == cells.class_names.index("lymphocyte")
    np.testing.assert_array_equal(lymphocytes, kinds == 0)
    assert any("without a type were left out" in remark for remark in cells.remarks)
    one = read_cells(path, size=28, channels="Brightfield", classes=["lymphocyte", "granulocyte"])
    assert one.shape == (1, 28, 28)


def test_what_is_missing_or_damaged_is_named(folder: tuple[Path, np.ndarray]) -> None:
    inner = folder[0] / "BSCCMNIST" / "inner"
    assert {file.name for file in data_files(inner)} == {
        "BSCCM_global_metadata.json", "BSCCM_index.csv", "BSCCM_surface_markers.csv",
    }  # fmt: skip
    with isolated(), pytest.raises(InputError, match="--isolate does not read"):
        read_cells(inner)
    index = inner / "BSCCM_index.csv"
    rows = index.read_text()
    index.write_text(rows.replace("all/batch_0", "../../batch_0"))
    with pytest.raises(InputError, match="lies outside of it"):
        read_cells(inner)
    index.write_text(rows.replace("\n3,0,0,all,all/", "\n3,0,0,all,nowhere/"))
    with pytest.raises(InputError, match="cell_3"):
        read_cells(inner)
    (inner / "BSCCM_surface_markers.csv").unlink()
    with pytest.raises(InputError, match="has no cell types"):
        read_cells(inner)
    (inner / "BSCCM_global_metadata.json").write_text(json.dumps({"led_array": {}}))
    with pytest.raises(InputError, match="names no channels"):
        read_cells(inner)


def test_it_is_described(folder: tuple[Path, np.ndarray]) -> None:
    assert "Berkeley" in str(describe_data(folder[0] / "BSCCMNIST"))
