"""The chapter on contrast pairs: cells with less and with more of what the network looks for."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from functools import partial

import numpy as np

from cytolens.figures.contrast import plot_contrast, plot_series
from cytolens.figures.labels import format_interval, format_number
from cytolens.properties.measurement import OF_THE_CROP
from cytolens.records.contrast import ACCEPTED, ContrastPairs, Contrasts, Edits, Series
from cytolens.report.alarms import readable
from cytolens.report.chapter import Chapter, Drawing, file_name
from cytolens.report.page import ReportTable
from cytolens.report.results import Results

_OPEN = 2  # figures that are not folded
_MOST_SENTENCES = 3
_MOST_NAMED = 3
_MOST_MOVED = 2
_STEPS = (
    "Real cells in five steps, from little of a target to much. The cells of a row are alike "
    "otherwise, as far as there are such cells: mind their size and brightness. Look for what "
    "grows in every row. The network's own score orders the steps; the note says how far other "
    "descriptions agree."
)
_STEADY = ("area", "mean_brightness", "focus")  # properties that are worth saying of if unchanged
_UNCHANGED = 0.15  # s.d.


def figures(results: Results) -> Iterator[Drawing]:
    """The pairs of each target, in their order."""
    found, cells = results.read("contrasts", Contrasts), results.cells
    if found is None or cells is None:
        return
    drawings = [
        Drawing(
            f"pairs_{file_name(pairs.target.name)}",
            f"Less and more of {pairs.target.name}",
            _caption(pairs, first=place == 0),
            partial(plot_contrast, pairs, cells),
            _note(pairs),
            fold="" if place < _OPEN else "Pairs of the other targets",
        )
        for place, pairs in enumerate(found.pairs)
        if len(pairs.less)
    ]
    yield from drawings[:_OPEN]
    stepped = [one for one in found.pairs if one.series is not None and len(one.series.images)]
    if stepped:
        yield Drawing(
            "pairs_in_steps",
            "More and more of it",
            _STEPS,
            partial(plot_series, stepped, cells),
            _note_on_steps(stepped),
        )
    yield from drawings[_OPEN:]


def tables(results: Results) -> Iterable[ReportTable | None]:
    """What each display answers, by target."""
    found = results.read("contrasts", Contrasts)
    if found is None or not found.pairs:
        return
    names = list(found.pairs[0].answers)
    rows: list[tuple[str, ...]] = []
    for pairs in found.pairs:
        first = pairs.answers[names[0]]
        shown = [
            " / ".join(format_number(pairs.answers[name][display].value) for name in names)
            for display in ("pairs", "best_and_worst", "best_cells", "axis")
        ]
        rows.append(
            (
                pairs.target.name,
                *shown,
                *(
                    format_number(pairs.controls[name].value)
                    for name in ("random_direction", "rotation", "untrained", "permuted")
                ),
                format_interval(pairs.fit),
                str(pairs.questions if np.isfinite(first["pairs"].value) else "too few"),
            )
        )
    header = (
        "target", "pairs", "nine most and nine least", "nine most", "regression",
        "pairs of a random direction", "of a rotated channel", "untrained", "permuted",
        "R² of the axis", "questions",
    )  # fmt: skip
    text = (
        "Share of questions answered (chance 0.5): of two further cells of one class that are "
        "near neighbours, which drives the target more? By the direction that a display shows, in "
        f"{' / '.join(names)}. Regression: on all cells that pairs are drawn from, about the most "
        "that can be had. Random, rotated, untrained, permuted: pairs made in the same way for a "
        "random direction of the layer, for a channel after a random rotation of the channels, for "
        "the network before training, and for permuted scores."
    )
    yield ReportTable("How far the pairs can be believed", header, tuple(rows), text, folded=True)


def sentences(results: Results) -> tuple[str, ...]:
    """What differs between less and more, and whether the pairs tell it better than best cells."""
    found = results.read("contrasts", Contrasts)
    if found is None or not found.pairs:
        return ()
    said = [what_differs(pairs) for pairs in found.pairs[:_MOST_SENTENCES]]
    return (*said, answers_sentence(found), *_of_edits(found))


def what_differs(pairs: ContrastPairs) -> str:
    """The properties that are named, as a sentence; a warning where some are off the cell."""
    named = pairs.named[:_MOST_NAMED]
    if not named:
        return f"More of {pairs.target.name}: no measured property shifts clearly."
    listed = ", ".join(
        f"{readable(shift.name)} {_signed(shift.natural.value, '+')} s.d. "
        f"[{_signed(shift.natural.low)}, {_signed(shift.natural.high)}]"
        for shift in named
    )
    steady = [
        readable(shift.name)
        for shift in pairs.shifts
        if shift.name in _STEADY
        and not shift.named
        and max(abs(shift.natural.low), abs(shift.natural.high)) < 2 * _UNCHANGED
    ]
    text = f"More of {pairs.target.name}: {listed}"
    text += f"; {', '.join(steady)} unchanged." if steady else "."
    crop = [readable(shift.name) for shift in named if shift.name in OF_THE_CROP]
    if crop:
        which = "all of it" if len(crop) == len(named) > 1 else " and ".join(crop)
        verb = "are" if len(crop) == 2 < len(named) else "is"
        text += f" Take care: {which} {verb} of the crop, not of the cell alone."
    return text


def _signed(value: float, sign: str = "-") -> str:
    """With a minus as long as a plus, and none before 0."""
    return f"{round(value, 1) + 0.0:{sign}.1f}".replace("-", "−")


def answers_sentence(found: Contrasts) -> str:
    """How many questions the pairs answer, next to what cells that drive a target most answer."""
    names = list(found.pairs[0].answers)
    shares = {
        display: " and ".join(
            format_interval(found.answered(name, display))
            if display == "pairs"
            else format_number(found.answered(name, display).value)
            for name in names
        )
        for display in ("pairs", "best_and_worst", "best_cells", "axis")
    }
    random = format_number(found.control("random_direction").value)
    over = f"; mean over {len(found.pairs)} targets" if len(found.pairs) > 1 else ""
    return (
        "Asked which of two further, alike cells of one class drives a target more, nine pairs "
        f"answer {shares['pairs']} of the questions ({' and '.join(names)}{over}), "
        "the nine most and nine least active cells "
        f"{shares['best_and_worst']}, the nine most active {shares['best_cells']}, a regression on "
        f"all cells {shares['axis']}; chance is 0.5. Pairs of random directions answer {random} of "
        f"the questions about these ({names[0]}): where that is as much, a channel is not special."
    )


def _of_edits(found: Contrasts) -> tuple[str, ...]:
    taken, total = found.accepted
    if not total:
        return ()
    judges = " and ".join(format_number(judge.value) for judge in found.judges)
    return (
        f"Of {total} edited cells {taken} are accepted: {len(found.judges)} other networks "
        f"(balanced accuracy {judges}) see at least {ACCEPTED:.0%} of the change in each, and it "
        "is not odder than 99 % of cells. The others are framed with dots. Edits show where in a "
        f"cell{_of_questions(found)}; real pairs come first, as edits of planted features find "
        "only part of some.",
    )


def _of_questions(found: Contrasts) -> str:
    """How many of the questions the edits answer, next to the pairs of the same targets."""
    edited = replace(found, pairs=tuple(one for one in found.pairs if one.edits is not None))
    name = next(iter(edited.pairs[0].answers))
    if "edits" not in edited.pairs[0].answers[name]:
        return ""
    edits, pairs = (
        format_number(edited.answered(name, display).value) for display in ("edits", "pairs")
    )
    return f", and answer {edits} of the questions ({name}; real pairs {pairs})"


def _caption(pairs: ContrastPairs, *, first: bool) -> str:
    if not first:
        return (
            "The same for another target. What all pairs have in common is the finding, not what "
            "one of them shows."
        )
    made = (
        ""
        if pairs.edits is None
        else "Then further cells, edited both ways, each above the real cell with as little or as "
        "much that is otherwise most like it. "
    )
    return (
        "Real cells in columns: the upper has little of the target, the lower much, and they are "
        f"alike otherwise. {made}Look for what all pairs have in common. A single pair differs "
        "in other things too."
    )


def _note(pairs: ContrastPairs) -> str:
    few, many = pairs.goals
    text = (
        f"Less: at most {format_number(few)}, the 10th percentile of the cells that pairs are "
        f"drawn from; more: at least {format_number(many)}, the 90th. Of all pairs of such cells "
        "those are shown whose differences together lie most along the axis of the target (cosine "
        f"{format_number(pairs.along[-1])} for all of them), the slope of a regression on their "
        "texture under random filters. What is shown of the axis is judged by other cells and in "
        "other representations. "
    )
    return text + what_differs(pairs) + _of_ways(pairs.edits)


def _note_on_steps(stepped: Sequence[ContrastPairs]) -> str:
    """How far representations that did not choose the cells see the steps in their order."""
    parts = [_of_steps(pairs, pairs.series) for pairs in stepped if pairs.series]
    names = " and ".join(stepped[0].answers)
    return (
        "Steps: of the cells that pairs are drawn from, those within 5 % of the 10th, 30th, 50th, "
        "70th and 90th percentile. They are matched to the middle cell as pairs are. Targets that "
        "order the cells as an earlier one does, or the other way round, are left out. Order: "
        "mean rank correlation of the step and what a regression on held-out cells, none of which "
        f"is shown, reads out of {names}; in brackets, of any cells of these steps. Apart: "
        "distance from the middle cell in scattering, over that of any cells of these steps. All "
        "of up to nine series, of which the most alike are shown; intervals over series. "
        + " ".join(parts)
    )


def _of_steps(pairs: ContrastPairs, series: Series) -> str:
    order = " and ".join(
        f"{format_interval(value)} ({format_number(series.unmatched[name].value)})"
        for name, value in series.order.items()
    )
    text = f"{pairs.target.name}: order {order}; apart {format_number(series.apart)}"
    for name in [one.name for one in pairs.named if one.name in series.moved][:_MOST_MOVED]:
        values = ", ".join(_signed(value, "+") for value in series.moved[name])
        text += f"; {readable(name)} {values} s.d."
    return text if text.endswith(".") else f"{text}."


def _of_ways(edits: Edits | None) -> str:
    if edits is None:
        return ""
    own, judged = np.median(edits.own, axis=0), np.median(edits.judged.min(axis=2), axis=0)
    parts = [
        f"towards {side} by a {edits.ways[k]} of {edits.changed[:, k].mean():.0%} of the pixels, "
        f"of which the network sees {format_number(own[k])}, the others {format_number(judged[k])}"
        for k, side in enumerate(("less", "more"))
    ]
    return (
        f" Edited were {len(edits.cells)} further cells from the middle of the target, "
        f"{'; '.join(parts)} (medians, in units of the way to the 10th or 90th percentile). "
        "Numbers under the tiles: what the more sceptical of the other networks sees."
    )


CHAPTER = Chapter("contrasts", "Less and more of it", 65, figures, tables, sentences)
