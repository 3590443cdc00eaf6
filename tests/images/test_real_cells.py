"""The real data sets that cytolens is shown on; skipped where they are not at hand."""

from pathlib import Path

import numpy as np
import pytest

from cytolens.errors import InputError
from cytolens.images.reading import read_cells

DATA = Path(__file__).parents[2].parent / "shared" / "data"
pytestmark = pytest.mark.skipif(not DATA.is_dir(), reason="no shared data here")


def test_tcell_folder_and_array_are_the_same_cells() -> None:
    folder = read_cells(DATA / "tcell_autofluorescence/images")
    array = read_cells(DATA / "tcell_autofluorescence/tcell_82px.npz", group="donor")
    assert (len(folder), folder.class_names) == (852, ("activated", "quiescent"))
    assert np.bincount(folder.labels).tolist() == [302, 550]
    assert (folder.group_name, len(np.unique(folder.groups))) == ("donor", 6)
    assert folder.preparation == array.preparation
    place = {name: row for row, name in enumerate(array.names.tolist())}
    rows = np.array([place[name] for name in folder.names.tolist()])
    one, two = folder.images.read_raw(slice(0, 852)), array.images.read_raw(rows)
    assert ((one == two).all(axis=(1, 2, 3))).sum() >= 851  # one crop was cut to 82 px
    low, background = folder.preparation.low[0], folder.preparation.background[0]
    assert low <= background < 10  # the dark between the cells, not the bright neighbours


def test_jurkat_classes_and_channel_are_chosen_by_part() -> None:
    cells = read_cells(
        DATA / "jurkat_ifc_cellcycle/jurkat_ifc.npz", classes=["G2", "prophase"], channels=["DNA"]
    )
    assert (len(cells), cells.shape) == (1506, (1, 40, 40))
    assert cells.channel_names == ("DNA_PI_fluorescence_Ch4",)
    assert cells.preparation.dtype == "uint16"


def test_jurkat_tiff_folders_are_read() -> None:
    cells = read_cells(DATA / "jurkat_ifc_cellcycle/dna_2class_tiff")
    assert (len(cells), cells.class_names, cells.shape) == (800, ("G1", "G2"), (1, 40, 40))


def test_jurkat_ome_tiffs_need_a_pattern_and_say_so() -> None:
    root = DATA / "jurkat_ifc_cellcycle/ome_tiff"
    with pytest.raises(InputError) as caught:
        read_cells(root)
    pattern = str(caught.value).split("'")[1]
    cells = read_cells(root, labels=pattern)
    assert (len(cells), len(cells.class_names)) == (70, 7)
    assert cells.channel_names[1] == "DNA_PI_fluorescence_Ch4"


def test_blood_cells_in_colour_keep_three_channels_and_a_bright_background() -> None:
    cells = read_cells(DATA / "pbc_wbc_rgb/pbc_wbc5_64px_rgb.npz")
    assert (cells.channel_names, len(cells.class_names)) == (("red", "green", "blue"), 5)
    assert min(cells.preparation.background) > 190
    medical = read_cells(DATA / "pbc_wbc_rgb/pbc_medmnist_style_28px_rgb.npz")
    assert medical.class_names[7] == "class 7"
    assert (medical.covariates["split"] == "train").sum() == 2800


def test_cells_of_one_class_are_refused() -> None:
    with pytest.raises(InputError, match="one class only"):
        read_cells(DATA / "instrument_formats/ome_tiff_from_cif", labels="(?P<label>eos)")
