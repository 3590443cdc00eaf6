"""Contrast pairs: real cells alike in all but a target, and one cell edited to less and to more."""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from cytolens.activations.layers import find_layers
from cytolens.classifier.model import Classifier
from cytolens.errors import SettingError
from cytolens.features.contrast.axis import Floats, explained
from cytolens.features.contrast.edited import edit_cells
from cytolens.features.contrast.editing import Filling
from cytolens.features.contrast.judging import Judge, train_judges
from cytolens.features.contrast.matching import clearest_pairs, goals_of, turned_like
from cytolens.features.contrast.naming import name_shifts
from cytolens.features.contrast.questions import Questions, Rows, ask, mean_over
from cytolens.features.contrast.series import series_of
from cytolens.features.contrast.subject import SCATTERING, Subject, prepare_subject
from cytolens.features.contrast.targets import find_target, targets_of_outputs
from cytolens.features.priors import fit_prior
from cytolens.images.preparation import prepared_background
from cytolens.numerics.estimates import Estimate, mean_of, spearman
from cytolens.numerics.intervals import AT_MOST_ONE
from cytolens.properties.measurement import measure_cells
from cytolens.records.cells import Cells, Progress, Split
from cytolens.records.contrast import ContrastPairs, Contrasts, Edits, Series, Target

SHOWN = 9  # pairs of real cells, and best cells that they are compared with
_NAMED_FROM = 40  # pairs that shifts of properties are measured in, at most
_DRAWS = 10  # of permuted scores, of random directions and of rotations
_KNOWN = 1000  # training cells that pairs are drawn from
_SERIES = 3  # targets, the first, that get a series
_SAME = 0.9  # rank correlation from which a target orders the cells as another does


def contrast_pairs(
    model: Classifier,
    cells: Cells,
    targets: Sequence[str | Target] | None = None,
    *,
    split: Split,
    k: int = SHOWN,
    judges: int = 0,
    properties: Mapping[str, NDArray[np.floating]] | None = None,
    rng: int = 0,
    device: str | None = None,
    progress: Progress | None = None,
) -> Contrasts:
    """Cells with less and with more of what a network looks for, that are alike otherwise.

    ``targets``: a class, a channel as "layer/number", or a Target (`contrast.targets`); by default
    each class against the others, or each output. Of each the ``k`` clearest pairs are given, fewer
    where a tenth of the cells are fewer, and compared with as many best cells. Pairs are of at most
    1,000 training cells of ``split``; what they show is judged on its other cells (see
    `records.ContrastPairs`). With ``judges`` so many other networks are trained, each on another
    part of the training cells, and held-out cells are edited and judged by them. ``properties``
    (N,) of the cells name what differs; they are measured where they are not given.

    The same ``rng`` gives the same pairs. Raises SettingError for a target that is not there or
    no pairs, InputError with fewer than 40 training or held-out cells.
    """
    if k < 1:
        raise SettingError(f"k is {k}; ask for at least one pair of each target")
    layers = find_layers(model.network, model.input_shape)
    wanted = [
        find_target(target, layers, model.class_names, classes=model.gives_classes)
        if isinstance(target, str)
        else target
        for target in targets or ()
    ] or list(targets_of_outputs(model, layers[-1]))
    if not wanted:
        raise SettingError("an embedding has no outputs to pair cells for; name channels: targets=")
    held_out = np.sort(np.concatenate([split.validation, split.test]))
    paper = prepared_background(cells.preparation)
    prior = fit_prior(cells.subset(split.train), background=paper, n_cells=_KNOWN, rng=rng)
    known = split.train[prior.rows]
    if properties is None:
        rows = np.union1d(known, held_out)
        properties = {}
        for name, values in measure_cells(cells.subset(rows))[0].items():
            properties[name] = np.full(len(cells), np.nan)
            properties[name][rows] = values
    subject = prepare_subject(
        model,
        [layer for layer in layers if layer.name in {target.layer for target in wanted}],
        cells,
        prior=prior,
        known=known,
        held_out=held_out,
        properties={name: values.astype(np.float64) for name, values in properties.items()},
        rng=rng,
    )
    trained = ()
    if judges:
        trained = train_judges(
            cells, split, count=judges, known=prior.crops, held_out=subject.asked, seed=rng,
            device=device, progress=progress,
        )  # fmt: skip
    return make_pairs(
        subject, wanted, k=k, judges=trained, test=split.test, seed=rng, progress=progress
    )


def make_pairs(
    subject: Subject,
    targets: Sequence[Target],
    *,
    k: int = SHOWN,
    judges: Sequence[Judge] = (),
    test: Rows | None = None,
    seed: int = 0,
    progress: Progress | None = None,
) -> Contrasts:
    """The ``k`` contrast pairs of each target; cells are edited only where there are ``judges``.

    ``test``: rows of the cells that may be edited, of groups that judges have not seen.
    """
    made: list[ContrastPairs] = []
    stepped = targets_in_steps(subject, targets)
    for number, target in enumerate(targets):
        if progress is not None:
            progress(number, len(targets), target.name)
        made.append(
            pairs_of(
                subject, target, number, k=k, in_steps=number in stepped, judges=judges, test=test,
                seed=seed,
            )
        )  # fmt: skip
    accuracy = tuple(judge.accuracy for judge in judges)
    return Contrasts(tuple(made), accuracy, n_training=len(subject.known))


def targets_in_steps(subject: Subject, targets: Sequence[Target]) -> frozenset[int]:
    """The numbers of the targets that get a series: the first that do not order cells alike."""
    scores: dict[int, Floats] = {}
    for number, target in enumerate(targets):
        if len(scores) == _SERIES:
            break
        known, _ = subject.scores(target)
        if not any(_same(known, other) for other in scores.values()):
            scores[number] = known
    return frozenset(scores)


def pairs_of(
    subject: Subject,
    target: Target,
    number: int,
    *,
    k: int = SHOWN,
    in_steps: bool = False,
    judges: Sequence[Judge] = (),
    test: Rows | None = None,
    seed: int = 0,
) -> ContrastPairs:
    """The pairs of one target, the one of that ``number``: the same whatever the others are.

    ``in_steps``: with a series of cells, from less to more.
    """
    rng = np.random.default_rng([seed, number])
    edits, edited, series = None, None, None
    if judges and test is not None:
        filling = Filling(subject.prior, rng=np.random.default_rng([seed, number, 1]))
        edits, edited = edit_cells(subject, target, judges, test, filling, series=in_steps, rng=rng)
    if in_steps:
        drawn = np.random.default_rng([seed, number, 2])
        series = series_of(subject, target, edited=edited, rng=drawn)
    return _natural(subject, target, k, edits, series, rng)


def _same(scores: Floats, others: Floats) -> bool:
    """Whether two targets order cells alike, or the other way round."""
    return bool(abs(spearman(scores[None], others[None])[0]) >= _SAME)


def _natural(
    subject: Subject,
    target: Target,
    k: int,
    edits: Edits | None,
    series: Series | None,
    rng: np.random.Generator,
) -> ContrastPairs:
    """The pairs of real cells, what they answer, and what differs in them."""
    known, asked = subject.scores(target)
    slope = subject.axes.slope(known)
    less, more, along = clearest_pairs(
        subject.space.known, known, slope, most=max(k, _NAMED_FROM), rng=rng
    )
    questions = ask(subject.near, asked, subject.groups)
    rows = [subject.known[some] for some in (less, more)]
    natural = {
        name: values[rows[1]] - values[rows[0]] for name, values in subject.properties.items()
    }
    made = None
    if edits is not None:
        made = subject.shifts(edits.cells, edits.less, edits.more)
    crops = [subject.prior.crops[some[:k]] for some in (less, more)]
    return ContrastPairs(
        target=target,
        goals=goals_of(known),
        fit=_fit(subject, known, asked, slope, rng),
        less_rows=rows[0][:k],
        more_rows=rows[1][:k],
        less=crops[0],
        more=turned_like(crops[1], crops[0]),
        along=along[:k],
        answers=_answers(subject, known, k, questions, less[:k], more[:k], edits, made, rng),
        questions=len(questions),
        shifts=name_shifts(natural, made, rng=rng),
        edits=edits,
        series=series,
        controls=_controls(subject, target, known, k, rng),
    )


def _fit(
    subject: Subject, known: Floats, asked: Floats, slope: Floats, rng: np.random.Generator
) -> Estimate:
    """R² of the axis on the cells asked."""
    parts = explained(subject.asked_points, asked, slope)
    return mean_over(parts, subject.groups, within=AT_MOST_ONE, rng=rng)


def _answers(
    subject: Subject,
    known: Floats,
    k: int,
    questions: Questions,
    less: Rows,
    more: Rows,
    edits: Edits | None,
    shifts: Mapping[str, Floats] | None,
    rng: np.random.Generator,
) -> dict[str, dict[str, Estimate]]:
    """Share of questions answered by each display, in each representation."""
    order = np.argsort(-known, kind="stable")
    best, worst = order[:k], order[::-1][:k]
    found: dict[str, dict[str, Estimate]] = {}
    for name, points in subject.known_as.items():
        mean = points.mean(0)
        ways = {
            "pairs": points[more].mean(0) - points[less].mean(0) if len(more) else mean * 0,
            "best_cells": points[best].mean(0) - mean,
            "best_and_worst": points[best].mean(0) - points[worst].mean(0),
            "best_cell": points[best[0]] - mean,
            "axis": subject.axes_as[name].slope(known),
        }
        if edits is not None and name == SCATTERING:
            seen = [subject.represent(some).mean(0) for some in (edits.less, edits.more)]
            ways["edits"] = seen[1] - seen[0]
        elif edits is not None and shifts is not None:
            shifted = [np.nan_to_num(shifts.get(one, np.zeros(1))) for one in subject.properties]
            ways["edits"] = np.array([float(one.mean()) for one in shifted])
        found[name] = {
            display: questions.answered(subject.asked_as[name], way, rng=rng)
            for display, way in ways.items()
        }
    return found


def _controls(
    subject: Subject, target: Target, known: Floats, k: int, rng: np.random.Generator
) -> dict[str, Estimate]:
    """Share of questions answered by pairs, in scattering, where nothing was learnt.

    ``permuted``: of this target, by pairs that were chosen for permuted scores. ``untrained``: of
    the same direction in the network before training. ``random_direction``: of a random direction
    of the same layer, its channels in s.d.; ``rotation``: of a channel after a random rotation of
    the channels as they are. Pairs of these may be as good: then a channel is nothing special. Of
    ten permutations, directions and rotations each the mean is given.
    """
    channels = subject.answers[target.layer]
    spread = np.maximum(channels[0].std(0, dtype=np.float64), 1e-12)

    def random(scale: Floats) -> tuple[Floats, Floats]:
        weights = rng.standard_normal(len(spread)) / scale
        return channels[0] @ weights, channels[1] @ weights

    asked = subject.scores(target)[1]
    cases = {
        "permuted": [(rng.permutation(known), asked) for _ in range(_DRAWS)],
        "untrained": [subject.scores(target, control=True)],
        "random_direction": [random(spread) for _ in range(_DRAWS)],
        "rotation": [random(np.ones_like(spread)) for _ in range(_DRAWS)],
    }
    points = subject.known_as[SCATTERING]
    found: dict[str, Estimate] = {}
    for name, draws in cases.items():
        answered: list[Estimate] = []
        for scores, others in draws:
            slope = subject.axes.slope(scores)
            less, more, _ = clearest_pairs(subject.space.known, scores, slope, most=k, rng=rng)
            way = points[more].mean(0) - points[less].mean(0) if len(more) else points[0] * 0
            questions = ask(subject.near, others, subject.groups)
            answered.append(questions.answered(subject.asked_as[SCATTERING], way, rng=rng))
        found[name] = (
            answered[0] if len(draws) == 1 else mean_of([a.value for a in answered], rng=rng)
        )
    return found
