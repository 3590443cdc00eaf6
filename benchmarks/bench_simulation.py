"""Cells per second that `simulate` makes on one core; the project asks for 500 at 48 px."""

import os
import platform
import statistics
import time
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

from cytolens.simulation.simulate import Plant, simulate  # after the threads are set

REPEATS = 5
CELLS = 1024


def processor() -> str:
    """The processor's name, where the system tells it."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def main() -> None:
    print(f"{processor()}, {os.cpu_count()} cores, {platform.system()}; one thread")
    simulate(64, rng=0)  # warm-up: tables, FFT plans
    for size, plant in ((48, None), (48, Plant("granule")), (64, None)):
        wall: list[float] = []
        cpu: list[float] = []
        for repeat in range(REPEATS):
            started, spent = time.perf_counter(), time.process_time()
            simulate(CELLS, size=size, plant=plant, rng=repeat)
            wall.append(time.perf_counter() - started)
            cpu.append(time.process_time() - spent)
        told = "no plant" if plant is None else plant.kind
        print(
            f"simulate {size} px, {told}: {CELLS / statistics.median(wall):.0f} cells/s by the "
            f"clock, {CELLS / statistics.median(cpu):.0f} cells per CPU second "
            f"(median of {REPEATS} × {CELLS})"
        )


if __name__ == "__main__":
    main()
