"""What it costs to have the parts of a study made by other processes, and whether bytes differ.

    python benchmarks/cluster.py DATA [--cells 20000] [--begun RUN] [--out FILE]

A run is begun on DATA (or was, in RUN), and copied for every way: the stages with parts made by one
process, by workers of Dask, and with a worker that is killed. Each way is a process of its own; CPU
seconds count it and all that it has started.
"""

import argparse
import filecmp
import json
import os
import platform
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from datetime import date
from pathlib import Path

import psutil

from cytolens.machines.dask_workers import workers
from cytolens.study.parts import PartTask
from cytolens.study.settings import StudySettings
from cytolens.study.stage import SOURCES, table
from cytolens.study.study import Study

SETTINGS = {
    "quick": True, "gallery": 8, "pairs": 4, "threads": 1, "methods": ["tsne", "pca"],
}  # fmt: skip
STAGES = ("activations", "features")
WAYS = {
    "one process": ["here"],
    "2 workers": ["local:2"],
    "8 workers": ["local:8"],
    "2 workers, one killed": ["local:2", "--kill"],
}
NOTHING = 200  # tasks that do nothing
SPENT = "cpu.json"


def main() -> None:
    """Run, and write the table; or be one of the ways."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("--cells", type=int, default=20_000)
    parser.add_argument("--begun", type=Path)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--way")
    parser.add_argument("--kill", action="store_true")
    asked = parser.parse_args()
    if asked.way is not None:
        make(asked.data, asked.way, kill=asked.kill)
        return
    load = os.getloadavg()[0]
    start, each = engine()
    rows: list[str] = []
    one = 0.0
    with tempfile.TemporaryDirectory() as folder:
        begun = asked.begun or Path(folder) / "begun"
        if asked.begun is None:
            settings = StudySettings(**SETTINGS, limit=asked.cells)
            Study(begun, asked.data, settings).make("layers", "properties", "together")
        for number, (name, options) in enumerate(WAYS.items()):
            run = Path(folder) / str(number)
            shutil.copytree(begun, run)
            clock, spent = timed(run, options)
            one = one or spent
            unlike = differing(Path(folder) / "0", run)
            same = "the same" if not unlike else f"not the same: {', '.join(unlike)}"
            stages = json.loads((run / SPENT).read_text())
            by_stage = " | ".join(f"{stages[stage]:.1f}" for stage in STAGES)
            rows.append(f"| {name} | {clock:.0f} | {spent:.0f} | {by_stage} | {same} |")
            lines = [
                "# Parts made by other processes",
                f"`python benchmarks/cluster.py {asked.data.name} --cells {asked.cells}`, "
                f"{date.today()}, {len(os.sched_getaffinity(0))} cores ({platform.machine()}) that "
                f"others used, too (load {load:.0f} before, {os.getloadavg()[0]:.0f} after): "
                "compare CPU seconds, which are too many then, not the clock. One run each.\n",
                f"| | s by the clock | CPU s | {' | '.join(STAGES)} / CPU s | bytes |",
                f"|---|---|---|{'---|' * len(STAGES)}---|",
                *rows,
                f"\nA process takes {start:.1f} CPU s to start and to load what parts need. A task "
                f"of Dask that does nothing takes {1000 * each:.1f} ms by the clock.",
            ]
            print(rows[-1], flush=True)
            if asked.out is not None:
                asked.out.write_text("\n".join(lines) + "\n")


def timed(run: Path, options: list[str]) -> tuple[float, float]:
    """Seconds by the clock and of the processor of a way, in a process of its own."""
    way, *more = options
    before, began = cpu_of_children(), time.perf_counter()
    subprocess.run([sys.executable, __file__, run, "--way", way, *more], check=True)
    return time.perf_counter() - began, cpu_of_children() - before


def cpu_of_children() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def make(run: Path, way: str, *, kill: bool) -> None:
    """Make the stages in the way named."""
    study, spent = Study(run), {}
    with ExitStack() as stack:
        if way != "here":
            made = stack.enter_context(workers(way))
        for stage in STAGES:
            study.workers = None
            study.make(*[need for need in table()[stage].needs if need not in SOURCES])
            before = cpu_so_far()
            if way != "here":
                study.workers = killing(made) if kill and stage == "activations" else made
            study.make(stage)
            spent[stage] = cpu_so_far() - before
    (run / SPENT).write_text(json.dumps(spent))


def cpu_so_far() -> float:
    """CPU seconds of this process and of those that it has started."""
    every = [psutil.Process(), *psutil.Process().children(recursive=True)]
    return cpu_of_children() + sum(sum(one.cpu_times()[:2]) for one in every)


def killing(made):
    """The same workers, one of which is killed after the second part of all."""
    left = [2]

    def make(tasks: Sequence[PartTask]) -> Iterator[int]:
        for done in made(tasks):
            left[0] -= 1
            if left[0] == 0:
                every = psutil.Process().children(recursive=True)
                busy = [one for one in every if "spawn_main" in " ".join(one.cmdline())]
                busy[0].kill()
                print(f"killed process {busy[0].pid}", flush=True)
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


def engine() -> tuple[float, float]:
    """CPU seconds of a worker that loads what parts need, and seconds of a task of nothing."""
    from distributed import Client, LocalCluster

    loaded = "import cytolens.study.apart, cytolens.activations.extraction, faiss, sklearn.cluster"
    before = cpu_of_children()
    subprocess.run([sys.executable, "-c", f"import distributed; {loaded}"], check=True)
    start = cpu_of_children() - before
    with (
        LocalCluster(n_workers=1, threads_per_worker=1, dashboard_address="127.0.0.1:0") as cluster,
        Client(cluster) as client,
    ):
        client.gather(client.map(abs, range(10), pure=False))
        began = time.perf_counter()
        client.gather(client.map(abs, range(NOTHING), pure=False))
        return start, (time.perf_counter() - began) / NOTHING


if __name__ == "__main__":
    main()
