"""What a study says on one thread, by two processes, and on two threads: bytes, decisions, numbers.

    python benchmarks/threads.py DATA [OPTION=VALUE …] [--out FILE] [--runs FOLDER]

DATA is studied five times: twice on one thread; by two processes of one thread each, as small crops
are with ``--threads 2``; in one process on two threads, as large crops and networks are; and so
once more, with the network that was trained on one thread.
A decision is any text, whole number or yes or no that a stage stores: labels, parts, ranks, chosen
channels, clusters, alarms. Numbers are compared by their largest difference, relative to the
largest number of the same array.
"""

import os

os.environ.pop("OMP_NUM_THREADS", None)  # the studies say how many
os.environ["OMP_WAIT_POLICY"] = "passive"  # as the command line has it

import argparse
import json
import platform
import shutil
import sys
import tempfile
from collections.abc import Generator
from dataclasses import dataclass, fields, is_dataclass
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np

from cytolens.store.run_folder import RunFolder
from cytolens.study import team
from cytolens.study.finished_run import FinishedRun
from cytolens.study.settings import StudySettings
from cytolens.study.stage import table, upstream
from cytolens.study.study import Study

WAYS = ("one thread", "again", "two processes", "two threads", "two threads, the same network")


def main() -> None:
    """Study, compare, and write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("options", nargs="*", help="settings as JSON, e.g. epochs=4")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--runs", type=Path, help="keep the runs there, and go on with them")
    asked = parser.parse_args()
    options = {name: json.loads(value) for name, value in (o.split("=") for o in asked.options)}
    large = team.LARGE_CROPS
    runs: dict[str, FinishedRun] = {}
    with tempfile.TemporaryDirectory() as folder:
        for number, way in enumerate(WAYS):
            team.LARGE_CROPS = 0 if "threads" in way else large  # no other processes
            settings = StudySettings(threads=2 if "two" in way else 1, **options)
            place, data = (asked.runs or Path(folder)) / str(number), asked.data
            if "same" in way and not place.exists():
                shutil.copytree(place.with_name("0"), place)
                RunFolder(place).forget(*(set(table()) - {*upstream("classifier")}))
            study = Study(place, None if "same" in way else data, settings)
            if "threads" not in way:
                study.make("report")  # which all others are made for, side by side
            study.make(
                *(name for name, stage in table().items() if stage.keep and name != "report")
            )
            runs[way] = FinishedRun(place)
            print(f"{way}: {len(runs[way])} stages", file=sys.stderr, flush=True)
        text = page(runs, f"{asked.data.name} {' '.join(asked.options)}")
    print(text)
    if asked.out is not None:
        asked.out.write_text(text)


def page(runs: dict[str, FinishedRun], asked: str) -> str:
    """The table."""
    one, *others = runs
    rows, total = [], dict.fromkeys(others, 0)
    for stage in runs[one]:
        if stage != "report":
            found = {way: compared(runs[one][stage], runs[way][stage]) for way in others}
            rows.append(f"| {stage} | {' | '.join(map(str, found.values()))} |")
            total = {way: total[way] + found[way].others for way in others}
    rows.append(f"| decisions that differ | {' | '.join(map(str, total.values()))} |")
    return "\n".join([
        "# One thread and two",
        f"`python benchmarks/threads.py {asked}`, {date.today()}, {len(os.sched_getaffinity(0))} "
        f"cores ({platform.machine()}). Each against the first run on one thread: the same, or how "
        "many of the decisions differ, and the largest relative difference of a number.\n",
        f"| stage | {' | '.join(others)} |\n|---{'|---' * len(others)}|",
        *rows,
        "\nA network trained on two threads is another: training makes much of the rounding. With "
        "the same network, numbers differ as the last column says.",
        "",
    ])  # fmt: skip


@dataclass
class Comparison:
    """Of two results of a stage."""

    decisions: int = 0
    others: int = 0  # of the decisions
    largest: float = 0.0  # relative difference of a number

    def __str__(self) -> str:
        if not self.others and not self.largest:
            return "the same"
        return f"{self.others} of {self.decisions}; {self.largest:.1e}"


def compared(first: Any, second: Any) -> Comparison:
    """Leaf by leaf."""
    found = Comparison()
    one, two = (dict(leaves(value, "")) for value in (first, second))
    found.others += len(one.keys() ^ two.keys())
    for name in one.keys() & two.keys():
        a, b = one[name], two[name]
        if a.shape != b.shape or a.dtype.kind != b.dtype.kind:
            found.others += 1
        elif a.dtype.kind == "f":
            found.others += int((np.isnan(a) != np.isnan(b)).sum())
            a, b = np.nan_to_num(a), np.nan_to_num(b)
            scale = np.abs(a).max(initial=0) or 1.0
            found.largest = max(found.largest, float(np.abs(a - b).max(initial=0) / scale))
        else:
            found.decisions += a.size
            found.others += int((a != b).sum())
    return found


def leaves(value: Any, name: str) -> Generator[tuple[str, np.ndarray]]:
    """Every array and every single value of a result, by its place in it."""
    if hasattr(value, "__array__"):  # on the disk
        value = np.asarray(value)
    if is_dataclass(value) and not isinstance(value, type):
        value = {field.name: getattr(value, field.name) for field in fields(value)}
    if hasattr(value, "state_dict"):
        value = value.state_dict()
    if hasattr(value, "items"):
        for key, item in value.items():
            yield from leaves(item, f"{name}.{key}")
    elif isinstance(value, tuple | list):
        for place, item in enumerate(value):
            yield from leaves(item, f"{name}.{place}")
    elif value is not None:
        found = np.asarray(value)
        if found.dtype.kind in "fiubUS":
            yield name, found


if __name__ == "__main__":
    main()
