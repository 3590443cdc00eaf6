"""What a chapter of the report is made of. Each file in ``chapters`` declares one."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cytolens.report.page import ReportTable
from cytolens.report.results import Results

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MOST_WORDS = 60
"""Words of a caption: what is shown, what to read from it, one caution."""


@dataclass(frozen=True)
class Drawing:
    """A figure that can be drawn, with its words."""

    name: str  # of its files in the run folder
    title: str
    caption: str  # at most MOST_WORDS words
    plot: "Callable[[], Figure]"
    note: str = ""  # how it was measured, shown on demand
    half: bool = False  # two of these share a row
    front: int = 0  # its place among the figures that answer the question; 0: in its chapter only
    brief: "Callable[[], Figure] | None" = None  # a smaller drawing of it, for that place
    fold: str = ""  # figures that follow each other under the same heading are shown on demand


def _nothing(results: Results) -> tuple[()]:
    return ()


@dataclass(frozen=True)
class Chapter:
    """A chapter; what its functions leave out, because results are missing, is not shown."""

    anchor: str
    title: str
    place: int  # in the story; chapters are sorted by it
    figures: Callable[[Results], Iterable[Drawing]] = _nothing
    tables: Callable[[Results], Iterable[ReportTable | None]] = _nothing
    sentences: Callable[[Results], tuple[str, ...]] = _nothing
    result: Callable[[Results], str] | None = None  # what came out; else the first sentence

    def told(self, results: Results) -> tuple[str, tuple[str, ...]]:
        """What came out, in one sentence; and the sentences that say more."""
        sentences = self.sentences(results)
        if self.result is not None:
            return self.result(results), sentences
        return (sentences[0], sentences[1:]) if sentences else ("", ())


def file_name(layer: str) -> str:
    """The name of a layer as part of a file name."""
    return "".join(letter if letter.isalnum() or letter in "-." else "_" for letter in layer)
