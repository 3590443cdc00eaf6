"""How fast the cells of an Amnis file are read, and how much memory it takes.

A file of many cells is made by repeating the streams of a real one, so that every picture has the
statistics of real pixels.

    python benchmarks/cif_speed.py --cif example.cif --cells 30000
"""

import argparse
import os
import resource
import sys
import time
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parent.parent / "tests" / "images"))

from made_cif import ASCII, LONG, SHORT, Writer, description

from cytolens.images.amnis_cif import CifCrops, index_cif


def make(real: Path, path: Path, n: int) -> None:
    """A CIF of ``n`` cells, those of the real one again and again."""
    index, content, writer = index_cif(real), real.read_bytes(), Writer()
    about = description(len(index.channel_names)).encode() + b"\0"
    writer.add({256: (LONG, 1), 257: (LONG, 1), 259: (SHORT, 1), 33027: (ASCII, about)})
    for i in range(n):
        start, length, height, width = index.pictures[i % len(index.pictures)].tolist()
        writer.strip(30817, (height, width), content[start : start + length], number=i)
        start, length = index.masks[i % len(index.masks)].tolist()
        writer.strip(30818, (height, width), content[start : start + length])
    path.write_bytes(writer.content)


def measure(path: Path, megabytes: float) -> str:
    """A line of a table."""
    started = time.process_time()
    index = index_cif(path)
    indexed = time.process_time() - started
    crops, n = CifCrops(path, index), len(index.objects)
    rates: list[float] = []
    for load in (crops.load, crops.load_masks):
        started = time.process_time()
        for start in range(0, n, crops.batch):
            load(np.arange(start, min(start + crops.batch, n)))
        rates.append(n / (time.process_time() - started))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return (
        f"| {n:,} | {len(index.channel_names)} | {megabytes:.0f} MB | {1e6 * indexed / n:.0f} µs "
        f"| {rates[0]:,.0f} | {rates[1]:,.0f} | {peak:.0f} MB |"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cif", type=Path, required=True, help="a real file")
    parser.add_argument("--cells", type=int, default=30_000)
    parser.add_argument("--room", type=Path, default=Path("/tmp"))
    parser.add_argument("--result", type=Path)
    chosen = parser.parse_args()
    path = chosen.room / "many.cif"
    if os.fork() == 0:  # so that making the file does not count
        make(chosen.cif, path, chosen.cells)
        os._exit(0)
    os.wait()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    text = (
        "# Reading an Amnis file\n\nMade by `benchmarks/cif_speed.py` (2 virtual cores, AMD EPYC, "
        "one thread, CPU time), with the streams of a real file. Memory is the peak, "
        f"the process took {before:.0f} MB before.\n\n"
        "| cells | image channels | file | index, per cell | pictures, cells/s | masks, cells/s "
        "| memory |\n|---|---|---|---|---|---|---|\n"
    ) + measure(path, path.stat().st_size / 1e6)
    path.unlink()
    print(text)
    if chosen.result is not None:
        chosen.result.write_text(text + "\n")


if __name__ == "__main__":
    main()
