"""Do edits of cells find the twin without a planted feature, and is what was planted named first?

python benchmarks/planted_twins.py [--seeds 3] [--networks 1] [--cells 500] [--work FOLDER]

Four kinds of plants at three contrasts. Each case: cells with the plant and the same cells without
it, networks trained to distinguish them, two judges of other seeds and halves. Planted held-out
cells are edited until the network sees no more of the plant than in the twin, which is the truth;
the first judge chooses between the two ways. In real pairs of training cells, of which no twins are
among one another, measured properties are named; the truth is the property that the plant shifts
most in the twins. One row a case and network is written to cases.jsonl in ``--work`` as it is
found, and what is there is not measured again. CPU seconds, one thread.
"""

import argparse
import json
import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from cytolens.classifier.training import TrainingSettings, train
from cytolens.features.contrast.edited import FILLED, SPARSE
from cytolens.numerics.estimates import bootstrap
from cytolens.numerics.intervals import ANYTHING, SHARE
from cytolens.simulation.simulate import Plant
from cytolens.validation.planting import plant_pairs
from cytolens.validation.suite import KINDS
from cytolens.validation.twins import measure_twins

CONTRASTS = (1.0, 0.7, 0.5)  # of the plant's usual contrast
WAYS = (SPARSE, FILLED)
NEARLY = 0.75  # of the plant's largest shift: naming that property first is nearly as good
Row = dict[str, Any]


def case(kind: str, contrast: float, seed: int, *, n: int, networks: int, epochs: int) -> list[Row]:
    """What came out for each network of one case."""
    plain = Plant(kind=kind)
    pairs = plant_pairs(n, replace(plain, contrast=contrast * plain.peak), rng=seed)
    rows: list[Row] = []
    for number in range(networks):
        spent = time.process_time()
        model = train(
            pairs.cells,
            split=pairs.split,
            settings=TrainingSettings(epochs=epochs, patience=epochs),
            rng=seed + 50 * number,
        ).model
        found = measure_twins(pairs, model, epochs=epochs, rng=seed)
        ways = {
            way: {name: np.median(values, axis=0).tolist() for name, values in asdict(one).items()}
            for way, one in found.ways.items()
        }
        rows.append(
            {
                "kind": kind,
                "contrast": contrast,
                "seed": seed,
                "network": number,
                "accuracy": found.accuracy,
                "truth": dict(found.truth),
                "named": dict(found.named),
                "share of first": found.share_of_first,
                "way": found.way,
                "ways": ways,
                "cpu_s": time.process_time() - spent,
            }
        )
    return rows


def table(rows: list[Row], *, seconds: float) -> str:
    """The results, by plant and contrast, and over all cases."""
    lines = [
        "# Planted twins",
        "",
        "`python benchmarks/planted_twins.py`, 2 virtual cores (AMD EPYC), one thread, "
        f"{seconds / 60:.0f} CPU minutes. A case is a plant, a contrast and a seed of the cells.",
        "",
        "Medians over cells, then means over cases and networks; intervals at 95 % over cases. "
        "Cosine of the edit with the true change, share of it within 2 px of the plant, its sum of "
        "absolute values over the truth's; share of the truth's effect on the network and on the "
        "judge that had no part in choosing the way. Named first: real pairs name that measured "
        "property first which the plant shifts most; nearly: one that it shifts at least "
        f"{NEARLY:g} as much.",
        "",
        "| plant | contrast | networks | accuracy | way | cosine | inside | L1 | network | judge | "
        "named first | nearly | shifted most |",
        "|---|---|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for kind in dict.fromkeys(row["kind"] for row in rows):
        of_kind = [row for row in rows if row["kind"] == kind]
        for contrast in sorted({row["contrast"] for row in of_kind}, reverse=True):
            some = [row for row in of_kind if row["contrast"] == contrast]
            lines.append(_line(kind, f"{contrast:g}", some))
    lines.append(_line("all", "", rows, intervals=True))
    return "\n".join(lines) + "\n"


def _line(kind: str, contrast: str, rows: list[Row], *, intervals: bool = False) -> str:
    found = [row["ways"].get(row["way"], {}) for row in rows]
    groups = np.array([f"{row['kind']} {row['contrast']} {row['seed']}" for row in rows])

    def mean(values: list[float], *, share: bool = False) -> str:
        array = np.array(values, dtype=np.float64)
        known = np.isfinite(array)
        if not known.any():
            return "–"
        if not intervals:
            return f"{array[known].mean():.2f}"
        some, of = array[known], groups[known]
        e = bootstrap(
            lambda k: float(some[k].mean()), len(some), groups=of, resamples=1000, rng=0,
            within=SHARE if share else ANYTHING,
        )  # fmt: skip
        return f"{e.value:.2f} [{e.low:.2f}, {e.high:.2f}]"

    numbers = [
        mean([one.get(name, np.nan) for one in found])
        for name in ("cosine", "inside", "size", "own")
    ]
    last = mean([one["judged"][-1] if one else np.nan for one in found])
    ways = [row["way"] for row in rows]
    way = ", ".join(f"{way} {ways.count(way)}" for way in WAYS if way in ways) or "–"
    truths = [next(iter(row["truth"])) for row in rows]
    cells = [
        kind, contrast, str(len(rows)), mean([row["accuracy"] for row in rows], share=True), way,
        *numbers, last,
        mean([float(row["share of first"] == 1) for row in rows], share=True),
        mean([float(row["share of first"] >= NEARLY) for row in rows], share=True),
        "" if intervals else max(set(truths), key=truths.count).replace("_", " "),
    ]  # fmt: skip
    return "| " + " | ".join(cells) + " |"


def write(rows: list[Row], out: Path) -> None:
    out.mkdir(parents=True, exist_ok=True)
    text = table(rows, seconds=sum(row["cpu_s"] for row in rows))
    (out / "planted_twins.md").write_text(text)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--networks", type=int, default=1)
    parser.add_argument("--cells", type=int, default=500)
    parser.add_argument("--epochs", type=int, default=16)
    parser.add_argument("--most", type=int, default=1000, help="cases, at most")
    parser.add_argument("--work", type=Path, default=Path("/tmp/planted_twins"))
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"))
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    arguments.work.mkdir(parents=True, exist_ok=True)
    kept = arguments.work / "cases.jsonl"
    rows: list[Row] = (
        [json.loads(line) for line in kept.read_text().splitlines()] if kept.exists() else []
    )
    done = {(row["kind"], row["contrast"], row["seed"]) for row in rows}
    cases = [(k, c, s) for s in range(arguments.seeds) for c in CONTRASTS for k in KINDS]
    for kind, contrast, seed in [one for one in cases if one not in done][: arguments.most]:
        found = case(
            kind, contrast, seed,
            n=arguments.cells, networks=arguments.networks, epochs=arguments.epochs,
        )  # fmt: skip
        rows += found
        with kept.open("a") as file:
            file.writelines(json.dumps(row) + "\n" for row in found)
        write(rows, arguments.out)
        print(kind, contrast, seed, [round(row["cpu_s"]) for row in found], flush=True)
    write(rows, arguments.out)


if __name__ == "__main__":
    main()
