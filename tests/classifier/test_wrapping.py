import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from cytolens.classifier.factories import resolve_factory, source_files
from cytolens.classifier.model import untrained
from cytolens.classifier.wrapping import load_module, wrap
from cytolens.errors import ModelError

FACTORY = """
from torch import nn

def make():
    return nn.Sequential(nn.Flatten(), nn.Linear(16, 3))

def broken():
    raise ValueError("no such thing")

def number():
    return 3

def leaving():
    import sys
    sys.exit(7)

class Leaving(nn.Module):
    def forward(self, x):
        leaving()
"""


class Scaled(nn.Module):
    """A parameter of its own that no reset_parameters knows."""

    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.arange(16.0))
        self.out = nn.Linear(16, 2)

    def forward(self, x):
        return self.out(x.flatten(1) * self.scale)


class Recording(nn.Module):
    def forward(self, x):
        return {"logits": x.flatten(1)[:, :2]}


def linear(classes=3):
    return nn.Sequential(nn.Flatten(), nn.Linear(16, classes))


def abc(module, **options):
    return wrap(module, class_names=("a", "b", "c"), input_shape=(1, 4, 4), **options)


@pytest.fixture
def factory(tmp_path):
    path = tmp_path / "my_model.py"
    path.write_text(FACTORY)
    return f"{path}:make"


def test_any_module_can_be_wrapped_and_keeps_its_mode():
    module = linear().train()
    classifier = abc(module)
    assert module.training
    assert classifier.network is module
    assert classifier.channel_names == ("channel 1",)


@pytest.mark.parametrize(
    ("module", "message"),
    [
        (linear(2), r"must give logits \(2, 3\)"),
        (nn.Linear(7, 3), "cannot take crops"),
        (Recording(), "gives a dict"),
        (nn.Identity(), "must give logits"),
    ],
)
def test_a_module_that_does_not_fit_is_refused_in_one_line(module, message):
    with pytest.raises(ModelError, match=message) as caught:
        abc(module)
    assert "\n" not in str(caught.value)


def test_a_module_that_leaves_the_program_is_refused(factory):
    with pytest.raises(ModelError, match="cannot take crops"):
        abc(load_module(factory.removesuffix("make") + "Leaving"))


def test_broken_weights_and_odd_names_are_refused():
    module = linear()
    nn.init.constant_(module[1].bias, float("nan"))
    with pytest.raises(ModelError, match="NaN"):
        abc(module)
    with pytest.raises(ModelError, match="at least two"):
        wrap(linear(), class_names=("a",), input_shape=(1, 4, 4))
    with pytest.raises(ModelError, match="channel names"):
        abc(linear(), channel_names=("red", "green"))


def test_weights_are_loaded_from_safetensors_and_state_dicts(factory, tmp_path):
    state = linear().state_dict()
    save_file(state, tmp_path / "w.safetensors")
    torch.save({"state_dict": {f"module.{k}": v for k, v in state.items()}}, tmp_path / "w.pt")
    for name in ("w.safetensors", "w.pt"):
        module = load_module(factory, tmp_path / name)
        assert torch.equal(module[1].weight, state["1.weight"])


def test_a_whole_pickled_module_is_refused_unless_allowed(factory, tmp_path):
    torch.save(linear(), tmp_path / "whole.pt")
    with pytest.raises(ModelError, match="could run code"):
        load_module(factory, tmp_path / "whole.pt")
    module = load_module(factory, tmp_path / "whole.pt", allow_pickle=True)
    assert module[1].weight.shape == (3, 16)


@pytest.mark.parametrize(
    ("ending", "message"),
    [
        ("broken", "no such thing"),
        ("number", "gave a int"),
        ("leaving", "failed with SystemExit: 7"),
        ("absent", "no function"),
        ("", "no fa"),
    ],
)
def test_factories_that_fail_say_why(factory, ending, message):
    with pytest.raises(ModelError, match=message):
        load_module(factory.removesuffix("make") + ending)


def test_a_factory_means_the_same_from_any_folder(factory, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert resolve_factory("my_model.py:make") == factory
    assert resolve_factory(factory, base="/elsewhere") == factory
    assert resolve_factory("lab.networks:make") == "lab.networks:make"
    monkeypatch.chdir("/")
    assert load_module(resolve_factory("my_model.py:make", base=tmp_path))[1].out_features == 3
    for text in ("my_model.py", "my model:make", ":make", "lab..networks:make", "a.py:1"):
        with pytest.raises(ModelError, match="no factory"):
            resolve_factory(text)


def test_the_files_that_decide_a_network_are_named_and_no_code_is_run(tmp_path, monkeypatch):
    lab = tmp_path / "lab_of_test"
    lab.mkdir()
    (lab / "__init__.py").write_text("raise RuntimeError('run')")
    (lab / "networks.py").write_text(FACTORY)
    (tmp_path / "w.pt").write_bytes(b"weights")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)
    assert source_files("lab_of_test.networks:make") == [lab / "networks.py"]
    assert source_files("lab_of_test:make") == [lab / "__init__.py"]
    found = source_files("lab_of_test/networks.py:make", "w.pt")
    assert found == [lab / "networks.py", tmp_path / "w.pt"]
    for factory in ("lab_of_test.absent:make", "lab_of_test.networks.deeper:make", "gone.py:make"):
        with pytest.raises(ModelError, match=r"does not exist|can be imported"):
            source_files(factory)
    (lab / "__init__.py").write_text("")
    assert load_module("lab_of_test.networks:make")[1].out_features == 3


def test_files_that_are_missing_damaged_or_of_another_network_are_refused(factory, tmp_path):
    with pytest.raises(ModelError, match="does not exist"):
        load_module("nowhere.py:make")
    with pytest.raises(ModelError, match="does not exist"):
        load_module(factory, tmp_path / "absent.pt")
    for name in ("torn.pt", "torn.safetensors"):
        (tmp_path / name).write_bytes(b"nonsense")
        with pytest.raises(ModelError):
            load_module(factory, tmp_path / name)
    save_file(linear(2).state_dict(), tmp_path / "other.safetensors")
    with pytest.raises(ModelError, match="of another shape"):
        load_module(factory, tmp_path / "other.safetensors")
    save_file({"x": torch.zeros(1)}, tmp_path / "none.safetensors")
    with pytest.raises(ModelError, match="missing"):
        load_module(factory, tmp_path / "none.safetensors")


def test_the_untrained_control_has_new_weights_of_the_same_shape():
    module = Scaled()
    classifier = wrap(module, class_names=("a", "b"), input_shape=(1, 4, 4))
    before, state = torch.get_rng_state(), {k: v.clone() for k, v in module.state_dict().items()}
    crops = np.ones((3, 1, 4, 4), np.float32)
    control, same = (untrained(classifier, crops, rng=0).network.state_dict() for _ in range(2))
    assert torch.equal(torch.get_rng_state(), before)
    for name, value in state.items():
        assert torch.equal(module.state_dict()[name], value)
        assert torch.equal(control[name], same[name])
        assert not torch.equal(control[name], value)
    assert np.array_equal(np.sort(control["scale"].numpy()), np.arange(16.0))
