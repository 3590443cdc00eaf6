"""Workers of Dask: what they are asked, who may be reached, and what happens when one dies."""

import importlib
from pathlib import Path

import dying
import pytest

from cytolens.errors import MissingExtra, RunError, SettingError
from cytolens.machines import dask_workers as room
from cytolens.machines.dask_workers import check_scheduler, slurm_jobs, workers
from cytolens.simulation.simulate import simulate
from cytolens.store.files import write_simulation
from cytolens.study.parts import PartTask
from cytolens.study.settings import StudySettings
from cytolens.study.study import Study

SMALL = StudySettings(quick=True, epochs=1, threads=1, folds="2")


@pytest.mark.parametrize(
    ("scheduler", "kind"),
    [
        ("local:2", "local"), ("slurm:100", "slurm"), ("tls://node7:8786", "tls"),
        ("tcp://127.0.0.1:8786", "tcp"), ("tcp://localhost:1", "tcp"),
    ],
)  # fmt: skip
def test_safe_schedulers_are_taken(scheduler: str, kind: str):
    assert check_scheduler(scheduler, insecure=False)[0] == kind


@pytest.mark.parametrize("scheduler", ["", "local", "local:0", "slurm:x", "node7:8786", "tcp://"])
def test_what_is_no_scheduler_is_refused(scheduler: str):
    with pytest.raises(SettingError, match="give local:2"):
        check_scheduler(scheduler, insecure=True)


def test_another_machine_without_tls_takes_a_flag():
    with pytest.raises(SettingError, match="--insecure-scheduler"):
        check_scheduler("tcp://node7:8786", insecure=False)
    assert check_scheduler("tcp://node7:8786", insecure=True)[0] == "tcp"


def test_without_dask_the_extra_is_named(monkeypatch: pytest.MonkeyPatch):
    def missing(name: str) -> None:
        raise ImportError(name)

    monkeypatch.setattr(room, "import_module", missing)
    with pytest.raises(MissingExtra, match=r"cytolens\[cluster\]"), workers("local:2"):
        pass


def test_jobs_of_slurm_speak_tls_and_have_the_options_given(tmp_path: Path):
    pytest.importorskip("dask_jobqueue")
    dask = importlib.import_module("dask")
    own = {"jobqueue.slurm.memory": "3 GB", "jobqueue.slurm.scheduler-options.host": "127.0.0.1"}
    with dask.config.set(own), slurm_jobs(["--partition=gpu"], tmp_path) as jobs:
        lines = jobs.job_script().splitlines()
        assert jobs.scheduler_address.startswith("tls://127.0.0.1")
    assert {"#SBATCH --mem=3G", "#SBATCH --partition=gpu"} <= set(lines)
    assert any(line.startswith("export MALLOC_TRIM_THRESHOLD_=") for line in lines)
    command = lines[-1]
    assert "--nthreads 1" in command
    assert f"--tls-key {tmp_path}" in command


def test_a_worker_that_is_killed_costs_its_part_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    pytest.importorskip("distributed")
    tasks = [PartTask(tmp_path, SMALL, False, "maps", number, "hash") for number in range(5)]
    dask = importlib.import_module("dask")
    with dask.config.set({"distributed.scheduler.allowed-failures": 1}), workers("local:2") as make:
        monkeypatch.setattr(room, "make_part", dying.dies_once)
        assert list(make(tasks)) == [1, 2, 3, 4, 5]
        assert {path.name for path in tmp_path.iterdir()} == {"died", *"01234"}
        assert (tmp_path / "4").read_text() == "None"  # as the system frees memory, not as Dask
        monkeypatch.setattr(room, "make_part", dying.always_dies)
        with pytest.raises(RunError, match="a part of 'maps' ended every worker"):
            list(make(tasks[:1]))


def test_a_study_has_its_parts_made_by_workers(tmp_path: Path):
    pytest.importorskip("distributed")
    data = write_simulation(tmp_path / "cells", simulate(80, size=40, rng=0))
    study = Study(tmp_path / "run", data, SMALL)
    study["together"]
    with workers("local:1") as make:
        wrong = PartTask(tmp_path / "run", SMALL, False, "folds", 0, "other")
        with pytest.raises(RunError, match="is not as it was"):
            list(make([wrong]))
        study.workers = make
        joined = study["folds"]
    assert joined.names == ("fold 1", "fold 2")
    assert not (tmp_path / "run" / "parts").exists()
