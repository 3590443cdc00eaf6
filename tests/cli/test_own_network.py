"""A network of the user's own, on the command line: nothing is said of it that is not known."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from cytolens.simulation.optics import Optics
from cytolens.simulation.simulate import simulate
from cytolens.store.files import write_simulation

CYTOLENS = [sys.executable, "-m", "cytolens"]
CODE = """
import torch
from torch import nn

def drawn():
    return nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2)
    )

def seeded():
    torch.manual_seed(0)
    return drawn()

def trained(dead=False):
    network = drawn()
    with torch.no_grad():
        for place, weights in enumerate(network.parameters()):
            weights.copy_(torch.linspace(-1, 1, weights.numel()).view_as(weights) * (1 + place))
        if dead:
            network[0].weight.zero_()
            network[0].bias.fill_(-1)
    return network

def dead():
    return trained(dead=True)

def leaving():
    raise SystemExit(7)

class LeavingLater(nn.Module):
    def __init__(self):
        super().__init__()
        self.network = trained()
    def forward(self, x):
        if x.shape[0] > 2:
            raise SystemExit(7)
        return self.network(x)
"""
SMALL = [
    "--gallery", "2", "--cards", "2", "--atlas", "0", "--steps", "4", "--explain", "1",
    "--pairs", "1",
]  # fmt: skip


def run(*words: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*CYTOLENS, *map(str, words)], capture_output=True, text=True)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = simulate(60, size=32, difficulty=0.0, optics=Optics(pixel_size_um=0.5), rng=0)
    return write_simulation(tmp_path_factory.mktemp("own") / "cells", made)


@pytest.fixture(scope="module")
def code(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("code") / "model.py"
    file.write_text(CODE)
    return file


@pytest.mark.parametrize("function", ["drawn", "seeded"])
def test_random_weights_are_asked_about(
    function: str, data: Path, code: Path, tmp_path: Path
) -> None:
    refused = run("train", data, "--model", f"{code}:{function}", "--out", tmp_path / "run")
    assert refused.returncode == 2
    assert "makes random weights" in refused.stderr
    assert refused.stderr.strip().splitlines()[-1].startswith("cytolens: ")
    meant = ["--untrained", "--out", tmp_path / "run"]
    studied = run("train", data, "--model", f"{code}:{function}", *meant)
    assert studied.returncode == 0, studied.stderr
    assert "its weights are random" in studied.stderr


@pytest.mark.parametrize("function", ["leaving", "LeavingLater"])
def test_code_that_leaves_the_program_is_told_in_a_line(
    function: str, data: Path, code: Path, tmp_path: Path
) -> None:
    refused = run("train", data, "--model", f"{code}:{function}", "--out", tmp_path / "run")
    assert refused.returncode == 2
    last = refused.stderr.strip().splitlines()[-1]
    assert last.startswith("cytolens: ")
    assert "SystemExit: 7" in last or "sys.exit" in last


def test_what_is_not_known_is_not_said(data: Path, code: Path, tmp_path: Path) -> None:
    made = run("run", data, "--model", f"{code}:trained", "--quick", *SMALL, "--out", tmp_path)
    assert made.returncode == 0, made.stderr
    assert "It is not known whether the network was trained" in made.stderr
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert summary["classifier"]["seen"] == "unknown"
    page = (tmp_path / "report.html").read_text()
    assert "It is not known whether the network was trained on these cells" in page
    for invented in ("held-out cells", "were trained on", "training cells"):
        assert invented not in page


def test_a_layer_without_a_live_channel_does_not_end_the_study(
    data: Path, code: Path, tmp_path: Path
) -> None:
    made = run(
        "run", data, "--model", f"{code}:dead", "--trained-on", "all", "--quick", *SMALL,
        "--out", tmp_path,
    )  # fmt: skip
    assert made.returncode == 0, made.stderr
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert summary["classifier"]["seen"] == "yes"
    assert "The network gives the same answer for all" in summary["classifier"]["remarks"][0]


def test_a_statement_without_a_network_is_refused(data: Path, tmp_path: Path) -> None:
    refused = run("train", data, "--trained-on", "all", "--out", tmp_path / "run")
    assert refused.returncode == 2
    assert "name it with --model" in refused.stderr
