"""What it costs to have the parts of a study made by other processes, and whether bytes differ.

    python benchmarks/cluster.py DATA [--cells 20000] [--quick] [--folds none] [--begun RUN]
        [--stages activations untrained] [--turns 3]

A run is begun on DATA (or was, in RUN), and copied for every way: all stages with parts, or those
named, made by one process, by one while the same is made beside it, by workers of Dask, and with a
worker that is killed. Each way is a process of its own; CPU seconds count it and all that it has
started, and are the median over turns in which the ways follow each other.
"""

import argparse
import filecmp
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from datetime import date
from pathlib import Path
from statistics import median

import psutil

from cytolens.machines.dask_workers import workers
from cytolens.study.parts import PartTask, Workers
from cytolens.study.settings import StudySettings
from cytolens.study.stage import SOURCES, table
from cytolens.study.study import Study

QUICK = {"quick": True, "gallery": 8, "pairs": 4, "methods": ["tsne", "pca"]}
STAGES = [name for name, stage in table().items() if stage.has_parts]
WAYS = {
    "one process": ["here"],
    "one beside another": ["here", "--beside"],
    "1 worker": ["local:1"],
    "2 workers": ["local:2"],
    "8 workers": ["local:8"],
    "2 workers, one killed": ["local:2", "--kill"],
}
NOTHING = 200  # tasks that do nothing
START = "start"
SPENT = "cpu.json"


def main() -> None:
    """Run, and write the table; or be one of the ways."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("--cells", type=int, default=20_000)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--folds", default="3")
    parser.add_argument("--begun", type=Path)
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=list(WAYS))
    parser.add_argument("--stages", nargs="+", choices=STAGES, default=STAGES)
    parser.add_argument("--turns", type=int, default=1)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--way")
    parser.add_argument("--kill", action="store_true")
    parser.add_argument("--beside", action="store_true")
    asked = parser.parse_args()
    if asked.way is not None:
        make(asked.data, asked.way, asked.stages, kill=asked.kill)
        return
    load = os.getloadavg()[0]
    with tempfile.TemporaryDirectory() as folder:
        begun = asked.begun or Path(folder) / "begun"
        if not begun.exists():
            more = QUICK if asked.quick else {}
            settings = StudySettings(
                **more, threads=1, folds=asked.folds, epochs=6, limit=asked.cells
            )
            Study(begun, asked.data, settings).make("layers", "properties", "together")
        turns: dict[str, list[dict[str, float]]] = {name: [] for name in asked.ways}
        clocks: dict[str, list[float]] = {name: [] for name in asked.ways}
        alike: dict[str, str] = {}
        for _ in range(asked.turns):
            for name in asked.ways:
                run = Path(folder) / name
                shutil.rmtree(run, ignore_errors=True)
                shutil.copytree(begun, run)
                clocks[name].append(timed(run, [*WAYS[name], "--stages", *asked.stages]))
                turns[name].append(json.loads((run / SPENT).read_text()))
                unlike = differing(Path(folder) / asked.ways[0], run)
                alike[name] = "the same" if not unlike else f"not the same: {', '.join(unlike)}"
                print(name, turns[name][-1], clocks[name][-1], alike[name], flush=True)
        spent = {
            name: {stage: median(turn[stage] for turn in found) for stage in found[0]}
            for name, found in turns.items()
        }
        notes = {name: f"{median(clocks[name]):.0f} | {alike[name]}" for name in turns}
    each = engine()  # at the end: Dask leaves settings of memory in the environment
    lines = [
        f"`python benchmarks/cluster.py {asked.data.name} --cells {asked.cells}"
        f"{' --quick' * asked.quick} --folds {asked.folds} --turns {asked.turns}`, "
        f"{date.today()}, {len(os.sched_getaffinity(0))} cores ({platform.machine()}) that "
        f"others used, too (load {load:.0f} before, {os.getloadavg()[0]:.0f} after). CPU seconds "
        "by stage, the median over the turns. A task of Dask that does nothing takes "
        f"{1000 * each:.1f} ms by the clock.\n",
        *as_table(spent, notes),
    ]
    print("\n".join(lines))
    if asked.out is not None:
        asked.out.write_text("\n".join(lines) + "\n")


def as_table(spent: dict[str, dict[str, float]], notes: dict[str, str]) -> list[str]:
    """A column per way."""
    stages = [stage for stage in next(iter(spent.values())) if stage != START]
    one = sum(next(iter(spent.values()))[stage] for stage in stages)
    lines = [f"| | {' | '.join(spent)} |", f"|---|{'---|' * len(spent)}"]
    for stage in (START, *stages):
        found = " | ".join(f"{by_stage[stage]:.1f}" for by_stage in spent.values())
        lines.append(f"| {'starting processes' if stage == START else stage} | {found} |")
    totals = [sum(by_stage[stage] for stage in stages) for by_stage in spent.values()]
    lines += [
        f"| all stages | {' | '.join(f'{total:.1f}' for total in totals)} |",
        f"| more than the first | {' | '.join(f'{total / one - 1:+.0%}' for total in totals)} |",
    ]
    for row, what in enumerate(("s by the clock, all", "bytes")):
        lines.append(f"| {what} | {' | '.join(n.split(' | ')[row] for n in notes.values())} |")
    return lines


def timed(run: Path, options: list[str]) -> float:
    """Seconds by the clock of a way, in a process of its own."""
    way, *more = options
    beside = None
    if "--beside" in more:
        copy = Path(shutil.copytree(run, run.with_name("beside")))
        same = [option for option in more if option != "--beside"]
        beside = subprocess.Popen([sys.executable, __file__, copy, "--way", way, *same])
    began = time.perf_counter()
    subprocess.run([sys.executable, __file__, run, "--way", way, *more], check=True)
    clock = time.perf_counter() - began
    if beside is not None:
        beside.kill()
        beside.wait()
        shutil.rmtree(run.with_name("beside"))
    return clock


def make(run: Path, way: str, stages: list[str], *, kill: bool) -> None:
    """Make the stages in the way named; what they rest on is made by this process, not counted."""
    study, spent = Study(run), {}
    with ExitStack() as stack:
        before = cpu_so_far()
        made = None if way == "here" else stack.enter_context(workers(way))
        spent[START] = cpu_so_far() - before
        for stage in stages:
            study.workers = None
            study.make(*[need for need in table()[stage].needs if need not in SOURCES])
            before = cpu_so_far()
            study.workers = killing(made) if made and kill and stage == stages[0] else made
            study.make(stage)
            spent[stage] = cpu_so_far() - before
    (run / SPENT).write_text(json.dumps(spent))


def cpu_so_far() -> float:
    """CPU seconds of this process and of those that it has started."""
    every = [psutil.Process(), *psutil.Process().children(recursive=True)]
    return sum(sum(one.cpu_times()[:4]) for one in every)


def killing(made: Workers) -> Workers:
    """The same workers, one of which is killed after the first part of all."""
    left = [1]

    def make(tasks: Sequence[PartTask]) -> Iterator[int]:
        for done in made(tasks):
            left[0] -= 1
            if left[0] == 0:
                own = psutil.Process()
                worker = next(one for one in own.children(recursive=True) if one.parent() != own)
                worker.kill()
                print(f"killed process {worker.pid}", flush=True)
            yield done

    return make


def differing(one: Path, other: Path) -> list[str]:
    """Files that are not alike in two runs, but for the record, the lock and the log."""
    names = {
        str(path.relative_to(run))
        for run in (one, other)
        for path in run.rglob("*")
        if path.is_file() and path.name not in ("run.json", ".lock", "log.txt", SPENT)
    }
    _, unlike, missing = filecmp.cmpfiles(one, other, sorted(names), shallow=False)
    return sorted([*unlike, *missing])


def engine() -> float:
    """Seconds of a task of nothing."""
    from distributed import Client, LocalCluster

    with (
        LocalCluster(n_workers=1, threads_per_worker=1, dashboard_address="127.0.0.1:0") as cluster,
        Client(cluster) as client,
    ):
        client.gather(client.map(abs, range(10), pure=False))
        began = time.perf_counter()
        client.gather(client.map(abs, range(NOTHING), pure=False))
        return (time.perf_counter() - began) / NOTHING


if __name__ == "__main__":
    main()
