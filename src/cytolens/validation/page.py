"""What the known answers say: the summary, the figures, and the page with an honest verdict."""

from collections.abc import Mapping, Sequence
from datetime import date
from typing import Any

from matplotlib.figure import Figure

from cytolens import __version__
from cytolens.figures.labels import format_interval, format_number
from cytolens.figures.pointing import plot_known_answer, plot_pointing
from cytolens.numerics.estimates import Estimate
from cytolens.records.features import KnownAnswer
from cytolens.report.page import Fact, ReportContent, ReportFigure, ReportTable, Section
from cytolens.validation.known_answers import FEWEST

RIVALS = {"gradcam": "Grad-CAM", "integrated_gradients": "integrated gradients"}
PLAIN = {
    "brightness": "plain brightness",
    "difference_of_gaussians": "difference of Gaussians",
    "fine_detail": "plain fine detail",
}
"""Maps that know of no network: where these point as well, pointing says nothing of it."""
_OTHERS = {**RIVALS, **PLAIN}
HEADLINE = (
    "pointing",
    "iou",
    "gradcam_pointing",
    "integrated_gradients_pointing",
    "untrained_pointing",
)
_SHOWN = ("default", "low contrast")  # settings whose examples are on the page
_MEASURES = (
    ("pointing", "pointing"),
    ("iou", "overlap"),
    ("insertion", "insertion"),
    ("deletion", "deletion"),
)


def summary_of(answers: Sequence[KnownAnswer], settings: Mapping[str, Any]) -> dict[str, Any]:
    """``summary.json``: ``validation.<kind>`` with the headline numbers, and all of them by case.

    ``validation.<kind>``: `HEADLINE` at the default setting (left out where the classifier does
    not use the plant) and ``grid``, a list with every measure and ``verdict`` of every setting.
    """
    found: dict[str, Any] = {}
    for answer in answers:
        entry = found.setdefault(answer.kind, {"grid": []})
        if answer.setting == "default":
            numbers = {key: answer.measures[key] for key in HEADLINE if key in answer.measures}
            entry.update({key: estimate.as_dict() for key, estimate in numbers.items()})
        entry["grid"].append(
            {
                "setting": answer.setting,
                "size_um": answer.size_um,
                "contrast": answer.contrast,
                "layer": answer.layer,
                "n": answer.n,
                "verdict": verdict(answer),
                **{key: estimate.as_dict() for key, estimate in answer.measures.items()},
                "ahead": {key: estimate.as_dict() for key, estimate in answer.ahead.items()},
            }
        )
    return {"version": __version__, "settings": dict(settings), "validation": found}


def verdict(answer: KnownAnswer, *, quantity: str = "pointing") -> dict[str, str]:
    """By rival, with a network and without: "ahead", "level" or "behind".

    As the interval of the difference lies.

    Level where it holds 0. Empty where the classifier does not use the plant.
    """
    return {
        rival: standing(answer.ahead[f"{rival}_{quantity}"])
        for rival in _OTHERS
        if f"{rival}_{quantity}" in answer.ahead
    }


def standing(difference: Estimate) -> str:
    """In words, a difference that is better the higher it is."""
    if difference.low > 0:
        return "ahead"
    return "behind" if difference.high < 0 else "level"


def draw_answers(answers: Sequence[KnownAnswer]) -> dict[str, Figure]:
    """Every figure of the page by name."""
    figures = {"pointing": plot_pointing(answers)}
    for answer in answers:
        if answer.saliency and answer.setting in _SHOWN:
            figures[_name(answer)] = plot_known_answer(answer)
    return figures


def answers_page(
    answers: Sequence[KnownAnswer],
    pictures: Mapping[str, bytes],
    summary: Mapping[str, Any],
    *,
    own: str | None = None,
) -> ReportContent:
    """The page. ``own``: the user's architecture, as named on the command line."""
    network = "the reference network" if own is None else f"your architecture ({own})"
    sections = [_results(answers, pictures)]
    for kind in dict.fromkeys(answer.kind for answer in answers):
        sections.append(_kind([a for a in answers if a.kind == kind], pictures))
    sections.append(_method(answers))
    default = [a for a in answers if a.setting == "default"]
    return ReportContent(
        title="Do the explanations point at what the classifier uses?",
        question=(
            "Simulated cells, alike but for one planted feature; a classifier that has to use it "
            f"({network}); and saliency that has to find it, against Grad-CAM and integrated "
            "gradients from captum, plain maps without a network, and an untrained network."
        ),
        answer=tuple(_sentence(answer, answer.kind) for answer in default),
        facts=tuple(
            Fact(
                f"{a.kind}: peak on the plant",
                format_interval(a.measures["pointing"]) if "pointing" in a.measures else "–",
                f"{a.n} held-out cells; accuracy {a.measures['accuracy'].value:.2f}",
            )
            for a in default
        ),
        warnings=_warnings(answers),
        sections=tuple(sections),
        citations=(f"The software: the cytolens founders. cytolens {__version__} (2026).",),
        created=f"Written by cytolens {__version__} on {date.today().isoformat()}.",
        summary=summary,
    )


def _name(answer: KnownAnswer) -> str:
    return f"{answer.kind}-{answer.setting.replace(' ', '-')}"


def _sentence(answer: KnownAnswer, name: str) -> str:
    """The verdict on one case, in words."""
    if "pointing" not in answer.measures:
        return (
            f"{name.capitalize()}: the classifier does not use it (the class of {answer.n} "
            f"held-out cells rests on it, fewer than {FEWEST}), so nothing can be said."
        )
    return (
        f"{name.capitalize()}: peak on the plant in "
        f"{format_interval(answer.measures['pointing'])} of the cells, "
        f"{_stands(answer, 'pointing')}; overlap with it "
        f"{format_interval(answer.measures['iou'])}, {_stands(answer, 'iou')}."
    )


def _stands(answer: KnownAnswer, quantity: str) -> str:
    """Where we stand: "ahead of Grad-CAM, level with integrated gradients"."""
    by_standing: dict[str, list[str]] = {}
    for rival, word in verdict(answer, quantity=quantity).items():
        by_standing.setdefault("level with" if word == "level" else f"{word} of", []).append(
            _OTHERS[rival]
        )
    if "behind of" in by_standing:
        by_standing["behind"] = by_standing.pop("behind of")
    return ", ".join(f"{word} {' and '.join(names)}" for word, names in by_standing.items())


def _warnings(answers: Sequence[KnownAnswer]) -> tuple[str, ...]:
    behind = [
        f"{a.kind}, {a.setting}: behind {_OTHERS[rival]} in pointing "
        f"({format_interval(a.measures['pointing'])} against "
        f"{format_interval(a.measures[f'{rival}_pointing'])})"
        for a in answers
        for rival, word in verdict(a).items()
        if word == "behind"
    ]
    unused = [
        f"{a.kind}, {a.setting}: the classifier does not use the plant (balanced accuracy "
        f"{format_interval(a.measures['accuracy'])}); explanations are not judged"
        for a in answers
        if "pointing" not in a.measures
    ]
    bright = [
        f"{a.kind}, {a.setting}: in an untrained network the peak is on the plant as well "
        f"({format_interval(a.measures['untrained_pointing'])}), as the plant is a bright place; "
        "overlap and insertion say more"
        for a in answers
        if "pointing" in a.measures and standing(a.ahead["untrained_pointing"]) != "ahead"
    ]
    return (*behind, *unused, *bright)


def _results(answers: Sequence[KnownAnswer], pictures: Mapping[str, bytes]) -> Section:
    rows = tuple(
        (
            a.kind,
            f"{a.setting} ({a.size_um:g}\u00a0µm, contrast\u00a0{a.contrast:g})",
            format_interval(a.measures["accuracy"]),
            format_number(a.measures["drop"].value),
            str(a.n),
            _of(a, "pointing"),
            *(_against(a, other, "pointing") for other in _OTHERS),
            _value(a, "untrained_pointing"),
            _value(a, "chance"),
        )
        for a in answers
    )
    header = (
        "plant", "setting", "accuracy", "drop", "cells", "cytolens", *_OTHERS.values(),
        "untrained", "chance",
    )  # fmt: skip
    caption = (
        "Accuracy: balanced, on held-out cells. Drop: of the probability of “planted” when the "
        "plant is taken out of a cell. Then the share of cells whose saliency peaks on the plant, "
        "or at most one pixel from it, with 95 % intervals (bootstrap over cells). Plain maps know "
        "of no network: where they do as well, pointing says nothing of the network. In words: "
        "cytolens against that method, cell by cell."
    )
    figure = ReportFigure(
        "pointing",
        pictures["pointing"],
        "Where explanations point, against where the plant is",
        "Points: mean over held-out cells; bars: 95 % interval over cells, for one network each. "
        "Grey ticks: chance, the share of the cell that the plant covers.",
    )
    table = ReportTable("Pointing game", header, rows, caption, text_columns=2)
    edited = _edited([a for a in answers if "pairs_named_first" in a.measures])
    return Section("results", "Results", figures=(figure,), tables=(table, *edited))


def _edited(answers: Sequence[KnownAnswer]) -> tuple[ReportTable, ...]:
    """How well cells edited to less find their twins without the plant, where it was asked."""
    rows = tuple(
        (
            answer.kind,
            answer.setting,
            *(_of(answer, f"pairs_{key}") for key in ("cosine", "l1", "own", "transfer")),
            "yes" if answer.measures["pairs_named_first"].value else "no",
        )
        for answer in answers
    )
    header = ("plant", "setting", "cosine", "size", "network", "another network", "named first")
    caption = (
        "Planted held-out cells, edited until the network sees no more of the plant than in the "
        "same cell without it. Cosine of the edit with the true change; its sum of absolute values "
        "over the true one's; the share of the true effect that the network sees, and one that had "
        "no part in it: medians with 95 % intervals over cells. Named first: real pairs name the "
        "measured property first that the plant shifts most. –: the network does not use the plant."
    )
    return (ReportTable("Edits against the truth", header, rows, caption, 2),) if rows else ()


def _kind(answers: Sequence[KnownAnswer], pictures: Mapping[str, bytes]) -> Section:
    """Examples and every measure of one kind."""
    kind = answers[0].kind
    figures = tuple(
        ReportFigure(
            _name(answer),
            pictures[_name(answer)],
            f"{kind.capitalize()}, {answer.setting}",
            "The first held-out cells whose class rests on the plant. Outline: the plant; cross: "
            "peak of the saliency, each scaled to its own.",
            half=True,
        )
        for answer in answers
        if _name(answer) in pictures
    )
    rows = tuple(
        (
            answer.setting,
            title,
            _of(answer, measure),
            *(_against(answer, rival, measure) for rival in (*_OTHERS, "gradcam_early")),
            _value(answer, f"untrained_{measure}"),
            _value(answer, f"random_{measure}"),
        )
        for answer in answers
        for measure, title in _MEASURES
        if measure in answer.measures
    )
    layer = answers[0].layer
    header = (
        "setting", "measure", "cytolens", *_OTHERS.values(), f"Grad-CAM at {layer}", "untrained",
        "random",
    )  # fmt: skip
    caption = (
        "Overlap: intersection over union of the plant and as many of the most salient pixels. "
        "Insertion: share of the evidence that the most salient pixels bring back; deletion: share "
        "that stays without them (lower is better). In words: cytolens against that method, by the "
        "interval of the difference cell by cell. Random: our saliency, shifted at random."
    )
    tables = (ReportTable(f"{kind.capitalize()}: all measures", header, rows, caption, 2),)
    text = tuple(_sentence(answer, answer.setting) for answer in answers)
    return Section(
        kind, kind.capitalize(), text=text, figures=figures, tables=tables if rows else ()
    )


def _against(answer: KnownAnswer, rival: str, measure: str) -> str:
    if f"{rival}_{measure}" not in answer.ahead:
        return "–"
    difference = answer.ahead[f"{rival}_{measure}"]
    if measure == "deletion":  # where less is better
        difference = Estimate(-difference.value, -difference.high, -difference.low)
    return f"{format_interval(answer.measures[f'{rival}_{measure}'])} {standing(difference)}"


def _method(answers: Sequence[KnownAnswer]) -> Section:
    layers = ", ".join(dict.fromkeys(answer.layer for answer in answers))
    text = (
        "Every cell is simulated twice, with the plant and without, from the same random numbers; "
        "the two classes are these two states, so nothing but the plant tells them apart. Pairs "
        "are split together into training, validation and held-out cells. Explained are held-out "
        "cells that are called planted, and plain without the plant, and whose log-odds fall by at "
        "least the standard deviation of those of plain cells: their class rests on the plant.",
        "Saliency: gradient × change of activation along a path from the background to the cell, "
        f"averaged over the input and the convolutions up to {layers}, whose receptive field is at "
        "most a third of the crop, half of it along paths from four plain cells instead of the "
        "background; smoothed with a 32nd of the crop. It is the saliency that the report shows "
        "for a cell.",
        "Grad-CAM: captum, last convolution (and at our layer). Integrated gradients: captum, 50 "
        "steps from the background. Plain maps: intensity above the background; the difference "
        "of Gaussians of 1.6 and 2.6 pixels; the power of what is finer than a pixel. Of all "
        "methods the positive part is used. Untrained: our saliency in the same architecture with "
        "random weights, its batch normalisation from cells.",
        "Pointing allows one pixel outside the mask. Insertion puts the most salient pixels of the "
        "planted cell into its plain twin, deletion takes them out; both give the mean share of "
        "the evidence (logit of planted minus plain) at 0.5, 1, 2, 4, 8, 16 % of the pixels.",
        "The intervals are over cells, for one network and one simulation; another seed trains "
        "another network.",
    )
    return Section("method", "How this was measured", text=text)


def _value(answer: KnownAnswer, key: str) -> str:
    return format_number(answer.measures[key].value) if key in answer.measures else "–"


def _of(answer: KnownAnswer, key: str) -> str:
    return format_interval(answer.measures[key]) if key in answer.measures else "–"
