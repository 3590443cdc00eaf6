"""Parts of stages: made by any process in any order, and joined to the same bytes."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from cytolens.cli.main import main
from cytolens.errors import RunError, SettingError
from cytolens.simulation.simulate import simulate
from cytolens.store.files import write_simulation
from cytolens.store.parts import PartFiles
from cytolens.study.apart import Apart, make_part
from cytolens.study.parts import Parts, PartTask, Task, have_made, join, read_or_made
from cytolens.study.settings import StudySettings
from cytolens.study.stage import table
from cytolens.study.stages import classifier, features
from cytolens.study.study import Study

SMALL = StudySettings(
    quick=True, epochs=1, methods=["pca"], halves=2, gallery=3, cards=0, atlas=0, pairs=1,
    explain=0, layers=["conv1", "conv6", "logits"], steps=2, threads=1, folds="2", permutations=20,
)  # fmt: skip
WITH_PARTS = [name for name, stage in table().items() if stage.has_parts]


@pytest.fixture(scope="module", autouse=True)
def small_parts() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(classifier, "BLOCK", 50)
        patch.setattr(features, "_BLOCK", 2)
        yield


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    cells = simulate(130, size=40, difficulty=0.0, rng=0)
    return write_simulation(tmp_path_factory.mktemp("parts") / "cells", cells)


@dataclass(frozen=True)
class Twice:
    """What a stage stored: made by one process, and from parts that were made backwards."""

    inline: dict[str, bytes]
    joined: dict[str, bytes]
    parts: int
    recorded: bool  # whether making parts changed run.json


@pytest.fixture(scope="module")
def twice(data: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Twice]]:
    run = tmp_path_factory.mktemp("run") / "run"
    study, found = Study(run, data, SMALL), dict[str, Twice]()
    for name in WITH_PARTS:
        study.make(name)
        inline, record = stored(run), (run / "run.json").read_bytes()
        parts = apart(run, name)
        assert parts.made_from == study.hash_of(name)
        for number in reversed(range(len(parts.names))):
            parts.make(number)
        assert list(parts.files.missing()) == []
        recorded = (run / "run.json").read_bytes() != record
        study.make(name, again=True)
        found[name] = Twice(inline, stored(run), len(parts.names), recorded)
    return run, found


@pytest.fixture
def inline(twice: tuple[Path, dict[str, Twice]]) -> Path:
    return twice[0]


def stored(run: Path) -> dict[str, bytes]:
    """Every file but the record and the log, which have seconds in them, and the lock."""
    files = [path for path in run.rglob("*") if path.is_file()]
    kept = (path for path in files if path.name not in ("run.json", ".lock", "log.txt"))
    return {str(path.relative_to(run)): path.read_bytes() for path in kept}


def quiet(done: int, total: int, note: str) -> None:
    pass


def apart(run: Path, stage: str) -> Apart:
    return Apart(run, StudySettings.of_run(Study(run).folder), stage, progress=quiet)


def test_parts_made_backwards_are_joined_to_the_same_bytes(
    twice: tuple[Path, dict[str, Twice]],
):
    for name, found in twice[1].items():
        assert found.joined == found.inline, name  # and no part is left
        assert not found.recorded
    counts = {name: found.parts for name, found in twice[1].items()}
    assert counts["activations"] == 3
    assert counts["features"] > 6  # blocks of channels
    assert min(counts.values()) >= 1


def test_only_parts_of_the_same_inputs_are_used_and_damaged_ones_made_anew(tmp_path: Path):
    files = PartFiles(tmp_path, "maps", "abc", 3)
    other = PartFiles(tmp_path, "maps", "abd", 3)
    for number in range(3):
        files.write(number, number)
        other.write(number, 100 + number)
    folder = tmp_path / "parts" / "maps"
    assert len(list(folder.iterdir())) == 6
    (folder / "abc-2-of-3.npz").write_bytes(b"half of it")
    (folder / "abd-3-of-3.npz").replace(folder / "abc-3-of-3.npz")
    made: list[int] = []

    def make(number: int) -> int:
        made.append(number)
        return number

    assert list(read_or_made(files, Parts("xyz", make))) == [0, 1, 2]
    assert made == [1, 2]


def test_shards_make_every_part_once_and_the_verb_joins_them(
    inline: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    before, run = stored(inline), str(inline)
    made: list[int] = []
    write: Callable[..., None] = PartFiles.write

    def noted(self: PartFiles, number: int, value: object) -> None:
        made.append(number)
        write(self, number, value)

    monkeypatch.setattr(PartFiles, "write", noted)
    for shard in ("2/2", "1/2", "1/2"):
        with pytest.raises(SystemExit, match="0"):
            main(["extract", run, "--reduction", "max", "--shard", shard])
    assert made == [1, 0, 2]  # the last call found its parts ready
    assert stored(inline) != before
    with pytest.raises(SystemExit, match="0"):
        main(["extract", run, "--shard", "1/2"])
    assert "made already" in capsys.readouterr().out
    monkeypatch.setattr(classifier, "BLOCK", 10**6)  # another division: those parts do not fit
    Study(inline).make("activations")
    monkeypatch.undo()
    (parts,) = {path.parent for path in inline.rglob("parts/*/*.npz")}
    for path in parts.iterdir():
        path.unlink()
    parts.rmdir()
    parts.parent.rmdir()
    assert stored(inline) == before


@pytest.mark.parametrize("shard", ["3/2", "0/2", "a/b", "1", "-1/2"])
def test_a_shard_that_is_none_is_refused(
    inline: Path, shard: str, capsys: pytest.CaptureFixture[str]
):
    with pytest.raises(SystemExit, match="2"):
        main(["extract", str(inline), f"--shard={shard}"])
    assert "give I/N" in capsys.readouterr().err


def test_parts_wait_for_what_they_rest_on(inline: Path):
    other = StudySettings.of_run(Study(inline).folder, reduction="max")
    with pytest.raises(RunError, match=r"rest on 'activations'.*cytolens stage activations"):
        Apart(inline, other, "features", progress=quiet)
    with pytest.raises(SettingError, match="'cells' has no parts; those that have: activations"):
        Apart(inline, other, "cells", progress=quiet)


def test_a_part_of_a_run_that_changes_meanwhile_is_not_stored(inline: Path):
    parts = apart(inline, "ranking")
    folder = Study(inline).folder
    record = (inline / "run.json").read_bytes()
    folder.forget("activations")
    with pytest.raises(RunError, match="rest on 'activations'"):
        parts.make(0)
    (inline / "run.json").write_bytes(record)
    assert list(parts.files.missing()) == [0, 1]


def test_workers_make_what_is_missing(inline: Path):
    study = Study(inline)
    asked: list[Task] = []

    def workers(tasks: Sequence[Task]) -> Iterator[int]:
        for done, task in enumerate(tasks, 1):
            asked.append(task)
            make_part(task)
            yield done

    hash = str(study.hash_of("ranking"))
    files = PartFiles(inline, "ranking", hash, 2)
    seen: list[tuple[int, int]] = []
    for _ in range(2):
        have_made(
            files, workers, PartTask(inline, study.settings, False, "ranking", 0, hash),
            progress=lambda done, total, note: seen.append((done, total)),
        )  # fmt: skip
    assert [task.number for task in asked] == [0, 1]
    assert seen == [(1, 2), (2, 2)]
    wrong = PartTask(inline, study.settings, False, "ranking", 0, "another")
    with pytest.raises(RunError, match="is not as it was"):
        make_part(wrong)
    gone = PartTask(inline / "nowhere", study.settings, False, "ranking", 0, hash)
    with pytest.raises(RunError, match="is not to be seen on"):
        make_part(gone)


def test_a_stage_yields_its_parts_once():
    def twice():
        yield Parts("a", lambda number: number)
        yield Parts("b", lambda number: number)

    with pytest.raises(TypeError, match="once"):
        join(twice(), lambda parts: ())
