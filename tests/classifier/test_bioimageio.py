"""Descriptions of bioimage.io as model cards, written as the format's documentation has them."""

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from test_card import CODE

from cytolens.classifier.card import CropNormalisation, Normalisation, card_text, read_card
from cytolens.classifier.wrapping import load_module
from cytolens.errors import ModelError
from cytolens.study.own_model import load, runs_code
from cytolens.study.settings import StudySettings

yaml = pytest.importorskip("yaml")
MAKER = CODE.replace("def build():", "def build(width=4):").replace("4, 3)", "width, 3)")
MAKER = MAKER.replace("Linear(4", "Linear(width")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "net.py").write_text(MAKER)
    torch.save(load_module(f"{tmp_path}/net.py:build").state_dict(), tmp_path / "w.pt")
    return tmp_path


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def new(folder: Path, *steps: dict[str, Any]) -> dict[str, Any]:
    """A description of version 0.5."""
    axes = [
        {"type": "batch"},
        {"type": "channel", "channel_names": ["DNA", "actin", "ER"]},
        {"type": "space", "id": "y", "size": 9},
        {"type": "space", "id": "x", "size": 9},
    ]
    named = [{"type": "batch"}, {"type": "channel", "channel_names": ["G1", "M"]}]
    source = {"source": "net.py", "callable": "build", "sha256": sha256(folder / "net.py")}
    state = {"source": "w.pt", "sha256": sha256(folder / "w.pt"), "architecture": source}
    return {
        "type": "model",
        "format_version": "0.5.3",
        "inputs": [{"id": "raw", "axes": axes, "preprocessing": list(steps)}],
        "outputs": [{"id": "classes", "axes": named}],
        "weights": {"pytorch_state_dict": {**state, "pytorch_version": "2.6"}},
    }


def old(folder: Path, *steps: dict[str, Any]) -> dict[str, Any]:
    """The same in version 0.4, which has no names of classes."""
    state = {"source": "w.pt", "architecture": "net.py:build", "kwargs": {"width": 4}}
    tensor = {"name": "raw", "axes": "bcyx", "shape": [1, 3, 9, 9], "preprocessing": list(steps)}
    return {
        "type": "model",
        "format_version": "0.4.10",
        "inputs": [tensor],
        "outputs": [{"name": "classes", "axes": "bc", "shape": [1, 2]}],
        "weights": {"pytorch_state_dict": state},
    }


def read(folder: Path, entries: dict[str, Any]):
    (folder / "rdf.yaml").write_text(yaml.safe_dump(entries))
    return read_card(folder / "rdf.yaml")


def test_both_versions_say_where_the_network_is_and_what_it_takes(folder: Path) -> None:
    card = read(folder, new(folder))
    assert card.model == f"{folder.resolve()}/net.py:build"
    assert (card.class_names, card.channels, card.size) == (("G1", "M"), ("DNA", "actin", "ER"), 9)
    assert card.normalisation == Normalisation((0.0,) * 3, (1.0,) * 3)
    card = read(folder, old(folder))
    assert (card.class_names, card.channels, card.size) == (None, None, 9)
    assert card.arguments == {"width": 4}
    plain = load_module(f"{folder}/net.py:build", folder / "w.pt")
    crops = torch.rand(2, 3, 9, 9)
    assert torch.equal(load_module(str(folder / "rdf.yaml"))(crops), plain(crops))


LINEAR = {"id": "scale_linear", "kwargs": {"gain": 0.5, "offset": -1.0}}
FIXED = {
    "id": "fixed_zero_mean_unit_variance",
    "kwargs": {"axis": "channel", "mean": [1.0, 2.0, 3.0], "std": [1.0, 2.0, 4.0]},
}
FIXED_OLD = {
    "name": "zero_mean_unit_variance",
    "kwargs": {"mode": "fixed", "axes": "yx", "mean": [1.0, 2.0, 3.0], "std": [1.0, 2.0, 4.0]},
}
EACH = {"id": "zero_mean_unit_variance", "kwargs": {"axes": ["y", "x"], "eps": 1e-3}}
RANGE = {"id": "scale_range", "kwargs": {"min_percentile": 1.0, "max_percentile": 99.0}}


@pytest.mark.parametrize(
    ("version", "steps"),
    [
        (new, [LINEAR]), (new, [FIXED]), (old, [FIXED_OLD]), (new, [LINEAR, FIXED]),
        (new, [{"id": "ensure_dtype", "kwargs": {"dtype": "float32"}}, EACH]), (new, [RANGE]),
    ],
)  # fmt: skip
def test_preprocessing_is_done_as_the_format_says(version: Any, steps: Any, folder: Path) -> None:
    entries = version(folder, *steps)
    card = read(folder, entries)
    crops = torch.randint(0, 256, (2, 3, 9, 9), generator=torch.manual_seed(0)).float()
    by_hand = crops.clone()
    for step in steps:
        options = step["kwargs"]
        if step is LINEAR:
            by_hand = by_hand * 0.5 - 1
        elif step in (FIXED, FIXED_OLD):
            mean, std = (torch.tensor(options[n])[:, None, None] for n in ("mean", "std"))
            by_hand = (by_hand - mean) / std
        elif step is EACH:
            mean = by_hand.mean((2, 3), keepdim=True)
            by_hand = (by_hand - mean) / (by_hand.std((2, 3), correction=0, keepdim=True) + 1e-3)
        elif step is RANGE:
            low, high = (
                torch.quantile(by_hand.flatten(1), q, dim=1)[:, None, None, None]
                for q in (0.01, 0.99)
            )
            by_hand = (by_hand - low) / (high - low + 1e-6)
    plain = load_module(f"{folder}/net.py:build", folder / "w.pt")
    found = load_module(str(folder / "rdf.yaml"))(crops)
    assert torch.allclose(found, plain(by_hand), atol=1e-5)
    (folder / "card.json").write_text(card_text(card))  # as a card of our own
    assert read_card(folder / "card.json").normalisation == card.normalisation
    assert torch.equal(load_module(str(folder / "card.json"))(crops), found)


def without(entries: dict[str, Any], *path: Any, put: Any = None) -> dict[str, Any]:
    place: Any = entries
    for step in path[:-1]:
        place = place[step]
    place[path[-1]] = put
    return entries


@pytest.mark.parametrize(
    ("path", "put", "wrong"),
    [
        (("weights",), {"onnx": {"source": "n.onnx"}, "torchscript": {}}, "hide their layers"),
        (("weights",), {}, "holds no weights"),
        (("weights", "pytorch_state_dict", "source"), "https://zenodo.org/w.pt", "unpack"),
        (("weights", "pytorch_state_dict", "source"), "../w.pt", "leads out"),
        (("weights", "pytorch_state_dict", "source"), "v.pt", "not next to it"),
        (("weights", "pytorch_state_dict", "sha256"), "0" * 64, "is not the file"),
        (("weights", "pytorch_state_dict", "architecture", "sha256"), "0" * 64, "is not the file"),
        (("weights", "pytorch_state_dict", "architecture"), None, "no model description"),
        (("inputs",), [{}, {}], "2 inputs"),
        (("inputs",), {"raw": 1}, "no model description"),
        (("weights",), ["w.pt"], "no model description"),
        (("weights", "pytorch_state_dict", "source"), "\0", "no model description"),
        (("inputs", 0, "axes"), [{"type": "batch"}] * 9, "batch,batch"),
        (
            ("inputs", 0, "preprocessing"),
            [{"id": "scale_linear", "kwargs": {"gain": float("nan")}}],
            "no model description",
        ),
        (
            ("inputs", 0, "preprocessing"),
            [{"id": "fixed_zero_mean_unit_variance", "kwargs": {"mean": 0, "std": 0}}],
            "no model description",
        ),
        (("inputs", 0, "axes", 2, "size"), 8, "8 × 9 px"),
        (("inputs", 0, "axes", 1), {"type": "time"}, "batch,time,y,x"),
        (("inputs", 0, "preprocessing"), [{"id": "clip", "kwargs": {}}], "clip is not one"),
        (("inputs", 0, "preprocessing"), [RANGE, LINEAR], "scale_range and scale_linear"),
        (
            ("inputs", 0, "preprocessing"),
            [{"id": "scale_linear", "kwargs": {"gain": -1}}],
            "turns intensities round",
        ),
        (
            ("inputs", 0, "preprocessing"),
            [{"id": "zero_mean_unit_variance", "kwargs": {"axes": ["batch", "y", "x"]}}],
            "many crops at once",
        ),
    ],
)
def test_what_cannot_be_studied_is_refused_in_one_line(
    path: Any, put: Any, wrong: str, folder: Path
) -> None:
    with pytest.raises(ModelError, match=wrong) as caught:
        read(folder, without(new(folder), *path, put=put))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "entry",
    [{"of": "crop", "percentiles": [9, 1]}, {"of": "crop", "eps": -1}, {"of": "crop", "x": 1}],
)
def test_a_wrong_normalisation_of_crops_is_named(entry: Any, tmp_path: Path) -> None:
    card = {"model": "n.py:b", "normalisation": entry}
    (tmp_path / "card.json").write_text(json.dumps(card))
    with pytest.raises(ModelError, match="of a crop it has percentiles"):
        read_card(tmp_path / "card.json")


def test_weights_that_are_more_than_weights_are_not_unpickled(folder: Path) -> None:
    torch.save(load_module(f"{folder}/net.py:build"), folder / "w.pt")
    read(folder, new(folder))
    with pytest.raises(ModelError, match="more than plain weights"):
        load_module(str(folder / "rdf.yaml"))


def test_a_package_is_code_that_has_to_be_trusted(folder: Path) -> None:
    read(folder, new(folder))
    asked = StudySettings(model=str(folder / "rdf.yaml"))
    assert runs_code(asked)
    with pytest.raises(ModelError, match="say so with --trust-model"):
        load(asked, None, trusted=False)


def test_crops_by_themselves_are_a_kind_of_their_own(folder: Path) -> None:
    assert read(folder, new(folder, RANGE)).normalisation == CropNormalisation(
        (1.0, 99.0), 1e-6, False
    )
