"""What each stage of a study costs, and how that grows with the number of cells.

    python benchmarks/size.py RUN RUN … [--out benchmarks/results/size.md]

Each RUN is a finished run that was made at once, of more and more cells of one kind; the table is
read from their logs. To make one, of simulated cells on one core:

    cytolens simulate --out cells-100000 --cells 100000
    cytolens run cells-100000/cells.npz --out run-100000 --threads 1
"""

import argparse
import math
import os
import platform
import re
from collections.abc import Sequence
from datetime import date
from pathlib import Path

from cytolens.store.log import LOG
from cytolens.store.run_folder import open_run

STAGE = re.compile(r"  (\w+), (.+): ([\d.]+) s, ([\d.]+) of the processor; ([\d.]+) GB")
TEN_MILLION = 10_000_000
AN_HOUR = 0.0893  # dollars, of a c7i.large (2 cores, 4 GiB), as we remember its list price
_LEAST = 5.0  # CPU seconds of a stage that has a line of its own


def main() -> None:
    """Read the logs, write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("runs", type=Path, nargs="+")
    parser.add_argument("--out", type=Path)
    asked = parser.parse_args()
    found = {len(open_run(run).read_cells()): run for run in asked.runs}
    counts = sorted(found)
    spent, peaks, clocks = {}, {}, {}
    for n in counts:
        stages = STAGE.findall((found[n] / LOG).read_text())
        spent[n] = {title: float(cpu) for _, title, _, cpu, _ in stages}
        clocks[n] = sum(float(clock) for _, _, clock, _, _ in stages)
        peaks[n] = max(float(peak) for *_, peak in stages)
    header = " | ".join(f"{n:,}" for n in counts)
    lines = [
        "# What a study costs, by the number of its cells",
        f"`python benchmarks/size.py`, {date.today()}, {platform.machine()}, "
        f"{os.cpu_count()} cores, studies on one of them beside other work. CPU seconds by stage; "
        f"the exponent is of n between {counts[-2]:,} and {counts[-1]:,} cells.\n",
        f"| stage | {header} | exponent | {TEN_MILLION:,}, extrapolated |",
        f"|---{'|---' * (len(counts) + 2)}|",
    ]
    total_then = 0.0
    for title in sorted(spent[counts[-1]], key=lambda title: -spent[counts[-1]][title]):
        each = [spent[n].get(title, 0.0) for n in counts]
        power = exponent(counts[-2:], each[-2:])
        then = each[-1] * (TEN_MILLION / counts[-1]) ** max(power, 0)
        total_then += then
        if max(each) >= _LEAST:
            cells = " | ".join(f"{one:.1f}" for one in each)
            lines.append(f"| {title} | {cells} | {power:.2f} | {then:,.0f} |")
    totals = [sum(spent[n].values()) for n in counts]
    power = exponent(counts[-2:], totals[-2:])
    sums = " | ".join(f"{one:.0f}" for one in totals)
    lines.append(f"| **all** | {sums} | {power:.2f} | {total_then:,.0f} |")
    lines.append(f"| by the clock (s) | {' | '.join(f'{clocks[n]:.0f}' for n in counts)} | | |")
    lines.append(
        f"| memory at the peak (GB) | {' | '.join(f'{peaks[n]:.2f}' for n in counts)} | | |"
    )
    disk = [sum(f.stat().st_size for f in found[n].rglob("*") if f.is_file()) / 1e9 for n in counts]
    grown = disk[-1] * TEN_MILLION / counts[-1]
    cells = " | ".join(f"{one:.2f}" for one in disk)
    lines.append(f"| the run on the disk (GB) | {cells} | | {grown:.0f} |")
    hours = total_then / 3600
    lines.append(
        f"\n{TEN_MILLION:,} cells, extrapolated: {hours:.1f} hours of one core, "
        f"{hours * AN_HOUR:.2f} $ at {AN_HOUR} $ an hour (a c7i.large; the price was not looked "
        f"up), {grown:.0f} GB of disk beside the data."
    )
    text = "\n".join(lines) + "\n"
    print(text)
    if asked.out is not None:
        asked.out.write_text(text)


def exponent(counts: Sequence[int], seconds: Sequence[float]) -> float:
    """Of n in what it takes."""
    if min(seconds) <= 0.05:
        return 0.0
    return math.log(seconds[1] / seconds[0]) / math.log(counts[1] / counts[0])


if __name__ == "__main__":
    main()
