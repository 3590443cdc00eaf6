import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics
from torch import nn

from cytolens.classifier.evaluation import compare, evaluate, mean_over_folds, measure
from cytolens.classifier.model import predict
from cytolens.classifier.training import TrainingSettings, train
from cytolens.classifier.wrapping import wrap_for
from cytolens.errors import InputError
from cytolens.numerics.estimates import bootstrap


def made(n=200, k=2, seed=0, decimals=2):
    draw = np.random.default_rng(seed)
    labels = draw.integers(0, k, n)
    logits = draw.normal(size=(n, k)) + 1.2 * (labels[:, None] == np.arange(k))
    p = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    p = p.round(decimals) + 1e-6  # ties
    return p / p.sum(1, keepdims=True), labels


@settings(max_examples=20, deadline=None)
@given(k=st.integers(2, 5), seed=st.integers(0, 1000))
def test_measures_agree_with_scikit_learn(k, seed):
    p, labels = made(k=k, seed=seed)
    found, guess = measure(p, labels), p.argmax(1)
    assert found["accuracy"] == pytest.approx(metrics.accuracy_score(labels, guess))
    assert found["balanced_accuracy"] == pytest.approx(
        metrics.balanced_accuracy_score(labels, guess)
    )
    score = p[:, 1] if k == 2 else p
    assert found["auc"] == pytest.approx(
        metrics.roc_auc_score(labels, score, multi_class="ovr"), abs=1e-9
    )
    assert found["log_loss"] == pytest.approx(metrics.log_loss(labels, p))
    if k == 2:
        assert found["brier"] == pytest.approx(metrics.brier_score_loss(labels, p[:, 1]))
    evaluation = evaluate(p, labels, resamples=2, rng=0)
    assert np.array_equal(evaluation.confusion, metrics.confusion_matrix(labels, guess))


def test_reliability_bins_hold_all_cells_and_give_the_calibration_error():
    p, labels = made(500)
    evaluation = evaluate(p, labels, resamples=10, rng=0)
    table = evaluation.reliability
    assert table[:, 2].sum() == 500
    filled = table[table[:, 2] > 0]
    error = (np.abs(filled[:, 0] - filled[:, 1]) * filled[:, 2]).sum() / 500
    assert evaluation.measures["calibration_error"].value == pytest.approx(error)


def test_a_perfect_and_a_reversed_classifier():
    labels = np.arange(40) % 2
    truth = np.eye(2)[labels]
    perfect, reversed_ = measure(truth, labels), measure(1 - truth, labels)
    assert perfect["auc"] == perfect["accuracy"] == 1
    assert perfect["brier"] == perfect["calibration_error"] == 0
    assert reversed_["auc"] == reversed_["accuracy"] == 0


def test_intervals_hold_the_value_and_match_the_plain_bootstrap():
    p, labels = made(150)
    found = evaluate(p, labels, rng=0).measures
    assert all(
        estimate.low <= estimate.value <= estimate.high
        for name, estimate in found.items()
        if name != "calibration_error"
    )
    plain = bootstrap(
        lambda index: metrics.roc_auc_score(labels[index], p[index, 1]), 150, resamples=400, rng=1
    )
    assert found["auc"].low == pytest.approx(plain.low, abs=0.02)
    assert found["auc"].high == pytest.approx(plain.high, abs=0.02)


def test_intervals_over_groups_are_wider_where_groups_differ():
    labels = np.arange(400) % 2
    groups = np.repeat(np.arange(4), 100)
    right = np.random.default_rng(0).random(400) < np.array([0.99, 0.9, 0.7, 0.6])[groups]
    p = np.where((labels == right)[:, None], [0.3, 0.7], [0.7, 0.3])
    cells = evaluate(p, labels, rng=0)
    donors = evaluate(p, labels, groups=groups, rng=0)
    width = [e.measures["accuracy"].high - e.measures["accuracy"].low for e in (cells, donors)]
    assert width[1] > 2 * width[0]
    assert "4 groups" in donors.note
    one = evaluate(p, labels, groups=np.full(400, "donor_3"), rng=0)
    assert "no interval over groups: 1 group" in one.note
    assert one.measures["accuracy"].no_interval == "1 group"


def test_a_class_without_cells_leaves_auc_undefined():
    p, labels = made(30)
    assert np.isnan(measure(p, np.zeros_like(labels))["auc"])
    assert np.isfinite(measure(p, np.zeros_like(labels))["balanced_accuracy"])


def test_same_seed_same_intervals():
    p, labels = made(80)
    assert evaluate(p, labels, rng=3).measures == evaluate(p, labels, rng=3).measures


def test_a_hundred_thousand_cells_are_no_trouble():
    p, labels = made(100_000, decimals=6)
    found = evaluate(p, labels, resamples=20, rng=0).measures["auc"]
    assert found.high - found.low < 0.01


def test_the_mean_over_folds_has_an_interval_over_folds():
    made_up = [made(100, seed=seed) for seed in range(4)]
    values = [measure(*fold) for fold in made_up]
    mean = mean_over_folds(values)["auc"]
    assert mean.value == pytest.approx(np.mean([value["auc"] for value in values]))
    assert mean.low < mean.value < mean.high
    assert mean_over_folds(values[:2])["auc"].no_interval == "2 folds"


def test_what_is_hard_for_both_does_not_hide_that_one_is_ahead():
    labels = np.arange(800) % 2
    groups = np.repeat(np.arange(8), 100)
    rng = np.random.default_rng(0)
    share = np.linspace(0.55, 0.95, 8)[groups]  # groups differ in difficulty
    hard = rng.random(800)
    both = [
        np.where((labels == (hard < rate))[:, None], [0.3, 0.7], [0.7, 0.3])
        for rate in (share + 0.04, share)
    ]
    apart = [evaluate(p, labels, groups=groups, rng=0).measures["accuracy"] for p in both]
    assert apart[0].low < apart[1].high  # the intervals overlap
    ahead = compare(*both, labels, groups=groups, rng=0)["accuracy"]
    assert ahead.low > 0
    assert ahead.value == pytest.approx(apart[0].value - apart[1].value)
    of_cells = compare(*both, labels, rng=0)["accuracy"]
    assert of_cells.low > 0
    back = compare(both[1], both[0], labels, rng=0)["accuracy"]
    assert back.high == pytest.approx(-of_cells.low)
    two = compare(*both, labels, groups=groups % 2, rng=0)["accuracy"]
    assert two.no_interval == "2 groups"


def test_a_class_of_one_group_only_leaves_no_interval_over_groups():
    p, labels = made(90)
    groups = np.where(labels == 1, 0, 1 + np.arange(90) % 3)
    found = evaluate(p, labels, groups=groups, rng=0).measures
    assert found["balanced_accuracy"].no_interval == "not defined without one group"
    assert found["accuracy"].known


@pytest.mark.parametrize(
    ("p", "labels"),
    [
        (np.ones((3, 2)) / 2, np.zeros(2, dtype=int)),
        (np.ones((2, 2)) / 2, np.array([0, 2])),
        (np.full((2, 2), np.nan), np.array([0, 1])),
        (np.ones((0, 2)), np.zeros(0, dtype=int)),
    ],
)
def test_what_does_not_fit_is_refused(p, labels):
    with pytest.raises(InputError):
        evaluate(p, labels)


def test_a_network_is_evaluated_on_cells_with_their_labels_and_groups(spots):
    torch.manual_seed(0)
    module = nn.Sequential(nn.Flatten(), nn.Linear(256, 2)).train()
    classifier = wrap_for(module, spots)
    by_hand = evaluate(predict(classifier, spots), spots.labels, groups=spots.groups, rng=0)
    for network in (classifier, module):
        found = evaluate(network, spots, rng=0)
        assert found.measures == by_hand.measures
        assert found.note == by_hand.note
    assert module.training


def test_a_network_that_was_moved_for_its_predictions_can_be_trained_again(spots, monkeypatch):
    """A move gives a module new weights; made in inference mode they could never be trained."""

    def move(module, *_):
        for part in module.modules():
            for name, weight in list(part.named_parameters(recurse=False)):
                setattr(part, name, nn.Parameter(weight.clone(), weight.requires_grad))
        return module

    classifier = train(spots, settings=TrainingSettings(epochs=1), rng=0).model
    expected = predict(classifier, spots)
    monkeypatch.setattr(nn.Module, "to", move)
    assert np.array_equal(predict(classifier, spots, device="cpu"), expected)
    classifier.network.requires_grad_(True)
    classifier.network(torch.from_numpy(spots.read(slice(0, 4)))).sum().backward()
