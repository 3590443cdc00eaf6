"""The script of jobs for SLURM, submitted to a program that runs them at once."""

import subprocess
import sys
from pathlib import Path

import pytest

from cytolens.cli.main import main
from cytolens.errors import SettingError
from cytolens.machines.job_array import array_script, rounds
from cytolens.store.run_folder import RunFolder
from cytolens.study.stage import table, upstream

KEPT = [name for name, stage in table().items() if stage.keep is not None]
SBATCH = """#!/usr/bin/env bash
echo "sbatch $*" >> "$LOG"
number=$(grep -c sbatch "$LOG")
ids=none
while [[ "$1" == --* ]]; do
    case "$1" in --array=1-*) ids=$(seq "${1#--array=1-}") ;; esac
    shift
done
for id in $ids; do SLURM_ARRAY_TASK_ID=$id SLURM_CPUS_PER_TASK=3 bash "$@" >&2; done
echo "$number;of-some-cluster"
"""
CYTOLENS = '#!/usr/bin/env bash\necho "$* with $OMP_NUM_THREADS" >> "$LOG"\n'


def test_a_script_makes_parts_in_rounds_and_joins_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    run, log = tmp_path / "a run", tmp_path / "log"
    for name, text in (("sbatch", SBATCH), ("python", CYTOLENS)):
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    outstanding = [name for name in KEPT if name not in upstream("layers")]
    options = ("--partition=gpu", "--time=4:00:00")
    script = tmp_path / "study.sh"
    script.write_text(array_script(run, 2, outstanding=outstanding, sbatch=options))
    head = script.read_text().splitlines()[:5]
    assert head[1:] == [
        "#SBATCH --job-name=cytolens", "#SBATCH --requeue", "#SBATCH --partition=gpu",
        "#SBATCH --time=4:00:00",
    ]  # fmt: skip
    subprocess.run(["bash", "-n", script], check=True)
    done = subprocess.run(
        ["bash", script], check=True, capture_output=True, text=True,
        env={"PATH": f"{tmp_path}:/usr/bin:/bin", "LOG": str(log)},
    )  # fmt: skip
    lines = log.read_text().splitlines()
    submitted = [line for line in lines if line.startswith("sbatch")]
    assert done.stdout == f"job {len(submitted)} makes {run}/report.html\n"
    for k, line in enumerate(submitted):
        assert line.startswith("sbatch --parsable" + (f" --dependency=afterok:{k} " if k else " "))
    verbs = [line for line in lines if not line.startswith("sbatch")]
    for shard in ("1/2", "2/2"):
        assert f"-m cytolens stage features {run} --shard {shard} with 3" in verbs
    made = [line.split()[3] for line in verbs if "--shard" not in line]
    for stages in rounds(outstanding):
        first = min(i for i, line in enumerate(verbs) if line.split()[3] in stages)
        needed = {need for stage in stages for need in upstream(stage)[:-1]} & set(outstanding)
        before = {line.split()[3] for line in verbs[:first] if "--shard" not in line}
        assert needed <= {name for stage in before for name in upstream(stage)}
    assert made[-1] == "report"
    assert not script.read_text().count("trust-model")
    assert "--trust-model" in array_script(run, 2, outstanding=KEPT, trusted=True)


def test_no_stage_rests_on_one_of_its_own_round():
    found = rounds(KEPT)
    assert sorted(name for stages in found for name in stages) == sorted(
        name for name in KEPT if table()[name].has_parts
    )
    for stages in found:
        assert all(not set(upstream(name)[:-1]) & set(stages) for name in stages)
    assert rounds(["report"]) == []


def test_what_cannot_be_submitted_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SettingError, match="give 1 to 1000 jobs"):
        array_script(tmp_path, 0, outstanding=KEPT)
    run = str(tmp_path / "run")
    with pytest.raises(SystemExit, match="2"):
        main(["slurm", run])
    assert "is not a run folder" in capsys.readouterr().err
    RunFolder(tmp_path / "run").note(data={"path": "cells", "digest": "x"})
    with pytest.raises(SystemExit, match="2"):
        main(["extract", run, "--sbatch=--mem=1"])
    assert "speak of a --scheduler" in capsys.readouterr().err
    with pytest.raises(SystemExit, match="0"):
        main(["slurm", run, "--shards", "3"])
    assert "shards=3\n" in capsys.readouterr().out
