"""New cells on the maps of a finished run: the same in any company, odd where they should be."""

import json
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from cytolens.cli.main import main
from cytolens.errors import InputError, RunError, SettingError
from cytolens.images.new_cells import read_alike
from cytolens.records.maps import PlacedCells
from cytolens.simulation.optics import Optics
from cytolens.simulation.simulate import simulate
from cytolens.store.files import write_simulation
from cytolens.store.run_folder import RunFolder
from cytolens.study import place_apart, placed_page
from cytolens.study.apart import make_part
from cytolens.study.finished_run import FinishedRun
from cytolens.study.parts import Task
from cytolens.study.place import OldMaps, place
from cytolens.study.settings import StudySettings
from cytolens.study.study import Study

SMALL = StudySettings(
    epochs=2,
    map_cells=120,
    methods=["tsne", "pca"],
    layers=["input", "conv3", "logits"],
)


def made(n: int, seed: int) -> np.ndarray:
    return simulate(n, size=32, difficulty=0.0, optics=Optics(pixel_size_um=0.5), rng=seed).images


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("placing")
    cells = simulate(240, size=32, difficulty=0.0, optics=Optics(pixel_size_um=0.5), rng=0)
    study = Study(root / "run", write_simulation(root / "cells", cells), SMALL)
    study.make("maps")
    return root / "run"


@pytest.fixture(scope="module")
def new(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """70 clean cells, then 8 with shuffled pixels and 8 inverted."""
    images = made(70, 5)
    rng = np.random.default_rng(0)
    shuffled = rng.permuted(images[:8].reshape(8, 1, -1), axis=2).reshape(8, 1, 32, 32)
    inverted = images.max() - images[8:16]
    path = tmp_path_factory.mktemp("new") / "new.npz"
    np.savez(path, images=np.concatenate([images, shuffled, inverted]))
    return path


@pytest.fixture(scope="module")
def placed(finished: Path, new: Path) -> PlacedCells:
    return place(new, on=finished)


def assert_same_rows(one: PlacedCells, rows: list[int], other: PlacedCells) -> None:
    np.testing.assert_array_equal(one.probabilities, other.probabilities[rows])
    for part in ("scores", "p_values", "odd"):
        np.testing.assert_array_equal(
            getattr(one.overall, part), getattr(other.overall, part)[rows]
        )
    for layer in one.layers:
        for part in ("odd", "distances", "percentiles"):
            np.testing.assert_array_equal(
                getattr(one, part)[layer], getattr(other, part)[layer][rows]
            )
        for method in one.places:
            np.testing.assert_array_equal(
                one.places[method][layer], other.places[method][layer][rows]
            )


@pytest.mark.parametrize("rows", [[0], [77], [69, 3, 41], list(range(85, -1, -1))])
def test_a_cell_is_placed_the_same_alone_and_among_others(
    finished: Path, new: Path, placed: PlacedCells, rows: list[int], tmp_path: Path
):
    with np.load(new) as archive:
        images = archive["images"]
    np.savez(tmp_path / "some.npz", images=images[rows])
    assert_same_rows(place(tmp_path / "some.npz", on=finished), rows, placed)


def test_a_network_whose_rounding_depends_on_the_place_is_run_cell_by_cell(
    finished: Path, monkeypatch: pytest.MonkeyPatch
):
    run = OldMaps(FinishedRun(finished))
    sizes: list[int] = []
    forward = run._forward

    def fickle(cells, size, **options):
        sizes.append(size)
        found = forward(cells, size, **options)
        if size > 1:
            for layer in found:
                found.features[layer][0] += 1e-6
        return found

    monkeypatch.setattr(run, "_forward", fickle)
    run.features(run.cells.subset(np.arange(3)))
    assert sizes[-1] == 1


def test_crops_are_prepared_as_those_of_the_run(finished: Path, tmp_path: Path):
    run = OldMaps(FinishedRun(finished))
    rows = np.array([3, 100, 200])
    bright = made(3, 9) * 7  # of the same call, but must not change the limits
    np.savez(tmp_path / "few.npz", images=np.concatenate([run.cells.images.read_raw(rows), bright]))
    cells = read_alike(tmp_path / "few.npz", run.cells)
    np.testing.assert_array_equal(cells.read(np.arange(3)), run.cells.read(rows))
    features, _ = run.features(cells)
    for layer in run.activations:
        np.testing.assert_allclose(
            features[layer][:3], run.activations[layer][rows], rtol=1e-3, atol=1e-5
        )


def test_oddities_are_flagged_and_clean_cells_hardly(placed: PlacedCells):
    depths = placed.depths_odd
    assert (depths[70:] >= 2).mean() > 0.9
    assert (depths[:70] >= 2).mean() < 0.2
    assert placed.clean["any"].value < 0.2
    assert placed.overall.odd[70:].mean() > 0.9
    assert placed.overall.odd[:70].mean() < 0.2
    assert placed.overall.clean.value < 0.2
    assert placed.overall.with_energy
    assert set(placed.clean) == {*placed.layers, "any"}
    assert placed.expected >= 0.01


def test_no_cell_is_in_two_of_the_parts_that_flags_rest_on(finished: Path):
    split = FinishedRun(finished)["split"]
    parts = [set(part.tolist()) for part in (split.train, split.validation, split.test)]
    assert not parts[0] & parts[1]
    assert not parts[1] & parts[2]
    assert not parts[0] & parts[2]


def test_the_run_is_left_as_it_was_and_the_result_is_a_folder(
    finished: Path, new: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    before = sorted((p, p.stat().st_mtime_ns) for p in finished.rglob("*"))
    out = tmp_path / "placed"
    found = place(new, on=finished, out=out)
    assert sorted((p, p.stat().st_mtime_ns) for p in finished.rglob("*")) == before
    table = pd.read_csv(out / "placed.csv")
    assert len(table) == 86
    pd.testing.assert_frame_equal(pd.read_parquet(out / "placed.parquet"), table, check_dtype=False)
    assert {"name", "prediction", "probability", "depths_odd", "novel", "novelty_p"} <= set(table)
    assert "label" not in table
    for layer in found.layers:
        assert {f"odd_{layer}", f"distance_{layer}", f"percentile_{layer}"} <= set(table)
        np.testing.assert_array_equal(
            table[f"x_tsne_{layer}"].to_numpy(np.float32), found.places["tsne"][layer][:, 0]
        )
    summary = json.loads((out / "placed.json").read_text(), parse_constant=pytest.fail)
    assert summary["n"] == 86
    assert summary["odd"]["any"]["clean"]["low"] <= summary["odd"]["any"]["clean"]["value"]
    assert {entry["method"] for entry in summary["maps"]} == {"tsne", "pca"}
    assert "placed_map" in (out / "placed.html").read_text()
    assert len(list((out / "figures").glob("*.svg"))) == 5
    assert [entry.name for entry in tmp_path.iterdir()] == ["placed"]
    first = (out / "placed.csv").read_bytes()
    monkeypatch.setattr(placed_page, "placed_drawings", lambda *given: ())
    place(new, on=finished, out=out)  # again, over what is ours
    assert (out / "placed.csv").read_bytes() == first


def test_labels_are_used_where_there_are_some(finished: Path, tmp_path: Path):
    simulated = simulate(30, size=32, difficulty=0.0, optics=Optics(pixel_size_um=0.5), rng=4)
    path = write_simulation(tmp_path / "labelled", simulated)
    cells = read_alike(path, FinishedRun(finished).cells)
    assert cells.labels.tolist() == simulated.labels.tolist()
    known = FinishedRun(finished).cells
    other = replace(known, class_names=("something", "else"))
    assert (read_alike(path, other).labels == -1).all()


def test_a_folder_that_holds_other_things_is_not_replaced(
    finished: Path, new: Path, tmp_path: Path
):
    (tmp_path / "thesis.txt").write_text("precious")
    with pytest.raises(SettingError, match="holds other things"):
        place(new, on=finished, out=tmp_path)
    assert (tmp_path / "thesis.txt").read_text() == "precious"


def test_a_run_that_is_not_finished_is_said(finished: Path, new: Path, tmp_path: Path):
    with pytest.raises(RunError, match="not a run folder"):
        place(new, on=tmp_path)
    shutil.copytree(finished, tmp_path / "half")
    RunFolder(tmp_path / "half").forget("maps")
    with pytest.raises(RunError, match="no maps yet; go on with: cytolens run"):
        place(new, on=tmp_path / "half")


def test_other_channels_are_said(finished: Path, tmp_path: Path):
    np.savez(tmp_path / "two.npz", images=np.repeat(made(12, 3), 2, axis=1))
    with pytest.raises(InputError, match=r"2 image channels .* the run's network looks at 1"):
        place(tmp_path / "two.npz", on=finished)


def test_placed_in_parts_the_bytes_are_the_same(
    finished: Path, new: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(place_apart, "BLOCK", 30)
    monkeypatch.chdir(new.parent)
    new = Path(new.name)  # named from here, and shown so
    place(new, on=finished, out=tmp_path / "whole")
    asked: list[str] = []

    def workers(tasks: Sequence[Task]) -> Iterator[int]:
        for done, task in enumerate(reversed(tasks), 1):
            asked.append(f"{task.stage} {task.number}")
            make_part(task)
            yield done

    place(new, on=finished, out=tmp_path / "by workers", workers=workers)
    assert sorted(asked) == ["rows 0", "rows 1", "rows 2", "scales 0", "scales 1", "scales 2"]
    for shard in ("2/2", "1/2"):
        with pytest.raises(SystemExit, match="0"):
            main(["place", str(new), "--on", str(finished), "--out", str(tmp_path / "by jobs"),
                  "--shard", shard])  # fmt: skip
    monkeypatch.setattr(OldMaps, "features", None)  # nothing is left to make
    place(new, on=finished, out=tmp_path / "by jobs")
    assert not (tmp_path / "parts").exists()
    whole = tmp_path / "whole"
    written = [str(path.relative_to(whole)) for path in whole.rglob("*") if path.is_file()]
    assert {"placed.csv", "placed.html", "placed.json", "placed.parquet"} <= set(written)
    for way in ("by workers", "by jobs"):
        for name in written:
            same = (tmp_path / way / name).read_bytes() == (whole / name).read_bytes()
            assert same, (way, name)
