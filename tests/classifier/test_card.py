"""Model cards, and networks of packages that the user has."""

import json
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch
from made_cells import make_cells
from torch import nn

from cytolens.activations.layers import find_layers
from cytolens.classifier.card import ModelCard, Normalisation, card_text, read_card
from cytolens.classifier.card_draft import draft_card
from cytolens.classifier.wrapping import load_module
from cytolens.errors import CytolensError, MissingExtra, ModelError

CODE = """
import torch
from torch import nn

def build():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2)
    )
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "net.py").write_text(CODE)
    torch.save({"model": load_module(f"{tmp_path}/net.py:build").state_dict()}, tmp_path / "w.pt")
    return tmp_path


@pytest.mark.parametrize("name", ["card.json", "card.yaml"])
def test_a_card_that_is_written_is_read_back(name: str, folder: Path) -> None:
    how = Normalisation((0.5, 0.4, 0.3), (0.2, 0.2, 0.1), 255.0)
    card = ModelCard("net.py:build", "w.pt", "classes", ("a", "ß"), 64, ("DNA",), how)
    (folder / name).write_text(card_text(card, yaml=name.endswith("yaml")), "utf-8")
    found = read_card(folder / name)
    assert found.model == f"{folder.resolve()}/net.py:build"  # whatever the current folder is
    assert found.weights == str(folder.resolve() / "w.pt")
    assert (found.class_names, found.size, found.channels) == (("a", "ß"), 64, ("DNA",))
    assert found.normalisation == how


def test_a_card_gives_the_network_its_weights_and_normalises_its_crops(folder: Path) -> None:
    entries = {
        "model": "net.py:build",
        "weights": "w.pt",
        "normalisation": {"mean": [0.5, 0.4, 0.3], "std": [0.2, 0.2, 0.1], "scale": 255},
    }
    (folder / "card.json").write_text(json.dumps(entries))
    plain = load_module(f"{folder}/net.py:build", folder / "w.pt").eval()
    network = load_module(str(folder / "card.json")).eval()
    crops = torch.randint(0, 256, (2, 1, 9, 9), generator=torch.manual_seed(0)).float()
    mean, std = torch.tensor([0.5, 0.4, 0.3]), torch.tensor([0.2, 0.2, 0.1])
    by_hand = (crops / 255 - mean[:, None, None]) / std[:, None, None]
    assert torch.allclose(network(crops), plain(by_hand), atol=1e-6)
    names = [layer.name for layer in find_layers(network, (1, 9, 9))]
    assert names == ["input", "0", "pre_softmax", "logits"]


@pytest.mark.parametrize(
    ("entries", "wrong"),
    [
        ([1, 2], "holds no entries"),
        ({"size": 64}, "names no model"),
        ({"model": "x"}, "no factory"),
        ({"model": "card.json"}, "names no model"),
        ({"model": "n.py:b", "sizes": 64}, "'sizes' is no entry"),
        ({"model": "n.py:b", "size": "64"}, "size is '64'"),
        ({"model": "n.py:b", "class_names": "ab"}, "class_names is 'ab'"),
        ({"model": "n.py:b", "outputs": "logits"}, "choose from|choose one"),
        ({"model": "n.py:b", "normalisation": {"mean": [1], "std": [0]}}, "normalisation is"),
        ({"model": "n.py:b", "normalisation": {"mean": [1, 2], "std": [1]}}, "normalisation is"),
        ({"model": "n.py:b", "normalisation": 3}, "normalisation is 3"),
    ],
)
def test_what_is_wrong_in_a_card_is_named(entries: Any, wrong: str, tmp_path: Path) -> None:
    (tmp_path / "card.json").write_text(json.dumps(entries))
    with pytest.raises(CytolensError, match=wrong) as caught:
        read_card(tmp_path / "card.json")
    assert "\n" not in str(caught.value)


def test_a_card_runs_no_code_when_it_is_read(tmp_path: Path) -> None:
    (tmp_path / "card.yaml").write_text('model: !!python/object/apply:os.system ["touch ran"]')
    with pytest.raises(ModelError, match="cannot be read"):
        read_card(tmp_path / "card.yaml")
    assert not Path("ran").exists()


def test_a_draft_says_what_is_known_and_what_is_left(folder: Path) -> None:
    cells = make_cells(torch.rand(20, 3, 12, 12).numpy(), [0, 1] * 10, class_names=("G1", "M"))
    card, left = draft_card(f"{folder}/net.py:build", f"{folder}/w.pt", cells, beside=folder)
    assert (card.model, card.weights) == ("net.py:build", "w.pt")
    assert (card.class_names, card.size) == (("G1", "M"), 12)
    assert card.channels == tuple(cells.channel_names)
    assert any("check that the outputs have this order" in line for line in left)
    alone, left = draft_card(f"{folder}/net.py:build", None, None, beside=folder)
    assert alone.class_names is None
    assert "class_names are not known: 2 outputs; give them in the order of the outputs" in left


class TimmNet(nn.Module):
    def __init__(self, num_classes: int, in_chans: int) -> None:
        super().__init__()
        self.stem, self.fc = nn.Conv2d(in_chans, 4, 3), nn.Linear(4, num_classes)
        self.default_cfg = {
            "first_conv": "stem", "classifier": "fc", "input_size": (3, 24, 24),
            "mean": (0.5,), "std": (0.25,),
        }  # fmt: skip

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc(torch.relu(self.stem(x)).mean((2, 3)))


class Answers(dict[str, torch.Tensor]):
    """An output object as transformers gives it."""

    def __getattr__(self, name: str) -> torch.Tensor:
        try:
            return self[name]
        except KeyError:
            raise AttributeError(name) from None


class HubNet(TimmNet):
    def __init__(self) -> None:
        super().__init__(3, 1)
        del self.default_cfg
        names = {"0": "eosinophil", "10": "monocyte", "2": "lymphocyte"}
        self.config = SimpleNamespace(image_size=28, id2label=names)

    def forward(self, pixel_values: torch.Tensor) -> Any:
        return Answers(logits=super().forward(pixel_values))


@pytest.fixture
def packages(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    asked: list[Any] = []

    def create_model(name: str, *, pretrained: bool, num_classes: int = 1000, in_chans: int = 3):
        if name != "tiny":
            raise RuntimeError(f"Unknown model ({name})")
        assert not pretrained
        return TimmNet(num_classes, in_chans)

    def from_pretrained(name: str, **options: Any) -> nn.Module:
        asked.append((name, options))
        return HubNet()

    timm, transformers = ModuleType("timm"), ModuleType("transformers")
    timm.create_model = create_model  # type: ignore[attr-defined]
    found = SimpleNamespace(from_pretrained=from_pretrained)
    transformers.AutoModelForImageClassification = found  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "timm", timm)
    monkeypatch.setitem(sys.modules, "transformers", transformers)
    return asked


@pytest.mark.usefixtures("packages")
def test_a_timm_network_is_as_wide_as_its_weights(tmp_path: Path) -> None:
    torch.save({"state_dict": TimmNet(5, 2).state_dict()}, tmp_path / "w.pt")
    module = load_module("timm:tiny", tmp_path / "w.pt")
    assert tuple(module(torch.zeros(1, 2, 9, 9)).shape) == (1, 5)
    with pytest.raises(ModelError, match=r"Unknown model \(huge\)"):
        load_module("timm:huge")
    card, _ = draft_card("timm:tiny", None, None, beside=tmp_path)
    assert (card.size, card.normalisation) == (24, Normalisation((0.5,), (0.25,), 255.0))


def test_a_hub_network_gives_its_logits_and_is_read_without_code(packages: list[Any]) -> None:
    module = load_module("hf:lab/blood").eval()
    assert packages == [("lab/blood", {"trust_remote_code": False, "use_safetensors": True})]
    assert tuple(module(torch.zeros(2, 1, 9, 9)).shape) == (2, 3)
    names = [layer.name for layer in find_layers(module, (1, 9, 9))]
    assert names == ["input", "stem", "pre_softmax", "logits"]
    card, _ = draft_card("hf:lab/blood", None, None, beside=Path())
    assert card.class_names == ("eosinophil", "lymphocyte", "monocyte")
    assert card.size == 28


@pytest.mark.parametrize("name", ["timm:resnet18", "hf:lab/blood"])
def test_a_package_that_is_missing_is_named(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for package in ("timm", "transformers"):
        monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(MissingExtra, match=r"pip install 'cytolens\[(timm|hf)\]'"):
        load_module(name)


def test_a_network_of_several_inputs_is_refused_in_one_line() -> None:
    from cytolens.classifier.wrapping import wrap

    class Two(nn.Module):
        def forward(self, image: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
            return image.mean((2, 3)) + mask.mean((2, 3))

    with pytest.raises(ModelError, match=r"takes 2 inputs \(image, mask\)"):
        wrap(Two(), class_names=("a", "b"), input_shape=(2, 8, 8))
