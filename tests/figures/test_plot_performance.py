from dataclasses import replace

import numpy as np
import pytest
from made_records import NAN, make_evaluation, make_history, texts

from cytolens.figures.performance import (
    plot_confusion,
    plot_measures,
    plot_reliability,
    plot_training,
)
from cytolens.numerics.estimates import Estimate
from cytolens.records.classifier import Checkpoint, TrainedNetwork

LONG = tuple(f"activated by a stimulus of long name {k}" for k in range(10))


def test_the_epoch_of_the_lowest_validation_loss_is_marked() -> None:
    history = make_history(30)
    best = int(np.argmin([entry["validation_loss"] for entry in history]))
    assert f"kept: epoch {best + 1}" in texts(plot_training(history))


def test_what_training_gives_is_drawn_as_its_history_is() -> None:
    network = TrainedNetwork(Checkpoint({}, {}), make_history(5))
    assert texts(plot_training(network)) == texts(plot_training(make_history(5)))


@pytest.mark.parametrize(
    "history",
    [
        (),
        ({"epoch": 1.0, "training_loss": 0.5},),
        ({"training_loss": NAN, "validation_loss": NAN},) * 3,
        ({"train_loss": 1.0, "validation_loss": 1.0, "validation_auc": 0.5},) * 2,
    ],
)
def test_short_and_odd_histories_are_drawn(history: tuple[dict[str, float], ...]) -> None:
    assert texts(plot_training(history))


@pytest.mark.parametrize("classes", [2, 5, 10])
def test_confusion_shows_shares_and_numbers(classes: int) -> None:
    evaluation = make_evaluation(classes, good=0.5)
    written = texts(plot_confusion(evaluation, LONG[:classes]))
    assert sum("%" in text for text in written) == classes**2


def test_a_class_without_test_cells_has_no_share() -> None:
    evaluation = replace(make_evaluation(), confusion=np.array([[0, 0], [3, 7]]))
    assert "0 %\n0" in texts(plot_confusion(evaluation, ("a", "b")))


def test_reliability_copes_with_empty_bins_and_with_none() -> None:
    evaluation = make_evaluation()
    assert texts(plot_reliability(evaluation))
    assert texts(plot_reliability(replace(evaluation, reliability=np.zeros((0, 3)))))


def test_measures_show_network_folds_and_baseline() -> None:
    folds = {str(k): make_evaluation(good=0.7 + 0.02 * k) for k in range(4)}
    figure = plot_measures(
        make_evaluation(),
        make_evaluation(good=0.64),
        make_evaluation(good=0.8).measures,
        fold_evaluations=folds,
    )
    written = texts(figure)
    assert {"0.86 [0.82, 0.90]", "0.64 [0.60, 0.68]", "0.80 [0.76, 0.84]"} <= set(written)
    assert {"network, test cells", "linear baseline on pixels", "lower is better"} <= set(written)


def test_a_measure_without_a_number_is_left_out() -> None:
    measures = {"auc": Estimate(NAN, NAN, NAN), "accuracy": Estimate(0.7, NAN, NAN)}
    written = texts(plot_measures(replace(make_evaluation(), measures=measures)))
    assert "0.70" in written
    assert not any("nan" in text.lower() for text in written)
