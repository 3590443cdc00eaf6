"""The chapter on complexity: what simple descriptions of a cell tell of what each layer says."""

from collections.abc import Iterator
from functools import partial

from cytolens.figures.complexity import fall_text, plot_complexity
from cytolens.figures.labels import format_interval, format_number
from cytolens.numerics.estimates import Estimate
from cytolens.records.features import Complexity
from cytolens.report.chapter import Chapter, Drawing
from cytolens.report.growth import ALL_TOGETHER, growth_of_complexity
from cytolens.report.results import Results


def figures(results: Results) -> Iterator[Drawing]:
    """The share that is explained, by depth."""
    found = results.read("complexity", Complexity)
    if found is None or not found.layers:
        return
    caption = (
        "How well simple descriptions of a held-out cell predict what the channels of each layer "
        "answer (1: wholly). Where the blue line falls below the vermilion one, the network before "
        "training, the layer has learnt something more complex. A low line alone does not show "
        "that: depth brings it too."
    )
    plot = partial(plot_complexity, found, results.layers)
    yield Drawing("complexity", "What simple descriptions explain", caption, plot, _note(found))


def sentences(results: Results) -> tuple[str, ...]:
    """What all simple descriptions explain, first and last, and whether training did it."""
    found = results.read("complexity", Complexity)
    if found is None or len(found.layers) < 2:
        return ()
    names = list(found.layers)
    shares = [found.layers[name].get(ALL_TOGETHER) for name in (names[0], names[-1])]
    first, last = shares
    if first is None or last is None:
        return ()
    text = (
        "Brightness, size, shape, edges, grain and their arrangement together explain "
        f"{_share(first)} of what the channels of {names[0]} say of a cell, and "
        f"{_share(last)} of what those of {names[-1]} say; before training that is "
        f"{format_number(last.untrained)}."
    )
    more, alone = "", found.layers[names[-1]].get("intensity")
    if alone is not None and "intensity" in found.falls:
        more = (
            f"Brightness and size alone explain {_share(alone)} of what {names[-1]} says, "
            f"before training {format_number(alone.untrained)}: {_fallen(found)}."
        )
    return (text, growth_of_complexity(found), *([more] if more else []))


def _share(estimate: Estimate) -> str:
    """With its interval, where there is one; the sentence after these says why there is none."""
    return format_interval(estimate) if estimate.known else format_number(estimate.value)


def _fallen(found: Complexity) -> str:
    return f"the share is {fall_text(found.falls['intensity'])}"


def _note(found: Complexity) -> str:
    return (
        "A channel's answer is the mean of its map, over four turns of the cell. It is predicted "
        f"by ridge regression fitted on {found.known_from:,} cells; the share is that of "
        f"the variance of a layer's answers over {found.n:,} cells that had no part in the fit. "
        "Each description holds those before it: histogram, mean and spread of the "
        "intensities; rings about the "
        "cell's centre, its extent and how elongated it is; wavelets of every size (first-order "
        "scattering); the same of what they find (second order). Bands: 95 % intervals over cells "
        "and channels. The network before training has its batch normalisation from these "
        "cells. A random filter is one layer that sees as much as a neuron there. Below: the share "
        "that the answers of an earlier layer explain."
    )


CHAPTER = Chapter("complexity", "How complex it is", 72, figures, sentences=sentences)
