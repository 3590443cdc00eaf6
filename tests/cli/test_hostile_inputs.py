"""Hostile data, models, runs and decisions at the command line: one line, exit code 2, no harm."""

import json
import os
import pickle
import struct
import sys
import time
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from cytolens.cli.main import main

sys.path.insert(0, str(Path(__file__).parents[1] / "images"))
from hostile_files import ARRAYS, IMAGES
from hostile_tables import TABLES

Write = Callable[[Path], object]
MODEL = """
from torch import nn

def build():
    return nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
                         nn.Linear(4, 2))
"""


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two classes of crops in a file."""
    path = tmp_path_factory.mktemp("data") / "cells.npz"
    images = np.random.default_rng(0).integers(0, 200, (40, 24, 24)).astype(np.uint8)
    np.savez(path, images=images, labels=np.repeat(["a", "b"], 20))
    return path


@pytest.fixture(scope="module", autouse=True)
def _loaded(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Libraries are loaded once, which counts for no file."""
    folder = tmp_path_factory.mktemp("loaded")
    ARRAYS["bare.npz"][0](folder / "bare.npz")
    with pytest.raises(SystemExit):
        main(["run", str(folder / "bare.npz"), "--out", str(folder / "run")])


def refused(capsys: pytest.CaptureFixture[str], *words: str | Path) -> str:
    """The one line that the command says; its exit code is 2."""
    start = time.process_time()
    with pytest.raises(SystemExit) as stop:
        main([str(word) for word in words])
    said = capsys.readouterr().err.strip().splitlines()
    assert stop.value.code == 2, said
    assert time.process_time() - start < 2
    assert said
    assert said[-1].startswith("cytolens: ")
    assert "Traceback" not in "".join(said)
    return said[-1]


ONES = ("pipe.npz", "bomb.npz", "code.npy", "cut.npz", "long_name.npz", "vast_values.npz")
SOME = ("pipe.csv", "zero.parquet", "latin.csv", "footer.parquet", "lists.parquet", "device.csv")


@pytest.mark.parametrize("name", [*ONES, *SOME])
def test_a_run_on_a_hostile_file_ends_in_one_line(
    tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]
):
    write, _ = (ARRAYS | TABLES)[name]
    write(tmp_path / name)
    refused(capsys, "run", tmp_path / name, "--out", tmp_path / "run", "--quick")
    assert not (tmp_path / "run" / "report.html").exists()


@pytest.mark.parametrize("name", ["pipe.png", "vast.tif", "out.ome.tif", "zero.tif"])
def test_a_run_on_a_hostile_image_names_it(
    tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]
):
    for folder in "ab":
        (tmp_path / "data" / folder).mkdir(parents=True)
        for i in range(12):
            crop = np.random.default_rng(i).integers(0, 99, (20, 20)).astype(np.uint8)
            from imagecodecs import png_encode

            (tmp_path / "data" / folder / f"{i}.png").write_bytes(png_encode(crop))
    IMAGES[name][0](tmp_path / "data" / "a" / name)
    said = refused(capsys, "run", tmp_path / "data", "--out", tmp_path / "run", "--quick")
    assert f"a/{name}" in said


def _safetensors(header: bytes, length: int | None = None) -> bytes:
    return struct.pack("<Q", len(header) if length is None else length) + header


class _Evil:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, ("touch /tmp/cytolens-was-here",)


def _torch_zip(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", pickle.dumps(_Evil()))
        archive.writestr("archive/version", "3")


_BLOCK = {"0.weight": {"dtype": "F32", "shape": [4, 1, 3, 3], "data_offsets": [0, 10**12]}}
WEIGHTS: dict[str, Write] = {
    "empty.safetensors": lambda p: p.write_bytes(b""),
    "noise.safetensors": lambda p: p.write_bytes(np.random.default_rng(0).bytes(999)),
    "length.safetensors": lambda p: p.write_bytes(_safetensors(b"{}", 2**60)),
    "json.safetensors": lambda p: p.write_bytes(_safetensors(b'{"a": [[[[')),
    "nested.safetensors": lambda p: p.write_bytes(_safetensors(b"[" * 50_000)),
    "offsets.safetensors": lambda p: p.write_bytes(_safetensors(json.dumps(_BLOCK).encode())),
    "other.safetensors": lambda p: p.write_bytes(_safetensors(b"{}")),
    "pipe.safetensors": os.mkfifo,
    "empty.pt": lambda p: p.write_bytes(b""),
    "noise.pt": lambda p: p.write_bytes(np.random.default_rng(0).bytes(999)),
    "evil.pt": lambda p: p.write_bytes(pickle.dumps(_Evil())),
    "evil_zip.pt": _torch_zip,
    "list.pt": lambda p: p.write_bytes(pickle.dumps([1, 2])),
    "pipe.pt": os.mkfifo,
    "zero.pt": lambda p: p.symlink_to("/dev/zero"),
    "kind.bin7": lambda p: p.write_bytes(b"x"),
}


@pytest.mark.parametrize("name", WEIGHTS)
def test_hostile_weights_are_refused_and_run_nothing(
    data: Path, tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]
):
    (tmp_path / "model.py").write_text(MODEL)
    WEIGHTS[name](tmp_path / name)
    said = refused(
        capsys, "run", data, "--model", tmp_path / "model.py:build", "--weights", tmp_path / name,
        "--out", tmp_path / "run", "--quick",
    )  # fmt: skip
    assert name in said or "weight" in said
    assert not Path("/tmp/cytolens-was-here").exists()


MODELS = {
    "syntax": "def build(:",
    "raises": "def build():\n    raise RuntimeError('x')",
    "none": "def build():\n    return None",
    "absent": "x = 1",
    "import": "import no_such_library\ndef build():\n    pass",
    "wrong": MODEL.replace("nn.Linear(4, 2)", "nn.Linear(7, 2)"),
    "classes": MODEL.replace("nn.Linear(4, 2)", "nn.Linear(4, 9)"),
}


@pytest.mark.parametrize("name", MODELS)
def test_a_model_that_is_none_is_refused(
    data: Path, tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]
):
    (tmp_path / "model.py").write_text(MODELS[name])
    refused(
        capsys, "run", data, "--model", tmp_path / "model.py:build", "--untrained",
        "--out", tmp_path / "run", "--quick",
    )  # fmt: skip


RECORDS = {
    "empty": "",
    "noise": "\x00\x01\x02",
    "nested": "[" * 100_000,
    "list": "[]",
    "number": "1e999",
    "format": '{"format": 99}',
    "text": '{"format": "two", "stages": 7}',
    "stages": '{"format": 2, "stages": {"cells": {"files": ["../../../etc/passwd"]}}}',
    "settings": '{"format": 2, "stages": {}, "settings": {"size": -5}}',
}


@pytest.mark.parametrize("name", RECORDS)
@pytest.mark.parametrize("verb", ["report", "verify", "explore"])
def test_a_hostile_run_is_refused(
    tmp_path: Path, verb: str, name: str, capsys: pytest.CaptureFixture[str]
):
    run = tmp_path / "run"
    run.mkdir()
    (run / "run.json").write_text(RECORDS[name])
    refused(capsys, verb, run)


DECISIONS: dict[str, Write] = {
    "pipe.csv": os.mkfifo,
    "zero.csv": lambda p: p.symlink_to("/dev/zero"),
    "latin.csv": lambda p: p.write_bytes(b"name,use,label\ncaf\xe9,yes,a\n"),
    "columns.csv": lambda p: p.write_text("a,b,c\n1,2,3\n"),
    "field.csv": lambda p: p.write_text("name,use,label\n" + "x" * 200_000 + ",yes,a\n"),
    "unknown.csv": lambda p: p.write_text("name,use,label\n../../etc/passwd,no,\n"),
    "use.csv": lambda p: p.write_text("name,use,label\nx,perhaps,\n"),
}


@pytest.mark.parametrize("name", DECISIONS)
def test_hostile_decisions_are_refused(
    data: Path, tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]
):
    DECISIONS[name](tmp_path / name)
    said = refused(
        capsys, "run", data, "--relabel", tmp_path / name, "--out", tmp_path / "run", "--quick"
    )
    assert "--relabel" in said


def test_a_message_never_holds_what_a_terminal_would_obey(capsys: pytest.CaptureFixture[str]):
    said = refused(capsys, "run", "no\x1b[2J\nwhere\udce9", "--out", "x")
    assert "\x1b" not in said
    assert "\\xe9" in said
