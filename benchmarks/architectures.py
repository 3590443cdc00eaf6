"""Whole studies of eight architectures, at small size: what is asked of each is that it ends.

python benchmarks/architectures.py [--only vit] [--cells 300]

Simulated cells of 32 px; each network is trained for a few epochs on half of them and then studied
as a user's own, with every stage, few images and steps. The networks are those of the tests.
Writes results/architectures.md.
"""

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from torch import nn

from cytolens.images.reading import read_cells
from cytolens.simulation.optics import Optics
from cytolens.simulation.simulate import simulate
from cytolens.store.files import write_simulation
from cytolens.study.settings import StudySettings
from cytolens.study.study import Study

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "activations"))
from architectures import SIZE, made

STUDIED = ("resnet", "densenet", "inception", "convnext", "efficientnet", "unet", "vit", "swin")
FURTHER = ("torch-vit", "mixer", "mobilenet", "inline-vit")
SMALL = {"gallery": 2, "cards": 1, "atlas": 2, "steps": 8, "explain": 1, "permutations": 20}


def fit(network: nn.Module, data: Path, trained_on: Path, epochs: int) -> None:
    """Train on half of the cells, and write down on which."""
    cells = read_cells(data)
    half = np.random.default_rng(0).permutation(len(cells))[: len(cells) // 2]
    trained_on.write_text("\n".join(cells.names[half].tolist()))
    images = torch.from_numpy(cells.read(np.sort(half)))
    labels = torch.from_numpy(cells.labels[np.sort(half)])
    optimiser = torch.optim.AdamW(network.parameters(), lr=3e-3)
    network.train()
    for _ in range(epochs):
        for rows in torch.randperm(len(images)).split(32):
            optimiser.zero_grad()
            given = network(images[rows])
            given = given[0] if isinstance(given, tuple) else given
            nn.functional.cross_entropy(given, labels[rows]).backward()
            optimiser.step()
    network.eval()


def study_of(name: str, data: Path, out: Path, epochs: int) -> str:
    """A row of the table."""
    torch.manual_seed(0)
    network = made(name)
    fit(network, data, out / f"{name}.txt", epochs)
    start = time.process_time()
    settings = StudySettings(quick=True, trained_on=str(out / f"{name}.txt"), **SMALL)
    study = Study(out / name, data, settings, module=network)
    report = study["report"]
    spent = time.process_time() - start
    summary = json.loads((out / name / "summary.json").read_text())
    accuracy = summary["classifier"]["test"]["balanced_accuracy"]["value"]
    shown = [layer["name"] for layer in summary["layers"]]
    modulated = sum(bool(layer["modulation"]) for layer in summary["layers"])
    assert Path(report).is_file()
    return (
        f"| {name} | {len(shown)} | {shown[1]} … {shown[-3]} | {accuracy:.2f} | {modulated} | "
        f"{spent:.0f} |"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", nargs="*")
    parser.add_argument("--cells", type=int, default=300)
    parser.add_argument("--epochs", type=int, default=30)
    arguments = parser.parse_args()
    rows: list[str] = []
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder)
        optics = Optics(pixel_size_um=0.5)
        seen = simulate(arguments.cells, size=SIZE, difficulty=0.1, optics=optics, rng=0)
        data = write_simulation(out / "cells", seen)
        for name in arguments.only or (*STUDIED, *FURTHER):
            rows.append(study_of(name, data, out, arguments.epochs))
            print(rows[-1], flush=True)
    if not arguments.only:
        text = (
            "# Architectures through the whole study\n\n"
            "`python benchmarks/architectures.py`: simulated cells of 32 px, small networks of the "
            f"tests trained for {arguments.epochs} epochs on half of {arguments.cells} cells, then "
            "studied with `--quick` and few images. Every study went through all stages to a "
            "report. 2 virtual cores (AMD EPYC), one thread, beside other jobs.\n\n"
            "| network | layers | from … to | balanced accuracy, test | layers with modulated "
            "images | CPU s |\n|---|---|---|---|---|---|\n" + "\n".join(rows) + "\n"
        )
        (Path(__file__).parent / "results" / "architectures.md").write_text(text)


if __name__ == "__main__":
    main()
