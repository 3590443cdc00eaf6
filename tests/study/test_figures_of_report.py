"""The figures of a report are drawn into its folder: PNG, on request SVG, and nothing else."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from matplotlib.figure import Figure

from cytolens.report import story
from cytolens.study.stages import report


@pytest.mark.parametrize("svg", [False, True])
def test_figures_are_drawn_and_others_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, svg: bool
):
    drawn: list[str] = []

    def plot() -> Figure:
        figure = Figure(figsize=(1, 1))
        figure.add_subplot().plot([0, 1])
        return figure

    class Mate:
        """Another process that draws one figure and ends."""

        def draw(self, figure: str, about: Any, *, svg: bool) -> None:
            if drawn:
                raise EOFError
            drawn.append(figure)
            report.draw_figure(tmp_path / figure, plot, svg=svg)

    def plots(shown: object, *, folded: bool) -> dict[str, Any]:
        return dict.fromkeys(("a", "b", "c.5"), plot)

    monkeypatch.setattr(story, "plots", plots)
    for old in ("a.svg", "gone.png"):
        (tmp_path / old).write_bytes(b"old")
    value: Any = SimpleNamespace(shown=None, about={}, folded=True, svg=svg, mates=(Mate(),))
    said: list[str] = []
    names = report.draw_figures(tmp_path, value, lambda done, total, note: said.append(note))
    assert names == ["a", "b", "c.5"]
    endings = ("png", "svg") if svg else ("png",)
    expected = {f"{name}.{ending}" for name in names for ending in endings}
    assert {path.name for path in tmp_path.iterdir()} == expected
    assert all(path.stat().st_size > 500 for path in tmp_path.iterdir())
    assert {"a", "b", "c.5", "report.html"} == set(said)
