"""Nothing leaves the machine: the command line with the network denied.

The whole study is run like that in ``test_commands.py``, whose run every test there uses.
"""

import subprocess
import sys
from pathlib import Path

import numpy as np

OFFLINE = [sys.executable, str(Path(__file__).with_name("offline.py"))]


def offline(notes: Path, *words: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*OFFLINE, str(notes), *map(str, words)],
        capture_output=True, text=True, check=False, timeout=600,
    )  # fmt: skip


def test_the_denial_holds(tmp_path: Path):
    notes = tmp_path / "notes"
    done = offline(notes, "fetch", "bloodmnist", "--out", tmp_path / "data")
    assert done.returncode == 2
    assert "cannot be fetched" in done.stderr
    assert "zenodo.org" in notes.read_text()


def test_decoding_apart_needs_no_network(tmp_path: Path):
    images = np.random.default_rng(0).integers(0, 99, (60, 20, 20)).astype(np.uint8)
    np.savez(tmp_path / "cells.npz", images=images, labels=np.repeat(["a", "b"], 30))
    notes = tmp_path / "notes"
    options = ["--quick", "--epochs", "2", "--isolate"]
    done = offline(notes, "train", tmp_path / "cells.npz", "--out", tmp_path / "run", *options)
    assert done.returncode == 0, done.stderr
    assert not notes.exists()
