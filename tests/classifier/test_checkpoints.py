import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from cytolens.classifier.checkpoints import from_checkpoint, to_checkpoint
from cytolens.classifier.model import Classifier, predict, untrained
from cytolens.classifier.networks import build_network
from cytolens.classifier.wrapping import wrap
from cytolens.errors import ModelError
from cytolens.records.classifier import Checkpoint


def reference(cells):
    network = build_network(cells.shape, 2, seed=5, width=4, pre_softmax=6)
    return Classifier(
        network=network.eval(),
        class_names=cells.class_names,
        channel_names=cells.channel_names,
        input_shape=cells.shape,
        preparation=cells.preparation,
        spec={"kind": "CellNet", "network": network.arguments},
    )


def through_json(checkpoint):
    return Checkpoint(checkpoint.weights, json.loads(json.dumps(checkpoint.spec)))


def test_the_reference_network_comes_back_bit_by_bit(spots):
    classifier = reference(spots)
    before = torch.get_rng_state()
    back = from_checkpoint(through_json(to_checkpoint(classifier)))
    assert torch.equal(torch.get_rng_state(), before)
    assert np.array_equal(predict(back, spots), predict(classifier, spots))
    for name in ("class_names", "channel_names", "input_shape", "preparation", "spec"):
        assert getattr(back, name) == getattr(classifier, name)


def test_a_checkpoint_is_a_copy(spots):
    classifier = reference(spots)
    checkpoint = to_checkpoint(classifier)
    kept = checkpoint.weights["logits.weight"].copy()
    nn.init.zeros_(classifier.network.logits.weight)
    assert np.array_equal(checkpoint.weights["logits.weight"], kept)


def test_a_wrapped_module_is_handed_in_and_no_code_is_run_because_a_checkpoint_names_it(tmp_path):
    (tmp_path / "mine.py").write_text(f"open({str(tmp_path / 'was_run')!r}, 'w')")
    module = nn.Sequential(nn.Flatten(), nn.Linear(9, 2))
    plain = wrap(module, class_names="ab", input_shape=(1, 3, 3))
    named = replace(plain, spec={**plain.spec, "factory": f"{tmp_path / 'mine.py'}:make"})
    for classifier in (plain, named):
        with pytest.raises(ModelError, match="module="):
            from_checkpoint(through_json(to_checkpoint(classifier)))
    assert not (tmp_path / "was_run").exists()
    blank = nn.Sequential(nn.Flatten(), nn.Linear(9, 2))
    back = from_checkpoint(through_json(to_checkpoint(plain)), module=blank)
    assert torch.equal(back.network[1].weight, module[1].weight)
    assert not back.network.training


def test_half_precision_weights_survive():
    module = nn.Sequential(nn.Flatten(), nn.Linear(9, 2)).to(torch.bfloat16)
    weights = to_checkpoint(
        Classifier(module, ("a", "b"), ("c",), (1, 3, 3), spec={"kind": "wrapped"})
    ).weights
    assert np.array_equal(weights["1.weight"], module[1].weight.detach().float().numpy())


def test_a_checkpoint_from_the_future_or_with_foreign_weights_is_refused(spots):
    checkpoint = to_checkpoint(reference(spots))
    with pytest.raises(ModelError, match="update cytolens"):
        from_checkpoint(Checkpoint(checkpoint.weights, {**checkpoint.spec, "version": 99}))
    with pytest.raises(ModelError, match="do not fit"):
        from_checkpoint(Checkpoint({}, checkpoint.spec))


def test_the_untrained_reference_is_drawn_as_a_new_one_would_be(spots):
    classifier = reference(spots)
    control = untrained(classifier, spots, rng=1).network
    weight = control.conv3.conv.weight
    assert float(weight.detach().std()) == pytest.approx((2 / (4 * 9)) ** 0.5, rel=0.15)
    assert not torch.equal(weight, classifier.network.conv3.conv.weight)


def test_the_untrained_control_normalises_the_cells_it_is_given(spots):
    classifier = reference(spots)
    control, again = (untrained(classifier, cells, rng=1) for cells in (spots, np.asarray(spots)))
    values = []
    for module in control.network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.register_forward_hook(lambda module, args, output: values.append(output))
    predicted = predict(control, spots, batch_size=len(spots))
    values = [value for value in values if len(value) == len(spots)]  # not of two blank crops
    for normalised in values:
        assert torch.allclose(normalised.mean((0, 2, 3)), torch.zeros(()), atol=1e-3)
        assert torch.allclose(normalised.std((0, 2, 3)), torch.ones(()), atol=1e-2)
    assert len(values) == 4
    assert np.array_equal(predicted, predict(again, spots, batch_size=len(spots)))
    assert not any(module.training for module in control.network.modules())
    momenta = {m.momentum for m in control.network.modules() if isinstance(m, nn.BatchNorm2d)}
    assert momenta == {0.1}


def test_calibrating_leaves_what_the_network_was_and_needs_two_cells(spots):
    classifier = reference(spots)
    before = {name: value.clone() for name, value in classifier.network.state_dict().items()}
    untrained(classifier, spots, rng=1)
    for name, value in classifier.network.state_dict().items():
        assert torch.equal(value, before[name])
    alone = untrained(classifier, spots[:1], rng=1).network
    assert all(torch.all(m.running_var == 1) for m in alone.modules() if hasattr(m, "running_var"))
