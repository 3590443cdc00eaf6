from dataclasses import replace

import numpy as np
import pytest
from made_records import make_cells, make_clusters, make_embedding, make_images, texts

from cytolens.clusters.flow import measure_flow
from cytolens.figures.clusters import letter, plot_class_parts, plot_clusters
from cytolens.figures.flow import plot_flow
from cytolens.figures.style import render
from cytolens.numerics.estimates import Estimate
from cytolens.records.cells import Cells
from cytolens.records.clusters import (
    ClassParts,
    ClusterDescription,
    ClusterGroups,
    Clusters,
    ClusterStability,
    Difference,
)

LONG = tuple(f"activated by a stimulus of long name {k}" for k in range(10))


def judged(found: Clusters, *, parted: bool = True) -> Clusters:
    """The clusters with a stability, and the first of them mostly one donor."""
    n = found.n
    gap = np.where(np.arange(n) == 0, 0.6, 0.1)
    stability = ClusterStability(
        np.full(n, 0.91), 0.84, Estimate(0.9, 0.8, 0.95, 0.7), {str(n): 8, "9": 2},
        gap, np.full(n, 0.2), np.minimum(np.arange(n), int(parted)), 10, 500,
    )  # fmt: skip
    table = np.full((n, 2), 10)
    table[:1] = [2, 38]
    agreement = {key: Estimate(0.1, 0.05, 0.2, 0.02) for key in ("ari", "nmi", "purity")}
    groups = ClusterGroups(
        ("d1", "donor of a long name 2"), table, agreement, np.full(n, 0.5), np.full(n, 0.7)
    )
    return replace(found, stability=stability, groups=groups)


def told(n: int, count: int = 5) -> tuple[ClusterDescription, ...]:
    differences = tuple(
        Difference(name, Estimate(0.9 - 0.1 * place, 0.6, 0.95, 0.65))
        for place, name in enumerate(("area", "mean_brightness", "p1", "p2", "p3")[:count])
    )
    return tuple(
        ClusterDescription("larger, brighter" if k else "", differences, 20) for k in range(n)
    )


def parts(cells: Cells, n: int, index: int = 0) -> ClassParts:
    members = np.flatnonzero(cells.labels == index)
    return ClassParts(index, members, judged(make_clusters(cells.subset(members), n=n)), told(n))


@pytest.mark.parametrize("n", [0, 1, 4])
def test_clusters_say_how_sure_they_are_what_they_are_and_whose(n: int):
    cells = make_cells(100, classes=10, class_names=LONG, channels=2)
    found = judged(make_clusters(cells, n=n))
    written = texts(plot_clusters(found, make_embedding(100), cells, described=told(n)))
    assert sum(text.startswith("stable 0.91 (Gaussian 0.84)") for text in written) == n
    assert sum(text.startswith("gap 0.60 (chance 0.20)") for text in written) == min(n, 1)
    assert sum("95 % are of donor" in text for text in written) == min(n, 1)
    assert written.count("larger, brighter") == max(n - 1, 0)
    assert written.count("nothing measured differs") == min(n, 1)
    assert ("2 parts divided by gaps: 0 | 1 2 3" in written) == (n > 1)


def test_clusters_that_no_gap_divides_are_called_a_continuum():
    cells = make_cells()
    found = judged(make_clusters(cells), parted=False)
    assert "No gap: one continuum" in texts(plot_clusters(found, make_embedding(), cells))


@pytest.mark.parametrize("n", [1, 7])
def test_the_parts_of_classes_have_names_effects_and_their_own_images(n: int):
    cells = make_cells(100, classes=3, class_names=LONG[:3])
    images = make_images(count=2 * n)
    figure = plot_class_parts([parts(cells, n, 0), parts(cells, n, 2)], cells, images)
    written = texts(figure)
    assert written.count("area  0.90 [0.60, 0.95]") == 2 * min(n, 6)
    assert sum("2 parts divided by gaps" in text for text in written) == (2 if n > 1 else 0)
    assert {"a", letter(min(n, 6) - 1)} <= set(written) or n > 6
    assert render(figure)[0]


def test_an_image_that_is_like_other_cells_is_not_shown_and_that_is_said():
    cells = make_cells(100, classes=3)
    found, images = [parts(cells, 2, 0)], make_images(count=2)

    def drawn(own: list[float]) -> tuple[int, list[str]]:
        figure = plot_class_parts(found, cells, images, np.array(own))
        return len(figure.axes[0].images), texts(figure)

    both, written = drawn([0.8, 0.6])
    assert "80 % its own" in written
    one, written = drawn([0.8, 0.2])
    assert both - one == 1
    assert {"none", "20 % its own"} <= set(written)
    assert "not judged" in drawn([np.nan, 0.9])[1]


def test_parts_are_lettered_beyond_the_alphabet():
    assert [letter(k) for k in (0, 25, 26, 53)] == ["a", "z", "a1", "b2"]


def test_parts_without_cells_of_their_own_classes_are_drawn():
    cells = make_cells(12)
    assert texts(plot_class_parts([], cells))
    empty = replace(parts(cells, 1), described=told(1, count=0))
    assert texts(plot_class_parts([empty], cells))


@pytest.mark.parametrize(("layers", "clusters"), [(1, 1), (2, 1), (10, 8)])
def test_the_flow_is_drawn_for_few_and_many_layers_and_clusters(layers: int, clusters: int):
    cells = make_cells(200, classes=3, class_names=LONG[:3])
    found = {f"block{k}.conv": make_clusters(cells, n=clusters) for k in range(layers)}
    flow = measure_flow(found, resamples=5, permutations=5, rng=0)
    figure = plot_flow(flow, cells.labels, cells.class_names)
    written = texts(figure)
    assert sum(text.startswith("1.00") for text in written) == layers - 1  # the same clusters
    assert sum("conv" in text for text in written) == layers
    assert render(figure)[0]


def test_the_flow_of_nothing_says_so():
    flow = measure_flow({})
    assert "there are no clusters" in texts(plot_flow(flow, np.zeros(0, int), ("a", "b")))


def test_cells_without_clusters_flow_too():
    cells = make_cells(60)
    found = {"a": make_clusters(cells, n=0), "b": make_clusters(cells, n=2)}
    flow = measure_flow(found, resamples=5, permutations=5, rng=0)
    assert texts(plot_flow(flow, cells.labels, cells.class_names))
