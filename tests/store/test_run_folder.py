import json
from pathlib import Path

import numpy as np
import pytest

from cytolens.errors import RunError
from cytolens.images.sources import ArrayImages
from cytolens.records.cells import Cells, Preparation
from cytolens.records.classifier import Checkpoint
from cytolens.records.layers import Activations, Layer
from cytolens.store.run_folder import RunFolder, open_run


@pytest.fixture
def cells() -> Cells:
    raw = np.random.default_rng(0).integers(0, 4000, (50, 2, 16, 16)).astype(np.uint16)
    prep = Preparation((16, 16), "dataset", (0.0, 10.0), (4000.0, 2000.0), (0.0, 0.0), "uint16")
    sizes = np.tile([16, 12], (50, 1))
    return Cells(
        ArrayImages(raw, sizes, prep),
        np.arange(50) % 2,
        ("a", "b"),
        ("DNA", "SSC"),
        np.array([f"{i}.tif" for i in range(50)]),
        prep,
        sizes,
        groups=np.repeat(np.array(["d1", "d2"]), 25),
        group_name="donor",
        covariates={"plate": np.arange(50)},
        pixel_size=0.3,
    )


def test_cells_come_back_with_their_bit_depth_masks_and_names(tmp_path: Path, cells: Cells):
    RunFolder(tmp_path / "run").write_cells(cells)
    back = RunFolder(tmp_path / "run").read_cells()
    some = np.array([40, 3, 7])
    assert back.images.read_raw(some).dtype == np.uint16
    np.testing.assert_array_equal(back.read(some), cells.read(some))
    np.testing.assert_array_equal(back.images.masks(some), cells.images.masks(some))
    assert back.pixel_size == 0.3
    assert list(back.subset(some).names) == ["40.tif", "3.tif", "7.tif"]
    assert list(back.covariates["plate"][:3]) == [0, 1, 2]


def test_activations_are_streamed_and_read_in_rows(tmp_path: Path):
    folder = RunFolder(tmp_path / "run")
    place = ("conv1", 0, "output")
    layer = Layer("conv1", "conv", 1, (3, 8, 8), 3, place, place)

    def make(sink):
        array = sink("conv1", (2500, 3), np.float32)
        for start in range(0, 2500, 1000):
            rows = slice(start, min(start + 1000, 2500))
            array[rows] = np.arange(2500)[rows, None] + np.zeros(3)
        return Activations((layer,), {"conv1": array}, "mean")

    folder.write_activations("activations", make)
    back = folder.read_activations("activations")
    assert back["conv1"].shape == (2500, 3)
    assert back.features["conv1"].oindex[np.array([7, 2400])][:, 0].tolist() == [7, 2400]
    assert back.layers == (layer,)


def test_an_extraction_that_fails_leaves_nothing_that_looks_finished(tmp_path: Path):
    folder = RunFolder(tmp_path / "run")

    def make(sink):
        sink("conv1", (10, 3), np.float32)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        folder.write_activations("activations", make)
    with pytest.raises(RunError, match="extract"):
        folder.read_activations("activations")


def test_weights_come_back_to_the_bit(tmp_path: Path):
    weights = {"conv.weight": np.random.default_rng(0).normal(size=(2, 1, 3, 3)).astype("f4")}
    weights["norm.batches"] = np.array(7)
    folder = RunFolder(tmp_path / "run")
    folder.write_checkpoint(Checkpoint(weights, {"kind": "CellNet", "depth": 3}))
    back = folder.read_checkpoint()
    np.testing.assert_array_equal(back.weights["conv.weight"], weights["conv.weight"])
    assert back.weights["norm.batches"].shape == ()
    assert back.spec["depth"] == 3


def test_a_finished_stage_keeps_its_hash_until_it_is_forgotten(tmp_path: Path):
    folder = RunFolder(tmp_path / "run")
    assert folder.hash_of("maps") is None
    folder.finish("cells", "c1", 1.0)
    folder.finish("maps", "m1", 2.0)
    again = RunFolder(tmp_path / "run")
    assert again.hash_of("maps") == "m1"
    assert again.timings == {"cells": 1.0, "maps": 2.0}
    again.forget("maps", "never made")
    assert not folder.has("maps")
    assert folder.has("cells")


def test_notes_are_kept_and_what_the_folder_keeps_itself_is_no_note(tmp_path: Path):
    RunFolder(tmp_path / "run").note(settings={"seed": 3}, data={"path": "x"})
    RunFolder(tmp_path / "run").note(data={"path": "y"})
    folder = RunFolder(tmp_path / "run")
    assert folder.settings == {"seed": 3}
    assert folder.noted("data") == {"path": "y"}
    assert folder.noted("model", "none") == "none"
    with pytest.raises(ValueError, match="no notes"):
        folder.note(stages={})


@pytest.mark.parametrize(
    ("content", "said"),
    [("{", "damaged"), (json.dumps({"format": 99}), "format 99"), ("[]", "damaged")],
)
def test_a_strange_run_folder_is_refused(tmp_path: Path, content: str, said: str):
    (tmp_path / "run.json").write_text(content)
    with pytest.raises(RunError, match=said):
        open_run(tmp_path)


def test_only_a_run_can_be_opened(tmp_path: Path):
    with pytest.raises(RunError, match=r"no run\.json"):
        open_run(tmp_path / "nothing")
    (tmp_path / "a.txt").write_text("x")
    with pytest.raises(RunError, match="other things"):
        RunFolder(tmp_path)
    with pytest.raises(RunError, match="is a file"):
        RunFolder(tmp_path / "a.txt")
