import numpy as np
import pytest
import torch
from optimised_networks import Functional, tiny

from cytolens.errors import SettingError
from cytolens.features.importance import measure_contributions, measure_importance

CELLS = np.random.default_rng(0).random((12, 1, 16, 16), dtype=np.float32)


def test_contributions_of_the_last_hidden_layer_are_weight_times_activation() -> None:
    model = tiny(classes=2)
    found = measure_contributions(model, CELLS, layer="pre_softmax", batch_size=5)
    with torch.no_grad():
        hidden = model[:-1](torch.from_numpy(CELLS))
        logits = model.logits(hidden)
        weight = model.logits.weight.detach()
    sign = torch.where(logits[:, 0] > logits[:, 1], 1.0, -1.0)[:, None]
    assert np.allclose(found, sign * hidden * (weight[0] - weight[1]), atol=1e-6)
    assert np.allclose(
        measure_importance(model, CELLS, layer="pre_softmax"), np.abs(found).mean(0), atol=1e-6
    )


def test_a_channel_that_nothing_reads_has_no_importance() -> None:
    model = tiny()
    with torch.no_grad():
        model.hidden.linear.weight[:, 3] = 0
    importance = measure_importance(model, CELLS, layer="conv2")
    assert importance.shape == (6,)
    assert importance[3] == 0
    assert (np.delete(importance, 3) > 0).any()


def test_a_functional_non_linearity_is_seen_through() -> None:
    model = Functional()
    found = measure_contributions(model, CELLS, layer="conv")
    with torch.no_grad():
        model.eval()
        hidden = torch.relu(model.norm(model.conv(torch.from_numpy(CELLS)))).mean((2, 3))
        logits = model.logits(hidden)
        weight = model.logits.weight.detach()
    sign = torch.where(logits[:, 0] > logits[:, 1], 1.0, -1.0)[:, None]
    assert np.allclose(found, sign * hidden * (weight[0] - weight[1]), atol=1e-6)


def test_the_model_stays_in_its_mode_and_settings_are_checked() -> None:
    model = tiny().train()
    measure_importance(model, CELLS, layer="conv1")
    assert model.training
    assert all(parameter.requires_grad for parameter in model.parameters())
    with pytest.raises(SettingError, match="at least 1"):
        measure_importance(model, CELLS, layer="conv1", batch_size=0)
