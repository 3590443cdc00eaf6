"""Accidents of every kind at many moments of every stage of a study, and what came of them.

    python tests/faults/everything.py [--out FILE] [--quick] [--seed 0] [--only KIND …]

Everything is made in a folder of its own, which is removed. Exit code 1 where anything half-made
counted as finished, a rerun gave other bytes or made more than it had to, a process outlived its
study, or a command ended with anything but its one line. ``--quick``: three stages, few trials.
"""

import os

os.environ["OMP_NUM_THREADS"] = "1"  # before any library: threads do not survive a fork

import argparse
import platform
import random
import resource
import sys
import tempfile
from collections.abc import Callable
from datetime import date
from pathlib import Path

from accidents import (
    Outcome,
    clock_set_back,
    crashed,
    full,
    interrupted,
    killed,
    small_disk,
    started,
)
from arena import KEPT, Arena
from processes import lost_mates, lost_study

QUICK = {  # stages of the quick selection, all among what the activations rest on
    "kill -9": ("activations",),
    "states": ("cells",),
    "interrupts": ("activations",),
    "clock set back": (),
    "disk full": ("classifier",),
}
SHORT = (
    "together", "split", "layers", "channels", "unseen_layers", "equalised", "suspects", "pairs",
    "gains", "similarity",
)  # fmt: skip
"""Stages that take less than half a second of a study (benchmarks/results/study_time.md)."""

_HEAD = """# Accidents
`make faults`, {date}, {cores}, {minutes} CPU minutes. A small study (160 simulated cells of 40 px,
shards of 32 rows, so that arrays have several); every stage of it starts from a run in which all
that it rests on is finished, half of the times with an older result of the same stage in its place.

Each cell: trials survived / trials. Survived: nothing half-made counts as finished, every finished
stage has its own bytes, and once the stage is made again, the run has the bytes of a study that
nothing happened to, and nothing is left over. No rerun made more again than the stage that was hit.
"""
_KINDS = """
- kill -9: a third of them at random moments of the whole stage, the others while its result is
  written; up to ten in a row on the same run before it is made to the end and compared.
- states: the states in which the folder lies on the disk while the stage is written (half a file,
  before and after each fsync, rename and removal, between shards), all of them or 60 drawn at
  random; each is what a kill at that moment leaves. Each file was on the disk (fsync) before it
  took its name.
- interrupts: Ctrl-C and SIGTERM in turn; one line, exit code 130 or 143, no traceback.
- clock set back: it jumps an hour back and forth while the stage is made, and all files are dated
  tomorrow.
- disk full: after a random number of bytes, on a real file system of that size; one line, exit
  code 2, and the rerun goes on once there is room.
"""
KINDS: dict[str, Callable[[Arena, str, bool, random.Random], Outcome]] = {
    "kill -9": lambda a, stage, quick, draw: killed(a, stage, 4 if quick else _kills(stage), draw),
    "disk full": lambda a, stage, quick, draw: full(a, stage, 1 if quick else 5, draw),
    "interrupts": lambda a, stage, quick, draw: interrupted(a, stage, 1 if quick else 4, draw),
    "states": lambda a, stage, quick, draw: crashed(a, stage, 3 if quick else 30, draw),
    "clock set back": lambda a, stage, quick, draw: clock_set_back(a, stage),
}
OTHERS: dict[str, Callable[[Arena, random.Random], Outcome]] = {
    "a study on two cores is killed": lambda a, draw: lost_study(a, 10, draw),
    "the other process of such a study is killed": lambda a, draw: lost_mates(a, 5, draw),
    "a new process is stopped while it loads": lambda a, draw: started(a, 12, draw),
}


def _kills(stage: str) -> int:
    return 10 if stage in SHORT else 50


def main() -> None:
    """Have all accidents happen, and write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", nargs="*", choices=[*KINDS, *OTHERS], default=[*KINDS, *OTHERS])
    parser.add_argument("--stages", nargs="*", choices=KEPT, help="of the whole, these alone")
    asked = parser.parse_args()
    draw = random.Random(asked.seed)
    found: dict[str, dict[str, Outcome]] = {}
    others: dict[str, Outcome] = {}
    with tempfile.TemporaryDirectory() as folder:
        arena = Arena(Path(folder), QUICK["kill -9"] if asked.quick else KEPT)
        arena.prepare()
        for what, happen in ({} if asked.quick else OTHERS).items():
            if what in asked.only:
                others[what] = happen(arena, draw)
                _say(what, others[what])
        for kind in [kind for kind in KINDS if kind in asked.only]:
            with small_disk(arena, wanted=kind == "disk full") as there:
                stages = QUICK[kind] if asked.quick else asked.stages or KEPT
                for stage in stages if there else ():
                    outcome = KINDS[kind](arena, stage, asked.quick, draw)
                    found.setdefault(stage, {})[kind] = outcome
                    _say(f"{stage}, {kind}", outcome)
                    if asked.out is not None:  # what there is, in case that it is stopped
                        asked.out.write_text(_page(found, others))
    outcomes = [
        *others.values(),
        *(one for of_stage in found.values() for one in of_stage.values()),
    ]
    if any(outcome.problems or outcome.repeated > outcome.allowed for outcome in outcomes):
        sys.exit(1)


def _say(what: str, outcome: Outcome) -> None:
    spent = resource.getrusage(resource.RUSAGE_CHILDREN)
    print(
        f"{what}: {outcome.trials} trials, {len(outcome.problems)} problems, at most "
        f"{outcome.repeated} stages repeated ({spent.ru_utime + spent.ru_stime:.0f} CPU s so far)",
        flush=True,
    )
    for problem in dict.fromkeys(outcome.problems):
        print(f"  {problem}", flush=True)


def _page(found: dict[str, dict[str, Outcome]], others: dict[str, Outcome]) -> str:
    spent = resource.getrusage(resource.RUSAGE_CHILDREN)
    kinds = list(KINDS)
    rows = [
        f"| {stage} | {' | '.join(_cell(of_stage.get(kind)) for kind in kinds)} |"
        for stage, of_stage in found.items()
    ]
    total = [sum((of[kind] for of in found.values() if kind in of), Outcome()) for kind in kinds]
    lines = [
        _HEAD.format(
            date=date.today(),
            cores=f"{len(os.sched_getaffinity(0))} cores ({platform.machine()})",
            minutes=f"{(spent.ru_utime + spent.ru_stime) / 60:.0f}",
        ),
        f"| stage | {' | '.join(kinds)} |\n|---{'|---' * len(kinds)}|",
        *rows,
        f"| all | {' | '.join(map(_cell, total))} |",
        _KINDS,
        "| accident | survived / trials | most stages repeated by a rerun |\n|---|---|---|",
        *(f"| {kind} | {_cell(of)} | {of.repeated} |" for kind, of in others.items()),
    ]
    return "\n".join(lines) + "\n"


def _cell(outcome: Outcome | None) -> str:
    return "–" if outcome is None else f"{outcome.trials - outcome.failed} / {outcome.trials}"


if __name__ == "__main__":
    main()
