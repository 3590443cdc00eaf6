"""What it costs to have the parts of a study made by other processes, and whether bytes differ.

    python benchmarks/cluster.py DATA [--cells 20000] [--out benchmarks/results/cluster.md]

A run is begun on DATA (cells, classifier, layers) and copied for every way: the stages with parts
made by one process, by workers of Dask, with a worker that is killed, and by jobs of an array. Each
way is a process of its own; CPU seconds count it and all that it has started.
"""

import argparse
import filecmp
import os
import platform
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from datetime import date
from pathlib import Path

from cytolens.machines.dask_workers import workers
from cytolens.store.run_folder import open_run
from cytolens.study.parts import PartTask
from cytolens.study.settings import StudySettings
from cytolens.study.stage import SOURCES, table
from cytolens.study.study import Study

SETTINGS = {
    "quick": True, "gallery": 8, "pairs": 4, "threads": 1, "methods": ["tsne", "pca"],
}  # fmt: skip
STAGES = ("activations", "ranking", "maps", "features", "contrasts", "faithfulness")
WAYS = {
    "one process": [],
    "2 workers": ["local:2"],
    "8 workers": ["local:8"],
    "2 workers, one killed": ["local:2", "--kill"],
    "array of 2 jobs": ["array"],
}
NOTHING = 200  # tasks that do nothing


def main() -> None:
    """Run, and write the table; or be one of the ways."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("--cells", type=int, default=20_000)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--way")
    parser.add_argument("--kill", action="store_true")
    asked = parser.parse_args()
    if asked.way is not None:
        make(asked.data, asked.way, kill=asked.kill)
        return
    load = os.getloadavg()[0]
    seconds: dict[str, dict[str, float]] = {}
    rows: list[str] = []
    with tempfile.TemporaryDirectory() as folder:
        first = Path(folder) / "begun"
        study = Study(first, asked.data, StudySettings(**SETTINGS, limit=asked.cells))
        study.make("layers", "properties", "together")
        one = 0.0
        for number, (name, options) in enumerate(WAYS.items()):
            run = Path(folder) / str(number)
            shutil.copytree(first, run)
            if number == 0:
                reference = run
            clock, spent = timed(run, options)
            one = one or spent
            seconds[name] = open_run(run).timings
            unlike = differing(reference, run)
            same = "the same" if not unlike else f"not the same: {', '.join(unlike)}"
            rows.append(f"| {name} | {clock:.0f} | {spent:.0f} | {spent / one:.2f} | {same} |")
            print(rows[-1], flush=True)
            if number:
                shutil.rmtree(run)
    start, each = engine()
    lines = [
        "# Parts made by other processes",
        f"`python benchmarks/cluster.py {asked.data.name} --cells {asked.cells}`, {date.today()}, "
        f"{len(os.sched_getaffinity(0))} cores ({platform.machine()}) that others used, too (load "
        f"before it {load:.1f}), so compare CPU seconds; one run each.\n",
        "| | s by the clock | CPU s | CPU / one process | bytes |\n|---|---|---|---|---|",
        *rows,
        f"\nA worker takes {start:.1f} CPU s to start and to load what parts need, an empty task "
        f"{1000 * each:.1f} ms by the clock. Seconds of each stage by the clock:\n",
        f"| stage | {' | '.join(WAYS)} |\n|---{'|---' * len(WAYS)}|",
    ]
    for stage in STAGES:
        each_way = [found[stage] for found in seconds.values()]
        lines.append(f"| {stage} | {' | '.join(f'{one:.1f}' for one in each_way)} |")
    text = "\n".join(lines) + "\n"
    print(text)
    if asked.out is not None:
        asked.out.write_text(text)


def timed(run: Path, options: list[str]) -> tuple[float, float]:
    """Seconds by the clock and of the processor of a way, in a process of its own."""
    way, *more = options or ["here"]
    before, began = cpu_of_children(), time.perf_counter()
    subprocess.run([sys.executable, __file__, run, "--way", way, *more], check=True)
    return time.perf_counter() - began, cpu_of_children() - before


def cpu_of_children() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def make(run: Path, way: str, *, kill: bool) -> None:
    """Make the stages in the way named."""
    if way == "array":
        for stage in STAGES[:4]:
            before = [need for need in table()[stage].needs if need not in SOURCES]
            Study(run).make(*before)
            command = [sys.executable, "-m", "cytolens", "stage", stage, run]
            jobs = [subprocess.Popen([*command, "--shard", f"{k}/2"]) for k in (1, 2)]
            assert [job.wait() for job in jobs] == [0, 0]
            subprocess.run(command, check=True)
        Study(run).make(*STAGES)
        return
    study = Study(run)
    if way == "here":
        study.make(*STAGES)
        return
    with workers(way) as made:
        study.workers = killing(made) if kill else made
        study.make(*STAGES)


def killing(made):
    """The same workers, one of which is killed after the second part of all."""
    import psutil

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
        if path.is_file() and path.name not in ("run.json", ".lock", "log.txt")
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
