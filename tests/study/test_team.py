"""Other processes that work on a study: the same results, whatever happens to them."""

import errno
import os
import signal
import threading
from dataclasses import asdict
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import pytest

from cytolens.errors import RunError, SettingError
from cytolens.simulation.simulate import simulate
from cytolens.store.files import write_simulation
from cytolens.study import teammate
from cytolens.study.finished_run import open_run
from cytolens.study.settings import StudySettings
from cytolens.study.study import Study
from cytolens.study.team import Teammate, Todo, work

SMALL = {
    "quick": True, "epochs": 1, "methods": ["pca"], "gallery": 2, "cards": 0, "atlas": 0,
    "pairs": 0, "explain": 0, "layers": ["conv1", "conv3", "logits"], "steps": 4,
}  # fmt: skip


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_simulation(tmp_path_factory.mktemp("team") / "cells", simulate(80, size=40, rng=0))


def test_the_results_are_those_of_one_process(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    made: dict[int, dict[str, bytes]] = {}
    there: list[str] = []
    before = Teammate.make

    def make(self: Teammate, stage: str, progress: Any) -> Any:
        there.append(stage)
        return before(self, stage, progress)

    monkeypatch.setattr(Teammate, "make", make)
    for cores in (1, 2):
        study = Study(tmp_path / str(cores), data, StudySettings(threads=cores, **SMALL))
        study.make("ranking", "clusters")
        files = sorted((tmp_path / str(cores) / "stages").iterdir())
        made[cores] = {path.name: path.read_bytes() for path in files}
        assert study.verify(lambda stage, problem: None) == []
    assert made[1] == made[2]
    assert there  # the second study had some of its stages made by another process
    record = Study(tmp_path / "2").folder.timings
    assert all(record[stage] > 0 for stage in there)
    assert "clusters" in open_run(tmp_path / "2")
    assert "report" not in open_run(tmp_path / "2")
    said = list(study["about"]["timings"])  # in the report, whoever was done first
    assert said == [stage for stage in study if stage in said]


def test_a_large_network_of_the_users_takes_threads_instead(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    (tmp_path / "own.py").write_text(
        "from cytolens.classifier.networks import build_network\n"
        "def made():\n    return build_network((1, 40, 40), 2)\n"
    )
    settings = StudySettings(
        threads=2, model=f"{tmp_path / 'own.py'}:made", untrained=True, **SMALL
    )
    started: list[Path] = []

    def init(self: Teammate, run: Path, settings: StudySettings, trusted: bool) -> None:
        started.append(run)
        raise EOFError

    monkeypatch.setattr(Teammate, "__init__", init)
    monkeypatch.setattr("cytolens.classifier.threads.LARGE", 1)
    Study(tmp_path / "run", data, settings, trust_model=True).make("separation")
    assert not started
    monkeypatch.setattr("cytolens.classifier.threads.LARGE", 10**12)
    with pytest.raises(EOFError):
        Study(tmp_path / "other", data, settings, trust_model=True).make("separation")
    assert started


def test_a_stage_is_handed_out_when_what_it_needs_is_made():
    todo = Todo({"a": set(), "b": {"a"}, "c": {"a"}, "d": {"c", "elsewhere"}})
    assert todo.take() == "a"
    todo.made("a")
    assert todo.take(but=("c",)) == "b"
    assert todo.take() == "c"  # d waits for it
    assert len(todo) == 1
    todo.made("c")
    assert todo.take() == "d"
    assert todo.take() is None


def test_what_a_process_leaves_undone_is_done_by_another():
    done: list[str] = []

    def there(mate: Any, name: str) -> None:
        raise EOFError

    todo = Todo({name: set() for name in "abc"})
    work(todo, [None], here=done.append, there=there)  # pyright: ignore[reportArgumentType]
    assert sorted(done) == ["a", "b", "c"]


def test_the_first_error_ends_all():
    failed = threading.Event()

    def there(mate: Any, name: str) -> None:
        failed.set()
        raise SettingError("no such thing")

    def here(name: str) -> None:
        assert name == "a"
        assert failed.wait(30)

    todo = Todo({"a": set(), "b": set(), "c": {"b"}})
    with pytest.raises(SettingError, match="no such thing"):
        work(todo, [None], here=here, there=there, alone=("a",))  # pyright: ignore[reportArgumentType]
    assert len(todo) >= 1  # c was not begun


def test_a_process_says_what_is_wrong_and_ends_with_its_study(data: Path, tmp_path: Path):
    study = Study(tmp_path / "run", data, StudySettings(threads=1, **SMALL))
    study.make("cells")
    mate = Teammate(tmp_path / "run", study.settings, trusted=False)
    try:
        with pytest.raises(RunError, match="no result of the stage 'classifier' yet"):
            mate.make("evaluation", lambda done, total, note: None)
        with pytest.raises(RuntimeError, match="KeyError: 'nothing'"):
            mate.make("nothing", lambda done, total, note: None)
        assert mate.make("together", lambda *_: None)[0] == ["stages/together.npz"]
        os.kill(mate.process.pid, signal.SIGKILL)
        with pytest.raises(EOFError):
            mate.make("together", lambda *_: None)
    finally:
        mate.stop()
    other = Teammate(tmp_path / "run", study.settings, trusted=False)
    assert other.process.stdin is not None
    other.process.stdin.close()
    assert other.process.wait(60) == 0
    other.stop()


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        (OSError(errno.EMFILE, "Too many open files"), "Too many open files"),
        (MemoryError(), "ended"),
    ],
)
def test_what_the_machine_lacks_is_said_in_one_line_or_left_to_another_process(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: Exception, said: str
):
    Study(tmp_path / "run", data, StudySettings(threads=1, **SMALL)).make("together")
    first = {"run": str(tmp_path / "run"), "settings": asdict(StudySettings()), "trusted": False}
    asked: SimpleQueue[Any] = SimpleQueue()
    asked.put(first)
    asked.put({"make": "together"})
    answers: list[dict[str, str]] = []

    class Ended(BaseException):
        pass

    def fail(*_: Any) -> None:
        raise fault

    def answer(message: Any) -> None:
        answers.append(message)
        raise Ended

    def end(code: int) -> None:
        answers.append({"error": "ended", "kind": ""})
        raise Ended

    monkeypatch.setattr(teammate, "answering", lambda ended: (asked, answer))
    monkeypatch.setattr(teammate, "_make", fail)
    monkeypatch.setattr(teammate.os, "_exit", end)
    with pytest.raises(Ended):
        teammate.main()
    assert said in answers[0]["error"]
    assert answers[0]["kind"] in ("RunError", "")
