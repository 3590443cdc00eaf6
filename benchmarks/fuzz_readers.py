"""Mutated files through the readers: none may hang, crash, or raise an error of another kind.

    python benchmarks/fuzz_readers.py 60     # seconds for each kind of file

Real and made files are mutated in one to eight places (bits, bytes, numbers that decoders like to
trust, cuts, pieces put elsewhere) and read, each with two seconds of time. Tables are read in the
decoding process of `isolation`, since a mutated Parquet file can end the process that reads it.
"""

import io
import resource
import signal
import sqlite3
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import tifffile
from imagecodecs import png_encode
from PIL import Image

from cytolens.errors import CytolensError
from cytolens.images.array_files import find_in_npz
from cytolens.images.image_files import read_pages, read_picture
from cytolens.images.isolation import isolated
from cytolens.images.tables import columns_of, headers_of

REAL = Path(__file__).parents[2] / "shared/data/instrument_formats/ome_tiff_from_cif"
LIKED = [0, 1, 2**7, 2**8 - 1, 2**15, 2**16 - 1, 2**31 - 1, 2**32 - 1, 2**63 - 1]


class TooSlow(BaseException):
    """The reader has not answered."""


def mutated(content: bytes, rng: np.random.Generator) -> bytes:
    data = bytearray(content)
    for _ in range(rng.integers(1, 9)):
        at = int(rng.integers(0, len(data)))
        kind = rng.integers(0, 6)
        if kind == 0:
            data[at] ^= 1 << int(rng.integers(0, 8))
        elif kind == 1:
            data[at] = int(rng.integers(0, 256))
        elif kind == 2:
            size = int(rng.choice([2, 4, 8]))
            value = int(rng.choice(LIKED)) % (1 << (8 * size))
            data[at : at + size] = value.to_bytes(size, "little")
        elif kind == 3:
            digit = [i for i in range(at, min(at + 300, len(data))) if 48 <= data[i] <= 57]
            if digit:
                data[digit[0]] = 48 + int(rng.integers(0, 10))
        elif kind == 4 and rng.random() < 0.2:
            del data[at:]
            data = data or bytearray(b"x")
        else:
            other = int(rng.integers(0, len(data)))
            data[at : at + 8] = data[other : other + 8]
    return bytes(data)


def seeds() -> dict[str, tuple[list[bytes], str, Callable[[Path], object]]]:
    rng = np.random.default_rng(0)
    crop = rng.integers(0, 999, (2, 24, 22)).astype(np.uint16)
    colour = rng.integers(0, 200, (24, 22, 3)).astype(np.uint8)
    tiffs = [path.read_bytes() for path in sorted(REAL.glob("*.tif*"))[:5]]
    for options in (
        {"metadata": {"axes": "CYX"}, "ome": True},
        {"imagej": True},
        {"compression": "zlib", "tile": (16, 16)},
        {"compression": "lzw", "predictor": True},
        {"compression": "zstd", "bigtiff": True},
    ):
        file = io.BytesIO()
        tifffile.imwrite(file, crop, **options)
        tiffs.append(file.getvalue())
    for codec in ("jpeg", "webp", "jpeg2000", "png"):
        file = io.BytesIO()
        tifffile.imwrite(file, colour, photometric="rgb", compression=codec, tile=(16, 16))
        tiffs.append(file.getvalue())
    pictures = [png_encode(colour), png_encode(crop[0])]
    for kind in ("jpeg", "bmp"):
        file = io.BytesIO()
        Image.fromarray(colour).save(file, kind)
        pictures.append(file.getvalue())
    arrays = io.BytesIO()
    np.savez_compressed(arrays, images=np.stack([crop] * 12), labels=np.arange(12) % 2)
    table = pa.table({"path": ["a.png"] * 30, "label": ["a", "b"] * 15, "x": np.arange(30.0)})
    parquets: list[bytes] = []
    for packing in ("snappy", "zstd", "none"):
        sink = io.BytesIO()
        pq.write_table(table, sink, compression=packing, data_page_version="2.0")
        parquets.append(sink.getvalue())

    with tempfile.NamedTemporaryFile(suffix=".sqlite") as file:
        with closing(sqlite3.connect(file.name)) as database, database:
            database.execute("CREATE TABLE Per_Object (ImageNumber, Location_Center_X, Name TEXT)")
            rows = [(i, i * 0.5, f"cell {i}") for i in range(200)]
            database.executemany("INSERT INTO Per_Object VALUES (?, ?, ?)", rows)
        databases = [Path(file.name).read_bytes()]

    def sqlite(path: Path) -> None:
        for name in headers_of(path):
            columns_of(path, table=name)

    def stack(path: Path) -> None:
        for answer in read_pages(path, [0, 1]):
            if isinstance(answer, CytolensError):
                raise answer

    return {
        "pictures": (pictures, ".png", read_picture),
        "tiff": (tiffs, ".ome.tif", read_picture),
        "stacks": (tiffs, ".tif", stack),
        "npz": ([arrays.getvalue()], ".npz", lambda path: find_in_npz(path, None)),
        "parquet": (parquets, ".parquet", columns_of),
        "sqlite": (databases, ".sqlite", sqlite),
        "csv": ([b"path,label\n" + b"a.png,x\n" * 30], ".csv", columns_of),
    }


def give_up(*_: object) -> None:
    raise TooSlow


def main() -> None:
    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else 10
    signal.signal(signal.SIGALRM, give_up)
    rng = np.random.default_rng(int(time.time()) if len(sys.argv) > 2 else 0)
    print(
        "| files | mutated | read | refused | other errors | slow | ended the decoder | MB more |"
    )
    print("|---|---|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        for kind, (contents, ending, read) in seeds().items():
            counts: Counter[str] = Counter()
            examples: list[str] = []
            start, before = time.monotonic(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
            path = Path(folder) / f"file{ending}"
            with isolated(kind in ("parquet", "sqlite", "csv")):
                while time.monotonic() - start < seconds:
                    content = mutated(contents[rng.integers(0, len(contents))], rng)
                    path.write_bytes(content)
                    counts["all"] += 1
                    signal.setitimer(signal.ITIMER_REAL, 30 if kind == "parquet" else 2)
                    try:
                        read(path)
                        counts["read"] += 1
                    except CytolensError as error:
                        counts["refused"] += 1
                        counts["ended"] += "ends the process" in str(error)
                        counts["slow"] += "is not decoded within" in str(error)
                    except TooSlow:
                        counts["slow"] += 1
                        examples.append(f"slow, file kept: {keep(path, content)}")
                    except Exception as error:
                        counts["other"] += 1
                        examples.append(f"{type(error).__name__}: {error}; {keep(path, content)}")
                    finally:
                        signal.setitimer(signal.ITIMER_REAL, 0)
            more = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
            names = ("all", "read", "refused", "other", "slow", "ended")
            print(f"| {kind} | " + " | ".join(str(counts[n]) for n in names) + f" | {more:.0f} |")
            for example in examples[:5]:
                print(example, file=sys.stderr)


def keep(path: Path, content: bytes) -> str:
    """Where a file that was handled badly is kept."""
    kept = Path(tempfile.gettempdir()) / f"fuzz-{abs(hash(content)):x}{path.name}"
    kept.write_bytes(content)
    return str(kept)


if __name__ == "__main__":
    main()
