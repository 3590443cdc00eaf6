import numpy as np
import pytest
import torch
from optimised_networks import Functional, tiny
from torch import Tensor, nn

from cytolens.errors import SettingError
from cytolens.features.importance import measure_ablation

CELLS = np.random.default_rng(0).random((13, 1, 16, 16), dtype=np.float32)


class Skip(nn.Module):
    """A network that cannot go on from ``branch`` with another number of images."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.ReLU())
        self.branch = nn.Sequential(nn.Conv2d(4, 4, 3, padding=1), nn.ReLU())
        self.last = nn.Sequential(nn.Conv2d(4, 4, 3, padding=1), nn.ReLU())
        self.logits = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        stem = self.stem(x)
        return self.logits(self.last(stem + self.branch(stem)).mean((2, 3)))


def by_hand(before, after, *, cells: np.ndarray = CELLS) -> np.ndarray:
    """The same, one channel at a time: the values at the layer, and what follows on them."""
    with torch.no_grad():
        values = before(torch.from_numpy(cells))
        logits = after(values)
        given = logits.argmax(1)[:, None]

        def decision(logits: Tensor) -> Tensor:
            own = logits.gather(1, given)[:, 0]
            return own - (logits.sum(1) - own) / (logits.shape[1] - 1)

        changes = []
        for channel in range(values.shape[1]):
            changed = values.clone()
            changed[:, channel] = values[:, channel].mean(0)
            changes.append((decision(after(changed)) - decision(logits)).abs().mean().item())
    return np.array(changes)


def test_ablation_of_a_linear_network_is_weight_times_departure_from_the_mean() -> None:
    weight = torch.tensor([[1.0, -2.0, 0.0], [-1.0, 1.0, 0.0]])
    model = nn.Sequential(nn.Flatten(), nn.Linear(3, 3), nn.Linear(3, 2))
    with torch.no_grad():
        model[1].weight.copy_(torch.eye(3))
        model[1].bias.zero_()
        model[2].weight.copy_(weight)
        model[2].bias.zero_()
    cells = np.random.default_rng(1).normal(size=(50, 1, 1, 3)).astype(np.float32)
    features = cells.reshape(50, 3).astype(np.float64)
    departure = np.abs(features - features.mean(0)).mean(0)
    expected = departure * np.abs(weight[0] - weight[1]).numpy()
    found = measure_ablation(model, cells, layer="1", batch_size=16)
    assert np.allclose(found, expected, rtol=1e-4)
    assert found[2] == 0


@pytest.mark.parametrize(("layer", "at"), [("conv1", 1), ("conv2", 3), ("hidden", 6)])
@pytest.mark.parametrize("batch_size", [4, 128])
def test_ablation_at_every_depth_is_that_of_one_channel_at_a_time(layer, at, batch_size) -> None:
    model = tiny()
    found = measure_ablation(model, CELLS, layer=layer, batch_size=batch_size)
    name = "pre_softmax" if layer == "hidden" else layer
    assert np.allclose(found, by_hand(model[:at], model[at:]), rtol=1e-3, atol=1e-6), name


def test_a_network_with_a_skip_connection_is_run_from_the_start() -> None:
    torch_state = torch.random.get_rng_state()
    torch.manual_seed(0)
    model = Skip().eval()
    torch.random.set_rng_state(torch_state)
    stems: list[Tensor] = []

    def before(x: Tensor) -> Tensor:
        stems[:] = [model.stem(x)]
        return model.branch(stems[0])

    def after(branch: Tensor) -> Tensor:
        return model.logits(model.last(stems[0] + branch).mean((2, 3)))

    found = measure_ablation(model, CELLS, layer="branch")
    assert np.allclose(found, by_hand(before, after), rtol=1e-3, atol=1e-6)


def test_a_non_linearity_that_is_a_function_is_seen_through() -> None:
    model = Functional().eval()
    before = lambda x: torch.relu(model.norm(model.conv(x)))  # noqa: E731
    expected = by_hand(before, lambda maps: model.logits(maps.mean((2, 3))))
    assert np.allclose(measure_ablation(model, CELLS, layer="conv"), expected, rtol=1e-3, atol=1e-6)


def test_some_channels_can_be_chosen_and_only_known_ones() -> None:
    model = tiny()
    every = measure_ablation(model, CELLS, layer="conv2")
    assert np.allclose(
        measure_ablation(model, CELLS, layer="conv2", channels=[4, 1]), every[[4, 1]], rtol=1e-4
    )
    with pytest.raises(SettingError, match="channels 0 to 5"):
        measure_ablation(model, CELLS, layer="conv2", channels=[6])


def test_the_model_is_left_as_found() -> None:
    model = tiny().train()
    weights = {name: value.clone() for name, value in model.state_dict().items()}
    measure_ablation(model, CELLS, layer="conv1")
    assert model.training
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())
    assert all(torch.equal(weights[name], value) for name, value in model.state_dict().items())
