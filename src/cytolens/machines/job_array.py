"""A study as jobs of SLURM without a scheduler process of our own: the script that submits them."""

import shlex
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from cytolens.errors import SettingError
from cytolens.study.stage import SOURCES, table, upstream

_SCRIPT = """\
#!/usr/bin/env bash
{directives}
# The study {run} as jobs of SLURM. Save this file and give it to
# bash on a login node: it submits itself. By turns one job makes what the next parts rest on, and
# an array of {shards} jobs makes these parts. A job that was stopped is submitted once more, and
# goes on from there.
set -euo pipefail
run={run}
shards={shards}
export OMP_NUM_THREADS="${{SLURM_CPUS_PER_TASK:-1}}"
cytolens() {{ {python} -m cytolens "$@"{trusted}; }}

case "${{1:-submit}}" in
make)
    for stage in "${{@:2}}"; do cytolens stage "$stage" "$run"; done ;;
parts)
    for stage in "${{@:2}}"; do
        cytolens stage "$stage" "$run" --shard "$SLURM_ARRAY_TASK_ID/$shards"
    done ;;
submit)
    last=
    submit() {{
        last=$(sbatch --parsable ${{last:+"--dependency=afterok:$last"}} "$@")
        last=${{last%%;*}}
    }}
{jobs}
    echo "job $last makes $run/report.html" ;;
esac
"""


def array_script(
    run: Path,
    shards: int,
    *,
    outstanding: Sequence[str],
    sbatch: Sequence[str] = (),
    trusted: bool = False,
) -> str:
    """The text of a script for bash that has the ``outstanding`` stages of a run made as jobs.

    Each part of a stage is made by one of ``shards`` jobs. ``sbatch``: options of every job.
    ``trusted``: the jobs may run the Python file that the run names as its network. Raises
    SettingError for a number of shards that is not from 1 to 1000.
    """
    if not 1 <= shards <= 1000:
        raise SettingError(f"--shards {shards}: give 1 to 1000 jobs")
    lines: list[str] = []
    for stages in rounds(outstanding):
        needed = _last_of({need for stage in stages for need in table()[stage].needs}, outstanding)
        if needed:
            lines.append(f'submit "$0" make {" ".join(needed)}')
        lines.append(f'submit --array="1-$shards" "$0" parts {" ".join(stages)}')
    lines.append('submit "$0" make report')
    options = ("--job-name=cytolens", "--requeue", *sbatch)
    return _SCRIPT.format(
        directives="\n".join(f"#SBATCH {option}" for option in options),
        run=shlex.quote(str(run.resolve())),
        shards=shards,
        python=shlex.quote(sys.executable),
        trusted=" --trust-model" if trusted else "",
        jobs="\n".join(f"    {line}" for line in lines),
    )


def rounds(outstanding: Sequence[str]) -> list[list[str]]:
    """Stages with parts, in rounds: none rests on another of its own round or of a later one."""
    stages: Mapping[str, int] = {}
    for name, stage in table().items():
        if stage.has_parts and name in outstanding:
            before = [stages[other] for other in upstream(name) if other in stages]
            stages[name] = 1 + max(before, default=-1)
    count = 1 + max(stages.values(), default=-1)
    return [[name for name, turn in stages.items() if turn == k] for k in range(count)]


def _last_of(names: set[str], outstanding: Sequence[str]) -> list[str]:
    """Of these stages and all that they rest on those to ask for, so that all are made."""
    wanted = {need for name in names - set(SOURCES) for need in upstream(name)} & set(outstanding)
    others = {need for name in wanted for need in upstream(name)[:-1]}
    return [name for name in table() if name in wanted - others]
