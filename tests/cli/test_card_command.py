"""A model card on the command line: drafted, filled in, and studied."""

import json
from pathlib import Path

import pytest

from cytolens.cli.main import main
from cytolens.simulation.optics import Optics
from cytolens.simulation.simulate import simulate
from cytolens.store.files import write_simulation
from cytolens.study.finished_run import FinishedRun

CODE = """
import torch
from torch import nn

def build():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2)
    )
"""


def run(*words: object) -> int:
    with pytest.raises(SystemExit) as ended:
        main([str(word) for word in words])
    return int(ended.value.code or 0)


def test_a_card_is_drafted_filled_in_and_studied(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    seen = simulate(60, size=32, difficulty=0.0, optics=Optics(pixel_size_um=0.5), rng=0)
    data = write_simulation(tmp_path / "cells", seen)
    (tmp_path / "net.py").write_text(CODE)
    card = tmp_path / "card.json"
    drafted = ("card", data, "--model", f"{tmp_path}/net.py:build", "--out", card)
    assert run(*drafted) == 0
    said = capsys.readouterr()
    assert "check that the outputs have this order" in said.err
    assert run(*drafted) == 2
    assert "exists already" in capsys.readouterr().err

    entries = json.loads(card.read_text())
    assert entries["model"] == "net.py:build"
    assert entries["class_names"] == ["lymphocyte", "neutrophil"]
    entries["class_names"].reverse()
    entries["normalisation"] = {"scale": 65535, "mean": [0.1], "std": [0.1]}
    card.write_text(json.dumps(entries))

    named = ("train", data, "--model", card, "--untrained", "--out", tmp_path / "run")
    assert run(*named) == 2
    assert "say so with --trust-model" in capsys.readouterr().err
    assert not (tmp_path / "run" / "run.json").exists()
    assert run(*named, "--trust-model") == 0
    capsys.readouterr()
    studied = FinishedRun(tmp_path / "run")
    assert studied["cells"].class_names == ("neutrophil", "lymphocyte")
    assert studied["cells"].preparation.intensity == "none"
    assert run(*named[:-2], "--out", tmp_path / "b", "--trust-model", "--size", "48") == 2
    assert "the model card" in capsys.readouterr().err
