"""Weights as people save them: nested, with prefixes, with other things beside them."""

import re
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from cytolens.classifier.weights import load_weights, read_weights
from cytolens.errors import ModelError


def network(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Flatten(), nn.Linear(8, 2))


STATE = network(1).state_dict()


def under(prefix: str) -> dict[str, Any]:
    return {f"{prefix}{name}": value for name, value in STATE.items()}


SAVED = {
    "plain": STATE,
    "state_dict": {"state_dict": STATE, "epoch": 3},
    "model": {"model": STATE, "optimizer": {"lr": 0.1}, "best": torch.tensor(1.0)},
    "twice nested": {"checkpoint": {"model_state_dict": STATE}},
    "DataParallel": under("module."),
    "compiled": under("_orig_mod."),
    "Lightning": {"state_dict": {**under("model.net."), "criterion.weight": torch.ones(2)}},
    "an average beside": {"ema": {"shadow": torch.ones(1)}, "net": STATE},
    "without counters": {n: v for n, v in STATE.items() if "num_batches" not in n},
}


@pytest.mark.parametrize("kind", SAVED)
def test_weights_are_found_wherever_a_training_script_puts_them(kind: str, tmp_path: Path) -> None:
    file = tmp_path / "weights.pt"
    torch.save(SAVED[kind], file)
    module = network()
    load_weights(module, read_weights(file), source="'weights.pt'")
    for name, value in STATE.items():
        assert torch.equal(module.state_dict()[name], value), name


def test_safetensors_with_a_prefix(tmp_path: Path) -> None:
    save_file({n: v.clone() for n, v in under("module.").items()}, tmp_path / "w.safetensors")
    module = network()
    load_weights(module, read_weights(tmp_path / "w.safetensors"), source="it")
    assert torch.equal(module[0].weight, STATE["0.weight"])  # pyright: ignore


def test_weights_that_do_not_fit_say_what_was_found_and_what_is_wrong() -> None:
    other = nn.Sequential(nn.Conv2d(3, 2, 3)).state_dict()
    with pytest.raises(ModelError) as caught:
        load_weights(network(), {"model": other, "epoch": 3}, source="'w.pt'")
    text = str(caught.value)
    assert "keys model: 2 weights, epoch" in text
    assert "0.weight 2×3×3×3 for 2×1×3×3 of another shape" in text
    assert "1.bias, 1.running_mean, 1.running_var and 3 more missing" in text
    assert "\n" not in text


def test_a_file_without_weights_names_its_keys() -> None:
    with pytest.raises(ModelError, match="it holds keys epoch, history"):
        load_weights(network(), {"epoch": 3, "history": [1, 2]}, source="'w.pt'")


@pytest.mark.parametrize("name", ["net.pt2", "net.ts", "net.onnx"])
def test_exported_programs_are_code_and_not_opened(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(b"PK\3\4")
    with pytest.raises(ModelError, match=re.escape("exported program, which is code")):
        read_weights(tmp_path / name, allow_pickle=True)
