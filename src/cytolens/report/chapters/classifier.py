"""The chapter on the classifier: how well it does on cells that it has not seen."""

from collections.abc import Iterable, Iterator, Mapping
from functools import partial

import numpy as np

from cytolens.figures.labels import format_interval, measure_name
from cytolens.figures.performance import (
    plot_confusion,
    plot_measures,
    plot_reliability,
    plot_training,
)
from cytolens.numerics.estimates import Estimate
from cytolens.records.cells import Split
from cytolens.records.classifier import Evaluation, Folds, Predictions, TrainedNetwork
from cytolens.report.chapter import Chapter, Drawing
from cytolens.report.findings import folds_by_group, tested_groups
from cytolens.report.page import ReportTable
from cytolens.report.results import Results


def figures(results: Results) -> Iterator[Drawing]:
    """Measures, confusion, calibration and training curves."""
    found, folds = results.read("evaluation", Predictions), results.read("folds", Folds)
    if found is not None:
        test = found.test
        plot = partial(
            plot_measures, test, found.baseline, None if folds is None else folds.measures,
            fold_evaluations={} if folds is None else dict(zip(folds.names, folds.evaluations)),
        )  # fmt: skip
        title = f"How well it does on {results.test_cells}"
        caption = (
            f"Of {test.n:,} cells{tested_groups(results)}; {_bars(test, folds)}. Compare the "
            "network with the linear baseline: only what it has above that needs learnt features."
        )
        yield Drawing("measures", title, caption, plot, _measures_note(test, folds))
        names = _class_names(results, test)
        yield Drawing(
            "confusion", "Class against prediction", _confusion_caption(test),
            partial(plot_confusion, test, names), half=len(names) <= 4,
        )  # fmt: skip
        yield Drawing(
            "reliability", "Confidence against truth", _reliability_caption(test),
            partial(plot_reliability, test), half=True,
        )  # fmt: skip
    network = results.read("classifier", TrainedNetwork)
    if network is not None and network.history:
        caption = (
            f"{len(network.history)} epochs; the weights of the marked one were kept. A training "
            "curve that goes on improving while the validation curve turns back is overfitting. "
            "The validation cells chose the epoch, so judge by the test cells."
        )
        split = results.read("split", Split)
        if network.pool is not None and split is not None:
            caption += (
                f" It has learnt from {network.pool:,} of the {len(split.train):,} "
                "training cells, drawn as evenly from the classes as their numbers allow: more do "
                "not fit in memory."
            )
        plot = partial(plot_training, network.history)
        yield Drawing("training", "Training", caption, plot, _training_note(network))


def tables(results: Results) -> Iterable[ReportTable | None]:
    """Every measure on held-out cells, and of every fold."""
    found, folds = results.read("evaluation", Predictions), results.read("folds", Folds)
    if found is not None:
        first = folds_by_group(results) is not None
        yield _measures_table(found, folds, results.test_cells, first=first)
    if folds is not None:
        yield _folds_table(folds)


def result(results: Results) -> str:
    """The number that comes first, and what a linear model reaches."""
    found, folds = results.read("evaluation", Predictions), folds_by_group(results)
    if found is None:
        return ""
    measures = found.test.measures if folds is None else folds.measures
    key = next((name for name in ("balanced_accuracy", "accuracy", "auc") if name in measures), "")
    if not key:
        return ""
    cells = results.test_cells if folds is None else "held-out groups"
    return (
        f"{measure_name(key)} on {cells} {format_interval(measures[key])}; a linear model on the "
        f"pixels of the test cells reaches {format_interval(found.baseline.measures.get(key))}."
    )


def _class_names(results: Results, test: Evaluation) -> tuple[str, ...]:
    cells = results.cells
    return tuple(map(str, range(len(test.confusion)))) if cells is None else cells.class_names


def _training_note(network: TrainedNetwork) -> str:
    """In what the network was stepped, and how crops were seen where that bends the curve."""
    training, said = network.checkpoint.spec.get("training", {}), list[str]()
    if (training.get("augmentation") or {}).get("mixup"):
        said.append(
            "The cells come in groups. While the network learnt, each crop was mixed with another "
            "of its batch, by a share drawn anew (mixup, Zhang et al. 2018), so that more of it "
            "holds for new groups. The training loss is of mixed crops, and may lie above the "
            "validation loss."
        )
    if training.get("precision") == "bfloat16":
        said.append("Steps were computed in bfloat16, all that is shown of the network in float32.")
    return " ".join(said)


def _measures_note(test: Evaluation, folds: Folds | None) -> str:
    text = "The linear baseline is fitted to the pixels of the same crops, with the same split."
    if test.note:
        text += f" Intervals: {test.note}."
    if folds is not None:
        text += (
            f" Folds: {len(folds.names)} networks, each tested on a part held out from its "
            "training; light dots are single folds. They say how well a newly trained network "
            "would do. They are not the network that is explained below."
        )
    return text


def _confusion_caption(test: Evaluation) -> str:
    counts = np.asarray(test.confusion)
    wrong = int(counts.sum() - np.trace(counts))
    text = "Rows are the given classes; shares add up to 100 % along a row."
    if not wrong:
        return f"{text} No test cell is wrong."
    return (
        f"{text} Numbers are test cells. {wrong:,} of {counts.sum():,} are wrong; some of those "
        "may carry a wrong label."
    )


def _reliability_caption(test: Evaluation) -> str:
    error = test.measures.get("calibration_error")
    gap = "" if error is None else f" Mean gap (calibration error) {format_interval(error)}."
    return (
        "On the dashed line the network is as often right as it is confident; below it, it is "
        f"overconfident. Bars are 95 % (Wilson) intervals; bins of few cells say little.{gap}"
    )


def _measures_table(
    found: Predictions, folds: Folds | None, cells: str, *, first: bool
) -> ReportTable:
    """``first``: the folds are held-out groups, and come before one network on one of them."""
    columns: list[tuple[str, Mapping[str, Estimate]]] = [("network", found.test.measures)]
    if folds is not None:
        name = "mean over held-out groups" if first else "mean of folds"
        columns.insert(0 if first else 1, (name, folds.measures))
    columns.append(("linear baseline", found.baseline.measures))
    if found.ahead:
        columns.append(("network minus linear", found.ahead))
    rows = tuple(
        (measure_name(key), *(format_interval(column.get(key)) for _, column in columns))
        for key in found.test.measures
    )
    header = ("measure", *(name for name, _ in columns))
    text = (
        "In brackets: 95 % intervals. Network minus linear is paired: both on the same cells, so "
        "that what is hard for both does not count."
    )
    return ReportTable(f"Measures on {cells}", header, rows, text)


def _bars(test: Evaluation, folds: Folds | None) -> str:
    """What the bars are, and which are not there."""
    nothing = {estimate.no_interval for estimate in test.measures.values()}
    if None in nothing:
        return "bars are 95 % intervals"
    reason = f"of one network there are none: {', '.join(sorted(map(str, nothing)))}"
    return reason if folds is None else f"bars are 95 % intervals ({reason})"


def _folds_table(folds: Folds) -> ReportTable:
    keys = list(folds.evaluations[0].measures) if folds.evaluations else []
    rows = tuple(
        (name, f"{fold.n:,}", *(format_interval(fold.measures.get(key)) for key in keys))
        for name, fold in zip(folds.names, folds.evaluations, strict=True)
    )
    header = ("held out", "cells", *map(measure_name, keys))
    return ReportTable("Networks tested on the part held out from their training", header, rows)


CHAPTER = Chapter("classifier", "The classifier", 20, figures, tables, result=result)
