from dataclasses import replace

import numpy as np
import pytest
import torch
from made_cells import make_cells
from torch import nn

from cytolens.classifier import training as loop
from cytolens.classifier.augmentation import Augmentation
from cytolens.classifier.baseline import linear_baseline
from cytolens.classifier.crossvalidation import cross_validate
from cytolens.classifier.evaluation import measure
from cytolens.classifier.model import predict
from cytolens.classifier.splitting import split_cells
from cytolens.classifier.training import TrainingSettings, train
from cytolens.errors import ModelError, SettingError
from cytolens.records.cells import Split

SMALL = TrainingSettings(
    epochs=6,
    batch_size=12,
    width=4,
    pre_softmax=8,
    learning_rate=0.01,
    averaging=0.8,
    augmentation=Augmentation(rotation=0, shift=1),
)


def weights(training):
    return torch.cat([v.flatten().double() for v in training.model.network.state_dict().values()])


@pytest.fixture
def trained(spots):
    return train(spots, settings=SMALL, rng=0)


def test_it_learns_what_can_be_learnt(spots, trained):
    test = spots.subset(trained.split.test)
    probabilities = predict(trained.model, test)
    assert probabilities.dtype == np.float32
    np.testing.assert_allclose(probabilities.sum(1), 1, atol=1e-5)
    assert measure(probabilities, test.labels)["balanced_accuracy"] > 0.9


def test_same_seed_same_weights_and_nothing_global_is_touched(spots, trained):
    before = torch.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
    again, other = (train(spots, settings=SMALL, rng=seed) for seed in (0, 1))
    assert torch.equal(weights(trained), weights(again))
    assert trained.history == again.history
    assert not torch.equal(weights(trained), weights(other))
    assert torch.equal(torch.get_rng_state(), before[0])
    assert np.array_equal(np.random.get_state()[1], before[1])  # noqa: NPY002


def test_steps_in_bfloat16_teach_as_much_and_leave_a_network_in_float32(spots, trained):
    full, half = (
        train(spots, settings=replace(SMALL, precision=way), rng=0)
        for way in ("float32", "bfloat16")
    )
    test = spots.subset(half.split.test)
    assert measure(predict(half.model, test), test.labels)["balanced_accuracy"] > 0.9
    assert all(v.dtype != torch.bfloat16 for v in half.model.network.state_dict().values())
    assert not torch.equal(weights(full), weights(half))
    np.testing.assert_allclose(weights(full), weights(half), atol=0.5)
    own = trained.model.spec["training"]["precision"]
    assert torch.equal(weights(trained), weights(half if own == "bfloat16" else full))


def test_bfloat16_is_for_the_reference_network_on_a_processor_that_computes_in_it(
    spots, monkeypatch
):
    def chosen(**options):
        settings = replace(SMALL, epochs=1)
        made = train(spots, settings=settings, rng=0, device="cpu", **options)
        return made.model.spec["training"]["precision"]

    monkeypatch.setattr(loop, "computes_bfloat16", lambda: True)
    own = nn.Sequential(nn.Conv2d(1, 4, 5), nn.ReLU(), nn.Flatten(), nn.Linear(576, 2))
    assert chosen() == "bfloat16"
    assert chosen(architecture=own) == "float32"
    monkeypatch.setattr(loop, "computes_bfloat16", lambda: False)
    assert chosen() == "float32"


def test_cells_are_mixed_with_others_of_their_batch_and_still_learnt(spots, trained):
    mixed = replace(SMALL, augmentation=replace(SMALL.augmentation, mixup=0.2))
    made, again = (train(spots, settings=mixed, rng=0) for _ in range(2))
    assert torch.equal(weights(made), weights(again))
    assert not torch.equal(weights(made), weights(trained))
    test = spots.subset(made.split.test)
    assert measure(predict(made.model, test), test.labels)["auc"] > 0.95
    usual = train(spots, settings=replace(SMALL, epochs=1, augmentation=None), rng=0)
    assert usual.model.spec["training"]["augmentation"]["mixup"] > 0  # they are of groups


def test_the_best_epoch_s_weights_stay(spots, trained):
    validation = spots.subset(trained.split.validation)
    found = loop._validate(predict(trained.model, validation), validation.labels)
    least = min(entry["validation_loss"] for entry in trained.history)
    assert found["validation_loss"] == pytest.approx(least, rel=1e-5)


def test_training_stops_when_validation_no_longer_improves(spots):
    noise = replace(spots, labels=np.random.default_rng(0).integers(0, 2, len(spots)))
    hasty = replace(SMALL, epochs=60, patience=2)
    history = train(noise, settings=hasty, rng=0).history
    losses = [entry["validation_loss"] for entry in history]
    assert len(history) < 60
    assert len(history) - (int(np.argmin(losses)) + 1) == 2


def test_progress_tells_the_accuracy_and_the_time_left(spots):
    told = []
    train(spots, settings=replace(SMALL, epochs=2), rng=0, progress=lambda *a: told.append(a))
    assert [(done, total) for done, total, _ in told] == [(1, 2), (2, 2)]
    assert "validation balanced accuracy" in told[0][2]
    assert "left" in told[0][2]


def test_the_trained_network_is_ready_to_be_looked_at(trained):
    network = trained.model.network
    assert not network.training
    assert not any(parameter.requires_grad for parameter in network.parameters())
    assert trained.model.preparation is not None


@pytest.mark.parametrize("steps", range(1, 7))
def test_a_cycle_of_any_length_is_trained(steps, spots):
    settings = replace(SMALL, epochs=1, batch_size=8, epoch_cells=8 * steps)
    history = train(spots, settings=settings, rng=0).history
    assert np.isfinite(history[0]["training_loss"])


def test_crops_that_do_not_fit_into_memory_are_read_batch_by_batch(spots, trained, monkeypatch):
    monkeypatch.setattr(loop, "IN_MEMORY", 0)
    spots.images.reads = 0
    streamed = train(spots, settings=SMALL, rng=0)
    assert spots.images.reads > 12
    assert torch.equal(weights(streamed), weights(trained))


def test_of_crops_that_do_not_fit_into_memory_some_are_drawn(spots, monkeypatch):
    """As evenly from the classes as their numbers allow; each as it is in the files."""
    each = int(np.prod(spots.shape)) * np.dtype(spots.preparation.dtype).itemsize
    monkeypatch.setattr(loop, "IN_MEMORY", 24 * each)
    monkeypatch.setattr(loop, "VALIDATED", 6)
    settings = replace(SMALL, epochs=2, batch_size=6, epoch_cells=6)
    made = train(spots, settings=settings, rng=0)
    assert made.pool == 24 < len(made.split.train)
    again = train(spots, settings=settings, rng=0)
    assert torch.equal(weights(made), weights(again))


def test_a_rare_class_counts_as_much_as_a_common_one(spots):
    cells = spots.subset(np.r_[np.flatnonzero(spots.labels == 0), np.array([1, 25, 49, 73])])
    found = loop._loss_weights(cells, "class")
    assert found[cells.labels == 0].sum() == pytest.approx(found[cells.labels == 1].sum(), rel=1e-5)
    assert found.mean() == pytest.approx(1)
    assert set(loop._loss_weights(cells, "none")) == {1}


def test_a_training_part_without_a_class_is_refused(spots):
    one_class = np.flatnonzero(spots.labels == 0)
    split = Split(one_class, np.array([], dtype=int), np.flatnonzero(spots.labels == 1))
    with pytest.raises(SettingError, match="class 1"):
        train(spots, split=split, settings=SMALL, rng=0)


@pytest.mark.parametrize(
    "wrong",
    [
        {"epochs": 0},
        {"learning_rate": 0.0},
        {"averaging": 1.0},
        {"balance": "x"},
        {"batch_size": 1},
    ],
)
def test_settings_out_of_range_are_refused(spots, wrong):
    with pytest.raises(SettingError, match=next(iter(wrong))):
        train(spots, settings=replace(SMALL, **wrong), rng=0)


def test_crops_of_another_shape_are_refused(trained):
    with pytest.raises(ModelError, match="read them with the size"):
        predict(trained.model, make_cells(np.zeros((4, 1, 8, 8)), [0, 1, 0, 1]))


def test_predict_gives_the_same_in_any_batch_size_and_leaves_the_mode(spots, trained):
    trained.model.network.train()
    one, other = (predict(trained.model, spots, batch_size=size) for size in (7, 96))
    np.testing.assert_allclose(one, other, atol=1e-5)
    assert trained.model.network.training


def test_the_linear_baseline_sees_brightness_and_not_grain(spots):
    split = split_cells(spots, rng=0)
    labels = spots.labels[split.test]
    draw = np.random.default_rng(0)
    images = draw.normal(size=(len(spots), 2, 70, 40)) + spots.labels[:, None, None, None]
    bright = make_cells(images, spots.labels, groups=spots.groups)
    assert measure(linear_baseline(bright, split, rng=0), labels)["accuracy"] == 1
    grain = draw.normal(size=(len(spots), 1, 16, 16)) * (1 + spots.labels[:, None, None, None])
    mute = make_cells(grain, spots.labels, groups=spots.groups)
    assert measure(linear_baseline(mute, split, rng=0), labels)["auc"] < 0.8


def test_every_fold_is_judged_by_a_network_that_has_not_seen_it(spots):
    told = []
    settings = replace(SMALL, epochs=3)
    folds = cross_validate(
        spots, settings=settings, resamples=50, rng=0, progress=lambda *a: told.append(a)
    )
    assert folds.names == ("0", "1", "2", "3")
    mean = np.mean([e.measures["accuracy"].value for e in folds.evaluations])
    assert folds.measures["accuracy"].value == pytest.approx(mean)
    assert folds.measures["accuracy"].value > 0.7
    assert np.isfinite(folds.probabilities).all()
    assert told[-1][:2] == (12, 12)
    again = cross_validate(spots, settings=settings, resamples=50, rng=0)
    np.testing.assert_allclose(folds.probabilities, again.probabilities, atol=1e-5)


def test_labels_without_meaning_give_chance_in_the_folds(spots):
    noise = replace(spots, labels=np.random.default_rng(0).permutation(spots.labels))
    folds = cross_validate(noise, folds=2, settings=replace(SMALL, epochs=2), resamples=50, rng=0)
    assert 0.3 < folds.measures["auc"].value < 0.7
