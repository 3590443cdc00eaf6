"""Whatever happens to the files of a run: the right numbers, or a line that says what to do."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from cytolens.errors import DamagedError, RunError
from cytolens.images.sources import ArrayImages
from cytolens.numerics.estimates import Estimate
from cytolens.records.cells import Cells, Preparation
from cytolens.records.classifier import Checkpoint
from cytolens.records.layers import Activations, Layer
from cytolens.store.run_folder import RunFolder

N = 40_000  # rows: several shards
CROPS = np.random.default_rng(0).integers(0, 4000, (50, 1, 12, 12)).astype(np.uint16)
FEATURES = np.random.default_rng(1).normal(size=(N, 3)).astype(np.float32)
FEATURES[:32_768] = 0  # a shard of nothing but zeros must not look like one that is missing


def layer(name: str) -> Layer:
    place = (name, 0, "output")
    return Layer(name, "conv", 1, (3, 8, 8), 3, place, place)


def write_features(folder: RunFolder, name: str, found: str = "conv1") -> None:
    def make(sink):
        array = sink(found, FEATURES.shape, np.float32)
        array[:] = FEATURES
        return Activations((layer(found),), {found: array}, "mean")

    folder.write_activations(name, make)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with one result of each kind."""
    folder = RunFolder(tmp_path_factory.mktemp("made") / "run")
    prep = Preparation((12, 12), "dataset", (0.0,), (4000.0,), (0.0,), "uint16")
    sizes = np.full((50, 2), 12)
    names = np.array([f"{i}.tif" for i in range(50)])
    images = ArrayImages(CROPS, sizes, prep)
    folder.write_cells(Cells(images, np.arange(50) % 2, ("a", "b"), ("x",), names, prep, sizes))
    folder.finish("cells", "h", 1.0)
    folder.write_checkpoint(Checkpoint({"w": np.arange(300, dtype=np.float32)}, {"kind": "own"}))
    folder.finish("classifier", "h", 1.0)
    write_features(folder, "activations")
    folder.finish("activations", "h", 1.0)
    folder.write_result("separation", {"conv1": {"gdv": Estimate(0.5, 0.4, 0.6)}})
    folder.finish("separation", "h", 1.0)
    return folder.path


def read_everything(path: Path) -> None:
    """Reads all of the run, and compares it with what was written."""
    folder = RunFolder(path)
    cells = folder.read_cells()
    np.testing.assert_array_equal(cells.images.read_raw(slice(0, 50)), CROPS)
    np.testing.assert_array_equal(cells.labels, np.arange(50) % 2)
    checkpoint = folder.read_checkpoint()
    np.testing.assert_array_equal(checkpoint.weights["w"], np.arange(300))
    assert checkpoint.spec == {"kind": "own"}
    acts = folder.read_activations("activations")
    np.testing.assert_array_equal(acts["conv1"], FEATURES)
    np.testing.assert_array_equal(acts.rows("conv1", np.array([3, 39_000])), FEATURES[[3, 39_000]])
    found = folder.read_result("separation")["conv1"]["gdv"]
    assert (found.value, found.low, found.high) == (0.5, 0.4, 0.6)


def flip(place: float) -> Callable[[Path], None]:
    def damage(file: Path) -> None:
        data = bytearray(file.read_bytes())
        data[int(place * (len(data) - 1))] ^= 4
        file.write_bytes(bytes(data))

    return damage


def cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def replace_by(content: bytes) -> Callable[[Path], None]:
    return lambda file: file.write_bytes(content) and None


DAMAGE: dict[str, Callable[[Path], None]] = {
    "missing": Path.unlink,
    "empty": replace_by(b""),
    "cut": cut,
    "longer": lambda file: file.write_bytes(file.read_bytes() + b"more") and None,
    "other bytes": replace_by(bytes(range(256)) * 4),
    "JSON of another type": replace_by(b"[]"),
    "JSON of nothing": replace_by(b"{}"),
    "a stranger's zip": replace_by(b"PK\x05\x06" + bytes(18)),
    **{f"a bit at {place:.0%}": flip(place) for place in (0, 0.1, 0.3, 0.5, 0.7, 0.9, 1)},
}
STAGES = {
    "cells": "cells",
    "classifier": "classifier",
    "activations/activations.zarr": "activations",
    "stages/separation.npz": "separation",
}


def test_an_undamaged_run_is_read_and_checked(whole: Path):
    read_everything(whole)
    for stage in set(STAGES.values()):
        RunFolder(whole).check(stage)


@pytest.mark.parametrize("kind", DAMAGE)
def test_damage_of_any_file_is_noticed_and_its_stage_is_named(
    whole: Path, tmp_path: Path, kind: str
):
    files = [f.relative_to(whole) for f in sorted(whole.rglob("*")) if f.is_file()]
    files = [file for file in files if file.name not in ("run.json", ".lock")]
    assert len(files) >= 8
    for file in files:
        run = tmp_path / "run"
        shutil.rmtree(run, ignore_errors=True)
        shutil.copytree(whole, run)
        DAMAGE[kind](run / file)
        stage = next(name for start, name in STAGES.items() if str(file).startswith(start))
        for looked_at in (lambda run=run: read_everything(run), RunFolder(run).check):
            with pytest.raises(DamagedError) as raised:
                looked_at() if looked_at.__name__ == "<lambda>" else looked_at(stage)
            assert raised.value.stage == stage, file
            assert f"cytolens stage {stage} " in str(raised.value), file
            assert "\n" not in str(raised.value)


@pytest.mark.parametrize("kind", DAMAGE)
def test_damage_of_the_record_of_a_run_is_noticed(whole: Path, tmp_path: Path, kind: str):
    run = tmp_path / "run"
    shutil.copytree(whole, run)
    DAMAGE[kind](run / "run.json")
    with pytest.raises(RunError):
        RunFolder(run)


def test_a_missing_shard_never_reads_as_zeros(whole: Path, tmp_path: Path):
    run = tmp_path / "run"
    shutil.copytree(whole, run)
    arrays = run / "activations"
    shards = {int(f.parent.name): f for f in arrays.rglob("*") if f.parent.parent.name == "c"}
    assert len(shards) > 1
    acts = RunFolder(run).read_activations("activations")  # opened before the damage
    shards[0].unlink()
    with pytest.raises(DamagedError):
        acts.rows("conv1", np.array([5]))
    intact = len(FEATURES) - 1
    np.testing.assert_array_equal(acts.rows("conv1", np.array([intact])), FEATURES[[intact]])


@pytest.mark.parametrize(
    "name", ["layers.npz", "/tmp/cytolens_evil", "../../outside", "a/b", "..", ".", "é ü%2F"]
)
def test_a_layer_of_any_name_stays_inside_the_run(tmp_path: Path, name: str):
    folder = RunFolder(tmp_path / "deep" / "run")
    write_features(folder, "activations", name)
    np.testing.assert_array_equal(folder.read_activations("activations")[name], FEATURES)
    outside = [f for f in tmp_path.rglob("*") if f.is_file() and folder.path not in f.parents]
    assert outside == []
    assert not Path("/tmp/cytolens_evil").exists()


def test_a_record_that_names_other_code_is_refused(whole: Path, tmp_path: Path):
    from cytolens.store import encoding

    for name in ("os.system", "cells.np", "shown.show", "Estimate2", "..cells.Cells"):
        tree = {"$record": name, "fields": {}}
        with pytest.raises((KeyError, TypeError, ValueError)):
            encoding._from_tree(json.loads(json.dumps(tree)), {})


@pytest.mark.parametrize("index", [(slice(0, 3), 9), (0, 0, 0), N])
def test_an_index_that_does_not_fit_is_no_damage(whole: Path, index: object):
    array = RunFolder(whole).read_activations("activations").features["conv1"]
    with pytest.raises(IndexError):
        array[index]
    np.testing.assert_array_equal(array[slice(N - 1, N - 4, -1)], FEATURES[: N - 4 : -1])


def test_files_outside_of_a_run_are_never_opened(whole: Path, tmp_path: Path):
    from cytolens.store.files import read_sealed_json, write_sealed_json

    run = tmp_path / "run"
    shutil.copytree(whole, run)
    record = read_sealed_json(run / "run.json")
    record["stages"]["separation"]["files"] = ["../../../../../../dev/zero"]
    write_sealed_json(run / "run.json", record)
    with pytest.raises(DamagedError, match="does not lie in the run"):
        RunFolder(run).check("separation")
