"""The network of a study as ONNX and in the format of bioimage.io, and read back from there."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.special import softmax

from cytolens.classifier.card import ModelCard, Normalisation, card_text, read_card
from cytolens.classifier.networks import build_network
from cytolens.classifier.wrapping import load_module, wrap_for
from cytolens.errors import MissingExtra
from cytolens.images.arrays import cells_from_arrays
from cytolens.records.cells import Cells
from cytolens.study.network_export import write_network

onnx = pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")
pytestmark = pytest.mark.filterwarnings("ignore")  # of PyTorch's exporter

CODE = """
from torch import nn

def build(width=3):
    return nn.Sequential(nn.Conv2d(2, width, 3), nn.ReLU(), nn.Flatten(), nn.Linear(196 * width, 2))
"""


@pytest.fixture
def cells() -> Cells:
    draw = np.random.default_rng(0)
    images = draw.integers(0, 4096, (24, 2, 16, 16)).astype(np.uint16)
    made = cells_from_arrays(images, ["G1", "M"] * 12, channel_names=["DNA", "bright field"])
    return replace(made, pixel_size=0.5)


def reference(cells: Cells):
    from cytolens.classifier.training import TrainingSettings, train

    return train(cells, settings=TrainingSettings(epochs=1, width=2), rng=0).model


def answers(module: torch.nn.Module, crops: np.ndarray) -> np.ndarray:
    with torch.inference_mode():
        return module.eval()(torch.from_numpy(crops.astype(np.float32))).numpy()


def test_onnx_answers_as_the_network_does_for_any_number_of_cells(
    cells: Cells, tmp_path: Path
) -> None:
    network = reference(cells)
    path = write_network(network, cells, "onnx", tmp_path)
    assert path == tmp_path / "network.onnx"
    session = onnx.InferenceSession(path)
    for n in (1, 7):
        crops = cells.read(slice(0, n))
        found = session.run(["logits"], {"crops": crops})[0]
        np.testing.assert_allclose(found, answers(network.network, crops), atol=1e-5)


@pytest.mark.parametrize("own", [False, True])
def test_a_package_is_read_back_as_the_same_network(
    own: bool, cells: Cells, tmp_path: Path
) -> None:
    model = None
    if own:
        (tmp_path / "net.py").write_text(CODE)
        card = ModelCard(f"{tmp_path}/net.py:build", arguments={"width": 4})
        (tmp_path / "card.json").write_text(card_text(card))
        model = str(tmp_path / "card.json")
        network = wrap_for(load_module(model), cells)
    else:
        network = reference(cells)
    folder = write_network(network, cells, "bioimageio", tmp_path / "package", model=model)
    card = read_card(folder / "rdf.yaml")
    assert (card.class_names, card.size) == (("G1", "M"), 16)
    assert card.channels == ("DNA", "bright field")
    raw = cells.images.read_raw(slice(0, 24))
    again = load_module(str(folder / "rdf.yaml"))
    wanted = answers(network.network, cells.read(slice(0, 24)))
    np.testing.assert_allclose(answers(again, raw), wanted, atol=1e-4)
    tried = answers(again, np.load(folder / "crops.npy"))
    np.testing.assert_allclose(np.load(folder / "answers.npy"), softmax(tried, 1), atol=1e-4)
    spec = pytest.importorskip("bioimageio.spec")
    summary = spec.load_description(folder / "rdf.yaml").validation_summary
    assert not [fault.msg for detail in summary.details for fault in detail.errors]
    assert summary.status != "failed"


def test_a_card_s_normalisation_becomes_preprocessing(cells: Cells, tmp_path: Path) -> None:
    from cytolens.classifier.normalising import Normalise

    plain = replace(cells, preparation=replace(cells.preparation, intensity="none"))
    plain = replace(plain, images=replace(cells.images, preparation=plain.preparation))
    module = build_network((2, 16, 16), 2, width=2)
    module.register_forward_pre_hook(
        Normalise(Normalisation((0.5, 0.25), (0.25, 0.5), scale=4095.0))
    )
    network = replace(wrap_for(module.eval(), plain), spec=reference(cells).spec)
    folder = write_network(network, plain, "bioimageio", tmp_path / "package")
    raw = cells.images.read_raw(slice(0, 5))
    again = load_module(str(folder / "rdf.yaml"))
    np.testing.assert_allclose(answers(again, raw), answers(module, raw), atol=1e-4)
    assert read_card(folder / "rdf.yaml").normalisation.mean == pytest.approx((2047.5, 1023.75))


def test_what_is_missing_is_named(
    cells: Cells, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    network = replace(reference(cells))
    for name, extra in (("onnxscript", "onnx"), ("yaml", "bioimageio")):
        monkeypatch.setitem(sys.modules, name, None)
        with pytest.raises(MissingExtra, match=rf"cytolens\[{extra}\]"):
            write_network(network, cells, extra, tmp_path / "out")
        monkeypatch.undo()
    assert not any(tmp_path.iterdir())


def test_a_study_of_a_package_from_the_command_line(cells: Cells, tmp_path: Path) -> None:
    folder = write_network(reference(cells), cells, "bioimageio", tmp_path / "package")
    data = tmp_path / "cells.npz"
    np.savez(data, images=cells.images.read_raw(slice(0, 24)), labels=cells.labels,
             class_names=np.array(["G1", "M"]),
             channel_names=np.array(["DNA", "bright field"]))  # fmt: skip
    words = [sys.executable, "-m", "cytolens"]
    train = [*words, "train", str(data), "--model", str(folder / "rdf.yaml"), "--trust-model"]
    made = subprocess.run([*train, "--out", str(tmp_path / "run")], capture_output=True, text=True)
    assert made.returncode == 0, made.stderr
    export = [*words, "export", str(tmp_path / "run"), "--to", "onnx", "--trust-model"]
    out = subprocess.run(export, capture_output=True, text=True)
    assert out.returncode == 0, out.stderr
    assert Path(out.stdout.strip()).is_file()
