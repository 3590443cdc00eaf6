"""How many steps of ascent feature images take: what more of them changes, by the study's judges.

    python benchmarks/steps.py [--steps 16 --steps 32 …] [--out benchmarks/results/steps.md] RUN …

Each RUN is a finished study, which is left as it is: its feature images are made and judged again
in a copy, once for each number of steps. Shown are means over all images of whole cells.
"""

import argparse
import shutil
import tempfile
import time
from datetime import date
from pathlib import Path

import numpy as np
import torch

from cytolens.numerics.estimates import mean_of
from cytolens.records.features import Faithfulness
from cytolens.store.run_folder import RunFolder
from cytolens.study.settings import StudySettings
from cytolens.study.study import Study

SHOWN = {
    "activation_ratio": "activation, of the best cell's",
    "predictivity": "predictivity (filters)",
    "predictivity_by_wavelets": "(wavelets)",
    "start_cell": "of the start cell (filters)",
    "start_cell_by_wavelets": "(wavelets)",
    "stability": "stability",
    "naturalness": "naturalness",
    "like_start": "likeness to the start",
}


def main() -> None:
    """Make, judge, and write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("runs", type=Path, nargs="+")
    parser.add_argument("--steps", type=int, action="append")
    parser.add_argument("--out", type=Path)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    lines = [
        "# How many steps",
        f"`python benchmarks/steps.py {' '.join(run.name for run in asked.runs)}`, {date.today()}, "
        "one thread, PyTorch CPU; means over images with 95 % intervals.\n",
        f"| run | steps | images | CPU s | {' | '.join(SHOWN.values())} |",
        f"|---|---|---|---{'|---' * len(SHOWN)}|",
    ]
    for run in asked.runs:
        for steps in asked.steps or [16, 32, 64]:
            seconds, judged = judge(run, steps)
            cells = [shown(name, judged) for name in SHOWN]
            images = sum(len(one.channels) for one in judged)
            about = f"{run.name} | {steps} | {images} | {seconds:.0f}"
            lines.append(f"| {about} | {' | '.join(cells)} |")
            print(lines[-1], flush=True)
    text = "\n".join(lines) + "\n"
    if asked.out is not None:
        asked.out.write_text(text)


def judge(run: Path, steps: int) -> tuple[float, list[Faithfulness]]:
    """CPU seconds to make and judge the images of a copy of ``run``, and what was found."""
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(shutil.copytree(run, Path(folder) / run.name))
        settings = StudySettings.of_run(RunFolder(copy), steps=steps, threads=1)
        study = Study(copy, settings=settings)
        begun = time.process_time()
        study.make("faithfulness", again=True)
        return time.process_time() - begun, list(study["faithfulness"].values())


def shown(name: str, judged: list[Faithfulness]) -> str:
    """The mean of one number over all images, with its interval."""
    values = np.concatenate([one.table[name] for one in judged if name in one.table])
    found = mean_of(values[np.isfinite(values)], rng=0)
    return f"{found.value:.3f} [{found.low:.3f}, {found.high:.3f}]"


if __name__ == "__main__":
    main()
