"""A run is never silently out of date, never replaced by a look, never runs a stranger's code."""

import json
import os
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from cytolens.errors import DamagedError, ModelError, RunError, SettingError
from cytolens.simulation.optics import Optics
from cytolens.simulation.simulate import simulate
from cytolens.store.files import write_simulation
from cytolens.study.finished_run import FinishedRun, open_run
from cytolens.study.settings import StudySettings
from cytolens.study.stage import Stage, Summary, downstream, settings_of, table, upstream
from cytolens.study.study import Study, run

SMALL = StudySettings(
    epochs=1, gallery=1, steps=2, map_cells=60, permutations=20, explain=1, methods=["pca"],
    halves=2, layers=["input", "conv1", "pre_softmax", "logits"], pairs=1, judges=0,
)  # fmt: skip
MODEL = """
from pathlib import Path
import torch
from torch import nn
Path(__file__).with_name("was_run").touch()
def build():
    torch.manual_seed({seed})
    return torch.nn.Sequential(
        torch.nn.Conv2d(1, 4, 5, stride=2), torch.nn.ReLU(), torch.nn.AdaptiveAvgPool2d(1),
        torch.nn.Flatten(), torch.nn.Linear(4, 2),
    )
"""


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = simulate(120, size=32, difficulty=0.0, optics=Optics(pixel_size_um=0.5), rng=0)
    return write_simulation(tmp_path_factory.mktemp("data") / "cells", made)


@pytest.fixture(scope="module")
def trained(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("trained") / "run"
    Study(out, data, SMALL).make("clusters", "evaluation")
    return out


@pytest.fixture
def finished(trained: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(trained, tmp_path / "run"))


class Listener:
    def __init__(self) -> None:
        self.made: list[str] = []

    def __call__(self, title: str) -> Any:
        from contextlib import nullcontext

        self.made.append(title)
        return nullcontext(lambda done, total, note: None)

    @property
    def stages(self) -> list[str]:
        names = {stage.title: name for name, stage in table().items()}
        return [names[title] for title in self.made if title in names]


def made_again(out: Path, *args: Any, want: str = "evaluation", **options: Any) -> list[str]:
    listener = Listener()
    Study(out, *args, announce=listener, **options).make(want)
    return listener.stages


# The declaration ------------------------------------------------------------------------------


def test_make_is_given_what_it_declares_and_nothing_else():
    seen: dict[str, Any] = {}

    def make(cells: str, split: str, *, seed: int) -> str:
        seen.update(cells=cells, split=split, seed=seed)
        return "made"

    stage = Stage("trial", "trying", make)
    assert (stage.needs, stage.settings) == (("cells", "split"), ("seed",))
    results = {"cells": "c", "split": "s", "maps": "m"}
    assert stage.run(results, StudySettings(seed=4), lambda *_: None) == "made"
    assert seen == {"cells": "c", "split": "s", "seed": 4}


def test_the_hash_of_a_stage_knows_its_version_settings_and_needs_but_not_the_machine():
    def make(cells: str, *, seed: int, device: str | None) -> None: ...

    stage, needs = Stage("trial", "trying", make), {"cells": "1"}
    first = stage.identity(StudySettings(), needs)
    assert stage.identity(StudySettings(device="cpu", epochs=3), needs) == first
    others = [
        stage.identity(StudySettings(seed=1), needs),
        stage.identity(StudySettings(), {"cells": "2"}),
        replace(stage, version=2).identity(StudySettings(), needs),
        replace(stage, name="other").identity(StudySettings(), needs),
    ]
    assert len({first, *others}) == 5


def test_every_stage_stands_after_what_it_needs_and_the_report_rests_on_all():
    names = list(table())
    for name, stage in table().items():
        for need in stage.needs:
            assert need in ("data", "own_module") or names.index(need) < names.index(name)
    assert set(table()["report"].needs) == {n for n, s in table().items() if s.keep} - {"report"}
    assert "report" in downstream("similarity")
    assert "maps" not in upstream("similarity")
    assert set(settings_of("similarity")) >= {"permutations", "seed", "epochs", "classes"}


def test_a_stage_is_made_alone_with_what_it_needs(finished: Path):
    assert made_again(finished, want="similarity") == ["untrained", "similarity"]


def test_a_stage_of_an_unknown_name_lists_the_known(finished: Path):
    with pytest.raises(SettingError, match="similarity"):
        Study(finished)["likeness"]


# The data -------------------------------------------------------------------------------------


def test_the_same_call_again_makes_nothing(finished: Path, data: Path):
    for file in data.parent.iterdir():
        os.utime(file)
    assert made_again(finished, data, SMALL) == []


def test_data_that_have_changed_are_read_again_where_they_are_named(data: Path, tmp_path: Path):
    own = tmp_path / "cells.npz"
    shutil.copy(data, own)
    Study(tmp_path / "run", own, SMALL).make("cells")
    with np.load(own) as archive:
        arrays = dict(archive)
    arrays["labels"] = 1 - arrays["labels"]
    np.savez_compressed(own, **arrays)
    assert made_again(tmp_path / "run", own, SMALL, want="cells") == ["cells"]


def test_a_run_whose_data_have_changed_says_so_and_goes_on_with_what_it_holds(
    data: Path, tmp_path: Path
):
    own = tmp_path / "cells.npz"
    shutil.copy(data, own)
    Study(tmp_path / "run", own, SMALL).make("evaluation")
    assert Study(tmp_path / "run").changed() is None
    images = np.random.default_rng(0).integers(0, 4000, (60, 1, 32, 32)).astype(np.uint16)
    np.savez(own, images=images, labels=np.arange(60) % 2)
    said = Study(tmp_path / "run").changed()
    assert said is not None
    assert str(own) in said
    assert "--remake" in said
    assert made_again(tmp_path / "run") == []
    assert made_again(tmp_path / "run", want="maps") == ["layers", "activations", "maps"]
    assert len(open_run(tmp_path / "run").cells) == 120
    assert "cells" in made_again(tmp_path / "run", remake=True)
    assert len(open_run(tmp_path / "run").cells) == 60


def test_other_data_never_replace_those_of_a_finished_run(finished: Path, tmp_path: Path):
    other = tmp_path / "elsewhere" / "cells"
    other.parent.mkdir()
    cells = simulate(60, size=32, difficulty=0.0, optics=Optics(pixel_size_um=0.5), rng=9)
    named_alike = write_simulation(other, cells)
    with pytest.raises(SettingError, match="is a run of"):
        Study(finished, named_alike, SMALL)
    assert len(open_run(finished).cells) == 120


def test_the_data_may_move(finished: Path, data: Path, tmp_path: Path):
    moved = tmp_path / "elsewhere" / data.name
    moved.parent.mkdir()
    shutil.copy(data, moved)
    assert made_again(finished, moved, SMALL) == []


def test_a_run_is_looked_at_where_its_data_are_not(data: Path, tmp_path: Path):
    own = tmp_path / "cells.npz"
    shutil.copy(data, own)
    Study(tmp_path / "run", own, SMALL).make("evaluation")
    own.unlink()
    assert made_again(tmp_path / "run", want="clusters")[-1] == "clusters"
    assert Study(tmp_path / "run").changed() is None


def test_paths_are_recorded_whole(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(data.parent)
    Study(tmp_path / "run", data.name, SMALL).make("cells")
    monkeypatch.chdir(tmp_path)
    assert Study(tmp_path / "run").data == data.resolve()


# What a person decided -----------------------------------------------------------------------


def test_an_edit_of_the_decisions_is_seen_and_they_are_kept_in_the_run(data: Path, tmp_path: Path):
    table, out = tmp_path / "suspects.csv", tmp_path / "run"
    Study(out, data, SMALL).make("cells")
    settings = replace(SMALL, relabel=str(table))
    for decision, n in (("no,", 119), ("yes,neutrophil", 120)):
        table.write_text(f"name,use,label\ncells.npz[0],{decision}\n")
        assert made_again(out, data, settings, want="cells") == ["cells"]
        assert len(open_run(out).cells) == n
        table.write_text(f"\ufeffname;use;label\ncells.npz[0];{decision.replace(',', ';')}\n\n")
        assert made_again(out, data, settings, want="cells") == []  # it decides the same
    assert open_run(out).cells.decisions[0].label == "neutrophil"
    table.unlink()
    assert made_again(out, want="cells") == []
    assert len(open_run(out).cells.decisions) == 1
    assert made_again(out, data, SMALL, want="cells") == ["cells"]
    assert open_run(out).cells.decisions == ()


def test_decisions_come_before_the_draw(data: Path, tmp_path: Path):
    table = tmp_path / "suspects.csv"
    labels = Study(tmp_path / "all", data, SMALL)["cells"].labels
    first = np.flatnonzero(labels == 0)
    rows = "".join(f"cells.npz[{cell}],no,\n" for cell in first[:-10])
    table.write_text(f"name,use,label\n{rows}")
    settings = replace(SMALL, limit=40, relabel=str(table))
    drawn = Study(tmp_path / "some", data, settings)["cells"]
    assert np.bincount(drawn.labels).tolist() == [10, 30]
    assert set(drawn.names) & {f"cells.npz[{cell}]" for cell in first} == {
        f"cells.npz[{cell}]" for cell in first[-10:]
    }


# Settings -------------------------------------------------------------------------------------


def test_looking_at_a_run_with_another_seed_keeps_its_cells_and_classifier(finished: Path):
    changed = replace(SMALL, seed=5)
    stages = made_again(finished, settings=changed, want="clusters")
    assert stages == ["clusters"]
    assert made_again(finished, settings=changed, hold=False)[:2] == ["split", "classifier"]


def test_a_run_of_an_earlier_version_has_its_split_with_the_classifier(finished: Path):
    folder, new = FinishedRun(finished).folder, FinishedRun(finished)["split"]
    training = {**folder.read_result("training"), "split": new}
    folder.forget("split")
    folder.write_result("training", training)
    folder.finish("classifier", str(folder.hash_of("classifier")), 1)
    old = FinishedRun(finished)["split"]
    for part in ("train", "validation", "test"):
        np.testing.assert_array_equal(getattr(old, part), getattr(new, part))
    assert FinishedRun(finished)["classifier"].history


def test_what_rests_on_a_stage_made_again_no_longer_counts_as_finished(finished: Path):
    Study(finished).make("populations")
    Study(finished, settings=replace(SMALL, n_clusters=3)).make("clusters")
    folder = FinishedRun(finished).folder
    assert not folder.has("populations")
    assert not folder.has("features")
    assert folder.has("evaluation")


# The user's own network -----------------------------------------------------------------------


@pytest.fixture
def brought(data: Path, tmp_path: Path) -> tuple[Path, Path]:
    file = tmp_path / "mine.py"
    file.write_text(MODEL.format(seed=0))
    out = tmp_path / "own"
    settings = replace(SMALL, model=f"{file}:build", layers=[], epochs=None, untrained=True)
    Study(out, data, settings, trust_model=True).make("clusters")
    file.with_name("was_run").unlink()
    return out, file


def test_a_run_never_runs_the_code_that_it_names(brought: tuple[Path, Path]):
    out, file = brought
    assert Study(out)["layers"]
    assert Study(out)["clusters"]
    assert open_run(out).cells
    with pytest.raises(ModelError, match="--trust-model"):
        Study(out).make("features")
    with pytest.raises(ModelError, match="--trust-model"):
        open_run(out)["network"]
    assert not file.with_name("was_run").exists()
    Study(out, trust_model=True)["network"]
    assert file.with_name("was_run").exists()


def test_a_stored_permission_to_unpickle_is_not_a_permission(brought: tuple[Path, Path]):
    out, _ = brought
    Study(out).folder.note(settings={**Study(out).folder.settings, "allow_pickle": True})
    assert not Study(out).settings.allow_pickle


def test_an_edit_of_the_networks_file_is_seen(brought: tuple[Path, Path], data: Path):
    out, file = brought
    settings = Study(out).settings
    assert made_again(out, data, settings, trust_model=True, want="clusters") == []
    file.write_text(MODEL.format(seed=1))
    said = Study(out).changed()
    assert said is not None
    assert "mine.py" in said
    assert made_again(out, want="clusters") == []
    with pytest.raises(ModelError, match="has changed since"):  # not its code with old weights
        Study(out, trust_model=True).make("features")
    assert "mine.py" in str(Study(out).changed())
    stages = made_again(out, data, settings, trust_model=True, want="clusters")
    assert stages[0] == "classifier"
    assert "clusters" in stages


def test_an_edit_of_the_list_of_cells_that_it_was_trained_on_is_seen(data: Path, tmp_path: Path):
    network = nn.Sequential(nn.Conv2d(1, 4, 5), nn.ReLU(), nn.Flatten(), nn.LazyLinear(2))
    network(torch.zeros(2, 1, 32, 32))
    seen, out = tmp_path / "seen.txt", tmp_path / "run"
    names = Study(out, data, SMALL)["cells"].names.tolist()
    settings = replace(SMALL, layers=[], epochs=None, trained_on=str(seen))
    for count in (60, 50):
        seen.write_text("\n".join(names[:count]))
        stages = made_again(out, data, settings, want="classifier", module=network)
        assert stages[-1] == "classifier"
        assert len(Study(out, data, settings, module=network)["split"].train) == count
        assert made_again(out, data, settings, want="classifier", module=network) == []


# Damage ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("stage", ["cells", "classifier", "activations", "clusters", "layers"])
def test_what_is_damaged_is_named_and_making_it_again_works(finished: Path, data: Path, stage: str):
    places = {"cells": "cells", "classifier": "classifier", "activations": "activations"}
    place = finished / places.get(stage, f"stages/{stage}.npz")
    files = [place] if place.is_file() else [f for f in place.rglob("*") if f.is_file()]
    largest = max(files, key=lambda file: file.stat().st_size)
    content = bytearray(largest.read_bytes())
    content[len(content) // 2] ^= 1
    largest.write_bytes(bytes(content))
    found: dict[str, str | None] = {}
    assert Study(finished).verify(found.__setitem__) == [stage]
    assert f"cytolens stage {stage} " in str(found[stage])
    Study(finished, remake=True).make(stage, again=True)
    Study(finished).make("clusters", "evaluation")
    assert Study(finished).verify(lambda name, problem: None) == []


def test_a_run_named_alone_goes_on_with_its_own_settings_and_sums_up_its_stages(finished: Path):
    before = open_run(finished).folder.hash_of("classifier")
    report = run(None, finished, atlas=0, cards=1, kinds=0)
    after = open_run(finished)
    assert after.folder.hash_of("classifier") == before
    assert (after.settings.epochs, after.settings.atlas, after.settings.map_cells) == (1, 0, 60)
    numbers = after.numbers
    assert numbers == json.loads((finished / "summary.json").read_text())
    layers = {layer["name"]: layer for layer in numbers["layers"]}
    assert layers["conv1"]["separation"]["gdv"]["value"] == pytest.approx(
        Study(finished)["separation"]["conv1"]["gdv"].value
    )
    assert isinstance(table()["cells"].summarise(Study(finished)), Summary)
    report.unlink()
    assert not Study(finished).is_current("report")


def test_a_missing_stage_says_how_to_make_it(finished: Path):
    with pytest.raises(RunError, match="cytolens stage similarity"):
        open_run(finished)["similarity"]


def test_a_damaged_record_of_a_run_is_one_line(finished: Path):
    (finished / "run.json").write_text("{")
    with pytest.raises(DamagedError, match="new folder"):
        Study(finished)


# A run that is looked at ----------------------------------------------------------------------


def test_a_finished_run_gives_its_results_by_name(finished: Path, data: Path):
    Study(finished, data, SMALL).make("modulated", "maps")
    opened = open_run(finished)
    assert opened.layers[0].name == "input"
    assert opened.activations["conv1"].shape[0] == len(opened.cells) == 120
    assert opened.maps["pca"]["conv1"].coordinates.shape == (60, 2)
    assert opened.feature_images["conv1"].images.shape[1:] == (1, 32, 32)
    assert opened.modulated["conv1"].gain.shape[1:] == (32, 32)
    assert len(repr(opened).splitlines()) <= 15
    assert len(repr(Study(finished)).splitlines()) <= 15
    assert set(opened) >= {"cells", "maps", "modulated"}
