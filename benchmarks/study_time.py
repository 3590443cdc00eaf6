"""How long a whole study takes: by the clock, of the processor, and at its peak of memory.

    python benchmarks/study_time.py DATA [--out benchmarks/results/study_time.md] [OPTION …]

DATA is run four times, each into a new folder: on one core (``--threads 1``), on all, on all beside
one other busy process, and on all with ``--quick``. Further options go to ``cytolens run``. CPU
seconds count all processes of a study; the peak is that of its first, which is the largest.
"""

import argparse
import os
import platform
import subprocess
import sys
import tempfile
import time
from datetime import date
from pathlib import Path

from cytolens.study.finished_run import open_run

BESIDE = "all cores, beside one busy process"
WAYS = {
    "one core": ["--threads", "1"],
    "all cores": [],
    BESIDE: [],
    "all cores, `--quick`": ["--quick"],
}
BUSY = "while True: pass"


def main() -> None:
    """Run, and write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("--out", type=Path)
    asked, options = parser.parse_known_args()
    load = os.getloadavg()[0]
    rows, stages = [], {}
    with tempfile.TemporaryDirectory() as folder:
        for number, (name, way) in enumerate(WAYS.items()):
            run = Path(folder) / str(number)
            other = subprocess.Popen([sys.executable, "-c", BUSY]) if name == BESIDE else None
            try:
                seconds, spent, peak = timed(asked.data, run, [*way, *options])
            finally:
                if other is not None:
                    other.kill()
            rows.append(f"| {name} | {seconds:.0f} | {spent:.0f} | {peak:.2f} |")
            stages[name] = open_run(run).folder.timings
    lines = [
        "# How long a study takes",
        f"`python benchmarks/study_time.py {asked.data.name} {' '.join(options)}`, {date.today()}, "
        f"{len(os.sched_getaffinity(0))} cores ({platform.machine()}), load before it {load:.1f}; "
        "one run each.\n",
        "| | s by the clock | CPU s | GB at the peak of its first process |\n|---|---|---|---|",
        *rows,
        "\nSeconds of each stage by the clock, from 0.5 s:\n",
        f"| stage | {' | '.join(WAYS)} |\n|---{'|---' * len(WAYS)}|",
    ]
    longest = sorted(stages["one core"], key=lambda stage: -stages["one core"][stage])
    for stage in longest:
        each = [found.get(stage, 0.0) for found in stages.values()]
        if max(each) >= 0.5:
            lines.append(f"| {stage} | {' | '.join(f'{one:.1f}' for one in each)} |")
    text = "\n".join(lines) + "\n"
    print(text)
    if asked.out is not None:
        asked.out.write_text(text)


def timed(data: Path, run: Path, options: list[str]) -> tuple[float, float, float]:
    """Seconds by the clock and of the processor, and GB, of one study."""
    command = [sys.executable, "-m", "cytolens", "run", str(data), "--out", str(run), *options]
    environment = {key: v for key, v in os.environ.items() if key != "OMP_NUM_THREADS"}
    started = time.perf_counter()
    study = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL)
    _, status, used = os.wait4(study.pid, 0)
    if status:
        sys.exit(f"the study ended with {os.waitstatus_to_exitcode(status)}")
    seconds = time.perf_counter() - started
    return seconds, used.ru_utime + used.ru_stime, used.ru_maxrss / 1e6


if __name__ == "__main__":
    main()
