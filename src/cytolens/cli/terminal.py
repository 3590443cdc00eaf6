"""What the terminal shows: progress with the time left, and results as plain tables."""

import sys
import threading
import time
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.progress import Progress as Bar
from rich.table import Table

from cytolens.numerics.estimates import Estimate
from cytolens.numerics.machine import clock
from cytolens.records.cells import Progress
from cytolens.records.clusters import Clusters
from cytolens.records.contrast import Contrasts
from cytolens.records.features import CellExplanation, Complexity
from cytolens.records.layers import Layer, Unseen
from cytolens.records.maps import Embedding, PlacedCells
from cytolens.records.separation import Onset

_lock = threading.Lock()
_open: list[Bar] = []  # the same for every stage that is being made
_shown: Bar
_WORTH_A_LINE = 0.05  # seconds
_SILENCE = 30.0  # seconds, after which a file that the output goes to is given a line, too
_WIDE = 200  # columns, where the output goes to a file and nothing may be cut
_out = Console(highlight=False, soft_wrap=True, width=None if sys.stdout.isatty() else _WIDE)
_err = Console(stderr=True, highlight=False, soft_wrap=True)


def print_line(text: str) -> None:
    """One line of result on standard output."""
    _out.print(text, markup=False)


def print_remark(text: str) -> None:
    """One line on standard error."""
    _err.print(text, markup=False)


def print_checked(stage: str, problem: str | None) -> None:
    """Whether a stage's results are as they were written."""
    print_line(f"{stage}: {problem or 'as it was written'}")


def print_whether_report_is_old(study: Any) -> None:
    """A remark where the folder holds a report that is not of the results it holds."""
    report = study.folder.path / "report.html"
    if report.is_file() and not study.is_current("report"):
        print_remark(
            f"{report} shows earlier results; make it again: cytolens report {study.folder.path}"
        )


def print_edits(run: Path) -> None:
    """A remark where suspects were edited and not handed back."""
    from cytolens.study.stages.report import EDITED, not_handed_back

    if (run / EDITED).is_file() and not_handed_back(run / EDITED, run / "suspects.csv"):
        print_remark(
            f"your edits of suspects.csv are in {run / EDITED}; hand them back with: "
            f"cytolens run {run} --relabel {run / EDITED}"
        )


@contextmanager
def announce(stage: str) -> Generator[Progress]:
    """A progress bar for one stage on standard error; a line with its seconds when it ends."""
    started = since = said = time.perf_counter()
    before = 0  # what was done when it was last told
    with _bars() as bars:
        task = bars.add_task(stage, total=None, note="")

        def progress(done: int, total: int, note: str) -> None:
            nonlocal said, since, before
            if done < before:  # another part of the stage begins
                since = time.perf_counter()
            before = done
            bars.update(task, completed=done, total=total, note=note)
            if not _err.is_terminal and time.perf_counter() - said > _SILENCE:
                said = time.perf_counter()
                print_remark(f"{stage}: {how_far(done, total, said - since)} ({note})")

        try:
            yield progress
        finally:
            bars.remove_task(task)
    seconds = time.perf_counter() - started
    if seconds >= _WORTH_A_LINE:
        _err.print(f"{stage}: {seconds:.1f} s", markup=False)


def how_far(done: int, total: int, seconds: float) -> str:
    """How far a stage is, and how long it still takes if it goes on as it went.

    >>> how_far(1, 4, 90), how_far(1, 1000, 90)
    ('25 %, about 4 min 30 s left', '0 %')
    """
    share = min(max(done / total, 0), 1) if total else 0
    left = f", about {clock(seconds * (1 / share - 1))} left" if share >= 0.01 else ""
    return f"{100 * share:.0f} %{left}"


@contextmanager
def _bars() -> Generator[Bar]:
    """The bars of all stages that are made at the time, one line each."""
    global _shown
    with _lock:
        if not _open:
            columns = (
                TextColumn("{task.description}"),
                BarColumn(bar_width=28),
                TimeElapsedColumn(),
                TextColumn("left"),
                TimeRemainingColumn(),
                TextColumn("{task.fields[note]}"),
            )
            _shown = Bar(*columns, console=_err, transient=True, disable=not _err.is_terminal)
            _shown.start()
        _open.append(bars := _shown)
    try:
        yield bars
    finally:
        with _lock:
            _open.pop()
            if not _open:
                bars.stop()


def _table(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    table = Table(title=title, title_justify="left", box=None, pad_edge=False)
    for i, column in enumerate(columns):
        table.add_column(column, justify="left" if i == 0 else "right", no_wrap=True)
    for row in rows:
        table.add_row(*row)
    _out.print(table)


def print_forecast(study: Any) -> None:
    """How long a large study will take, and what it will store, before it does.

    Raises RunError where there is no room for it.
    """
    foreseen = study.foresee()
    if foreseen is not None:
        from cytolens.study.forecast import check_room

        print_remark(foreseen.text)
        warning = check_room(study.folder.path, foreseen)
        if warning is not None:
            print_remark(warning)


def print_headline(study: Any) -> None:
    """The answer in a line or two, as the report gives it."""
    for remark in study["cells"].remarks:
        _err.print(remark, markup=False)
    print_evaluation(study)


def print_evaluation(study: Any) -> None:
    """Measures on the test cells, with the baseline and the folds next to them."""
    from cytolens.report.findings import folds_by_group, tested_groups
    from cytolens.report.leakage import leakage_sentences
    from cytolens.report.results import Results

    result, folds, shown = study["evaluation"], study["folds"], Results(study)
    for remark in study["classifier"].doubts:
        _err.print(remark, markup=False, style="bold")
    if result is None:
        return
    columns = [("network", result.test.measures), ("linear on pixels", result.baseline.measures)]
    if folds_by_group(shown) is not None:
        columns.insert(0, (f"mean over {len(folds.names)} held-out parts", folds.measures))
    elif folds is not None:
        columns.append((f"mean over {len(folds.names)} folds", folds.measures))
    rows = [
        [name, *(str(measures.get(name, "")) for _, measures in columns)]
        for name in result.test.measures
    ]
    few, test = tested_groups(shown), shown.test_cells
    if folds_by_group(shown) is None:
        _table("", [f"on {result.test.n} {test}{few}", *(n for n, _ in columns)], rows)
    else:
        noun = shown.cells.group_name if shown.cells is not None else None
        _table(
            f"no network has seen the {noun or 'group'} that it is tested on",
            ["", *(name for name, _ in columns)],
            rows,
        )
        print_line(f"network and linear: on {result.test.n} {test}{few}")
        if study.settings.folds is None:
            print_remark(
                "a network per group was trained, as there are 3 to 10 and it takes not "
                "too long (groups × cells × pixels ≤ 3 × 10⁷); --folds none switches it off"
            )
    for sentence in leakage_sentences(shown):
        print_line(sentence)


def print_layers(layers: Sequence[Layer], unseen: Sequence[Unseen] = ()) -> None:
    """Name, kind, depth, shape, receptive field of each layer; what cannot be looked at."""
    _table(
        "",
        ["layer", "kind", "depth", "shape", "receptive field / px"],
        [
            [
                la.name,
                la.kind,
                str(la.depth),
                " × ".join(map(str, la.shape)),
                "–" if la.receptive_field is None else str(la.receptive_field),
            ]
            for la in layers
        ],
    )
    for reason in dict.fromkeys(found.reason for found in unseen):
        names = [found.name for found in unseen if found.reason == reason]
        print_line(f"Not looked at: {', '.join(names)} ({reason}).")


def print_activations(study: Any) -> None:
    """Where the activations are, and their shapes."""
    acts = study["activations"]
    _table(
        str(study.folder.path / "activations" / "activations.zarr"),
        ["layer", "cells × features"],
        [[name, " × ".join(map(str, acts.features[name].shape))] for name in acts],
    )


def print_maps(maps: Mapping[str, Mapping[str, Embedding]]) -> None:
    """Each map with the numbers that say what it kept."""
    rows = [
        [layer, method, *(f"{q}={v:.3f}" for q, v in embedding.quality.items())]
        for method, by_layer in maps.items()
        for layer, embedding in by_layer.items()
    ]
    width = max(map(len, rows))
    _table("", ["layer", "map", *[""] * (width - 2)], [r + [""] * (width - len(r)) for r in rows])


def print_clusters(clusters: Mapping[str, Clusters]) -> None:
    """Clusters at each depth, the parts that gaps divide, their stability, whose they are."""
    rows: list[list[str]] = []
    for name, found in clusters.items():
        sure, groups = found.stability, found.groups
        row = [name, str(found.n), "–" if sure is None else str(sure.n_parts)]
        row.append("–" if sure is None else str(sure.ari))
        row += [str(found.agreement["ari"]), str(found.agreement["nmi"])]
        rows.append([*row, "–" if groups is None else str(groups.agreement["ari"])])
    header = ["layer", "clusters", "parts", "stability", "ARI with classes", "NMI with classes"]
    _table("parts: divided by gaps; 1 is a continuum", [*header, "ARI with groups"], rows)


def print_separation(
    separation: Mapping[str, Mapping[str, Estimate]], onsets: Sequence[Onset]
) -> None:
    """Every measure at every depth, with its interval and null; from where on classes are apart."""
    every = list(next(iter(separation.values())))
    for names in (every[:4], every[4:]):  # side by side they are wider than a terminal
        if names:
            _table(
                "value [95 % interval] (null | untrained)",
                ["layer", *names],
                [
                    [layer, *(_with_controls(measures[name]) for name in names)]
                    for layer, measures in separation.items()
                ],
            )
    _table(
        "balanced accuracy of a linear probe",
        ["classes", "apart from", "nine tenths at", "best at", "there"],
        [
            [
                onset.name,
                *(layer or "–" for layer in (onset.clear, onset.nine_tenths, onset.best)),
                _with_controls(onset.value),
            ]
            for onset in onsets
        ],
    )


def print_placed(placed: PlacedCells) -> None:
    """Share of odd cells at each depth and over all, next to that of held-out cells of the run."""
    shares = [(name, placed.share[name], placed.clean[name]) for name in (*placed.layers, "any")]
    shares.append(("all, as one number", placed.overall.share, placed.overall.clean))
    percent = [[name, *(_in_percent(share) for share in both)] for name, *both in shares]
    _table("", ["odd at", f"% of {len(placed.names)} new cells", "% of test cells"], percent)


def print_complexity(complexity: Complexity | None) -> None:
    """The share of what each layer says that simple descriptions explain, at every depth."""
    if complexity is None:
        return
    shares = complexity.layers
    names = list(next(iter(shares.values()), {}))
    rows = [[layer, *(_before(found[name]) for name in names)] for layer, found in shares.items()]
    _table("explained by (before training)", ["layer", *names], rows)


def print_explanations(explanations: Sequence[CellExplanation]) -> None:
    """The cells that were explained, and their deciding channels."""
    _table(
        "",
        ["cell", "class", "given", "probability", "deciding channels"],
        [
            [
                e.name,
                e.true_class,
                e.predicted_class,
                f"{e.probability:.3f}",
                f"{e.layer}: " + " ".join(map(str, e.channels)),
            ]
            for e in explanations
        ],
    )


def print_contrasts(contrasts: Contrasts | None) -> None:
    """What differs between less and more of each target, and how far to believe it."""
    if contrasts is None:
        print_line("no pairs: none were asked for, or there are too few cells")
        return
    from cytolens.report.chapters.contrasts import answers_sentence, what_differs

    for pairs in contrasts.pairs:
        print_line(what_differs(pairs))
    print_line(answers_sentence(contrasts))


def _in_percent(estimate: Estimate) -> str:
    if estimate.no_interval is not None:
        return f"{100 * estimate.value:.1f} (no interval: {estimate.no_interval})"
    low, high = 100 * estimate.low, 100 * estimate.high
    return f"{100 * estimate.value:.1f} [{low:.1f}, {high:.1f}]"


def _with_controls(estimate: Estimate) -> str:
    controls = (estimate.null, estimate.untrained)
    compared = " | ".join("–" if c is None else f"{c:.3f}" for c in controls)
    return f"{estimate} ({compared})"


def _before(estimate: Estimate) -> str:
    before = estimate.untrained
    return str(estimate) if before is None else f"{estimate} ({before:.3f})"
