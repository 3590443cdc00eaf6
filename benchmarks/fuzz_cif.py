"""Throws broken Amnis files at the reader: it may refuse them, and nothing else.

With atheris (``pip install atheris``) the bytes are chosen by what they reach in the reader's code,
and the file's own fields are set to extreme values; without it, or with ``--mutate``, at random
from a seed. An input counts as a fault where anything but InputError is raised, where it takes more
than a second, or more memory than the limit, 1 GiB, leaves. It is then kept in ``--out``.

    python benchmarks/fuzz_cif.py --seconds 3600
"""

import argparse
import hashlib
import random
import resource
import struct
import sys
import time
from pathlib import Path

import numpy as np

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent / "tests" / "images"))

try:
    import atheris
except ImportError:
    atheris = None

if atheris is not None:
    with atheris.instrument_imports(include=["cytolens.images.amnis_cif"]):
        from cytolens.images import amnis_cif
else:
    from cytolens.images import amnis_cif

from made_cif import write_cif  # noqa: E402, the path is set above

from cytolens.errors import InputError  # noqa: E402, atheris first

MOST_SECONDS = 1.0
EXTREME = (0, 1, 2, 7, 8, 0x7F, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)


class Tally:
    """What came of the inputs so far."""

    def __init__(self, out: Path, room: Path) -> None:
        self.out, self.file = out, room / "fuzzed.cif"
        self.read = self.refused = self.cells = 0
        self.faults: list[str] = []
        self.slowest = 0.0

    def try_one(self, content: bytes) -> None:
        """Read a file with this content as a study would: index, crops, masks."""
        self.file.write_bytes(content)
        started = time.process_time()
        try:
            index = amnis_cif.index_cif(self.file)
            crops = amnis_cif.CifCrops(self.file, index)
            for start in range(0, len(crops), crops.batch):
                rows = np.arange(start, min(start + crops.batch, len(crops)))
                found = [*crops.load(rows), *crops.load_masks(rows)]
                self.cells += sum(not isinstance(one, InputError) for one in found)
            self.read += 1
        except InputError:
            self.refused += 1
        except BaseException as error:
            self._keep(content, f"{type(error).__name__}: {error}")
            if not isinstance(error, Exception):
                raise
        took = time.process_time() - started
        self.slowest = max(self.slowest, took)
        if took > MOST_SECONDS:
            self._keep(content, f"took {took:.1f} s")

    def _keep(self, content: bytes, what: str) -> None:
        self.out.mkdir(parents=True, exist_ok=True)
        name = hashlib.sha256(content).hexdigest()[:12]
        (self.out / f"{name}.cif").write_bytes(content)
        self.faults.append(f"{name}: {what}")
        print(self.faults[-1], flush=True)

    def report(self, how: str, seconds: float) -> str:
        """One line of Markdown's table."""
        total = self.read + self.refused + len(self.faults)
        most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        return (
            f"| {how} | {seconds:.0f} s | {total:,} | {self.refused:,} | {self.read:,} "
            f"| {len(self.faults)} | {self.slowest:.2f} s | {most:.0f} MB |"
        )


def seeds(room: Path, real: Path | None) -> list[bytes]:
    """Small files to begin with, one of them the beginning of a real one where it is given."""
    rng = np.random.default_rng(0)
    found: list[bytes] = []
    for channels, n, top in ((1, 1, 40), (3, 2, 4096), (6, 3, 65536)):
        crops = [rng.integers(0, top, (channels, 9, 7)).astype(np.uint16) for _ in range(n)]
        path = write_cif(room / "seed.cif", crops, [(c > top // 2).astype(np.uint8) for c in crops])
        found.append(path.read_bytes())
    if real is not None:
        whole = bytearray(real.read_bytes())
        index = amnis_cif.index_cif(real)
        end = int(index.pictures[3, 0])
        place = whole.rfind(struct.pack("<H", amnis_cif.PICTURES), 0, end)
        found.append(bytes(whole[: max(place, end)]))
    return found


def mutated(content: bytes, rng: random.Random) -> bytes:
    """Some bytes changed, set to extreme values, cut out, repeated or lost at the end."""
    data = bytearray(content)
    for _ in range(rng.choice((1, 1, 2, 4, 16))):
        at = rng.randrange(max(len(data) - 4, 1))
        kind = rng.randrange(6)
        if kind == 0:
            data[at] = rng.randrange(256)
        elif kind == 1:
            struct.pack_into("<I", data, at, rng.choice(EXTREME))
        elif kind == 2:
            struct.pack_into("<H", data, at, rng.choice(EXTREME) & 0xFFFF)
        elif kind == 3:
            del data[at : at + rng.randrange(1, 64)]
        elif kind == 4:
            data[at:at] = data[at : at + rng.randrange(1, 64)]
        else:
            del data[-rng.randrange(1, max(len(data) // 2, 2)) :]
        if len(data) < 16:
            return bytes(data)
    return bytes(data)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=60, help="of the processor")
    parser.add_argument("--out", type=Path, default=Path("/tmp/cif-faults"))
    parser.add_argument("--room", type=Path, default=Path("/dev/shm"), help="for the file tried")
    parser.add_argument("--real", type=Path, help="a real .cif to begin with, too")
    parser.add_argument("--mutate", action="store_true", help="without coverage")
    parser.add_argument("--result", type=Path, help="Markdown file to write")
    chosen = parser.parse_args()
    resource.setrlimit(resource.RLIMIT_AS, (1 << 33, 1 << 33))
    tally = Tally(chosen.out, chosen.room)
    begin, started = seeds(chosen.room, chosen.real), time.process_time()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

    def finish(how: str) -> None:
        line = tally.report(how, time.process_time() - started)
        print(line, flush=True)
        if chosen.result is not None:
            head = (
                "# Broken Amnis files\n\nMade by `benchmarks/fuzz_cif.py` (2 virtual cores, AMD "
                f"EPYC, one thread). Memory is the process' peak; it began at {before / 1024:.0f} "
                "MB. A fault is anything but a clear refusal, or more than a CPU second.\n\n"
                "| how | time | inputs | refused | read | faults | slowest | peak memory |\n"
                "|---|---|---|---|---|---|---|---|\n"
            )
            known = chosen.result.read_text() if chosen.result.exists() else head
            chosen.result.write_text(known + line + "\n")

    if atheris is None or chosen.mutate:
        rng = random.Random(0)
        while time.process_time() - started < chosen.seconds:
            tally.try_one(mutated(rng.choice(begin), rng))
        finish("random changes")
        return
    corpus = chosen.out / "corpus"
    corpus.mkdir(parents=True, exist_ok=True)
    for i, content in enumerate(begin):
        (corpus / f"seed_{i}").write_bytes(content)
    rng = random.Random(0)

    def one(content: bytes) -> None:
        if time.process_time() - started > chosen.seconds:
            finish("guided by coverage (atheris)")
            import os

            os._exit(0)
        tally.try_one(content)

    def mutate(content: bytes, most: int, seed: int) -> bytes:
        source = random.Random(seed)
        if source.random() < 0.5 and len(content) > 16:
            return mutated(content, source)[:most]
        return atheris.Mutate(content, most)

    limits = ["-max_len=20000", "-rss_limit_mb=4096", "-timeout=3600"]  # by the clock, which stops
    arguments = [sys.argv[0], str(corpus), f"-artifact_prefix={chosen.out}/", *limits]
    atheris.Setup(arguments, one, custom_mutator=mutate)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
