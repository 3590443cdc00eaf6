"""Your own network: any ``nn.Module`` that takes (n, C, H, W) and gives logits (n, classes).

On the command line the same is ``cytolens run DATA --model examples/own_model.py:build
--weights weights.safetensors --out RUN``.
"""

import sys
import tempfile
from pathlib import Path

import torch
from torch import nn

import cytolens as cl
from cytolens.store.files import write_simulation
from cytolens.study.settings import StudySettings
from cytolens.study.study import Study


def build() -> nn.Module:
    """A small network without any of our names."""
    return nn.Sequential(
        nn.Conv2d(1, 12, 5, stride=2, padding=2),
        nn.ReLU(inplace=True),
        nn.Conv2d(12, 24, 3, padding=1),
        nn.BatchNorm2d(24),
        nn.ReLU(inplace=True),
        nn.AdaptiveAvgPool2d(4),
        nn.Flatten(),
        nn.Linear(24 * 16, 32),
        nn.ReLU(),
        nn.Linear(32, 2),
    )


def fit(module: nn.Module, cells: cl.Cells, epochs: int) -> None:
    """Your own training goes here."""
    optimiser = torch.optim.Adam(module.parameters(), lr=3e-3)
    labels = torch.from_numpy(cells.labels)
    for _ in range(epochs):
        for chosen, images in cells.batches(64):
            optimiser.zero_grad()
            loss = nn.functional.cross_entropy(module(torch.from_numpy(images)), labels[chosen])
            loss.backward()
            optimiser.step()


def main(n: int = 1000, out: Path | None = None, **settings: object) -> Path:
    out = out or Path(tempfile.mkdtemp())
    data = write_simulation(out / "cells", cl.simulate(n, difficulty=0.2, rng=0))
    module = build()
    fit(module, cl.read_cells(data), epochs=5)

    study = Study(out / "run", data, StudySettings(**settings), module=module)
    for layer in study["layers"]:
        print(layer.depth, layer.name, layer.kind, layer.shape, layer.receptive_field)
    report = study["report"]
    print(report)
    return report


if __name__ == "__main__":
    main(*map(int, sys.argv[1:2]))
