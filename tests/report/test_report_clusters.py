from dataclasses import replace
from functools import cache

import numpy as np
from made_records import make_cells, make_clusters, make_embedding, make_layers

from cytolens.clusters.clustering import cluster
from cytolens.clusters.flow import measure_flow
from cytolens.clusters.subpopulations import describe_clusters
from cytolens.records.clusters import ClassParts, Clusters, Populations
from cytolens.report.chapter import MOST_WORDS
from cytolens.report.chapters.clusters import clusters_table, figures, sentences, tables
from cytolens.report.results import Results


@cache
def results(*, apart: float, donor_effect: float = 0.0) -> Results:
    """Two layers of 200 cells, whose clusters lie ``apart`` at the second."""
    rng = np.random.default_rng(0)
    cells = make_cells(200, class_names=("G1", "G2"))
    groups = np.array(["d1", "d2", "d3"])[rng.integers(0, 3, 200)]
    cells = replace(cells, groups=groups, group_name="donor")
    kind = rng.integers(0, 2, 200)
    found, area = {}, rng.normal(size=200) + 3 * kind
    for layer in ("conv1", "conv2"):
        features = rng.normal(size=(200, 4)).astype(np.float32)
        if layer == "conv2":
            features[:, 0] += apart * kind
            features[:, 1] += donor_effect * (groups == "d2")
        options = {"groups": groups, "halves": 3, "permutations": 50, "resamples": 50, "rng": 0}
        found[layer] = cluster(features, cells.labels, name=layer, n_classes=2, **options)
    last = found["conv2"]
    parted = ClassParts(0, np.arange(200), last, describe_clusters(last.labels, {"area": area}))
    populations = Populations(
        layer="conv2",
        described=parted.described,
        classes=(parted,),
        images=None,
        flow=measure_flow(found, resamples=20, permutations=20, rng=0),
    )
    return Results(
        {
            "cells": cells,
            "layers": make_layers(2),
            "main_layer": "conv2",
            "maps": {"tsne": {layer: make_embedding(200, layer=layer) for layer in found}},
            "clusters": found,
            "populations": populations,
        }
    )


def test_a_continuum_is_called_one():
    text = " ".join(sentences(results(apart=0)))
    assert "At no layer does a gap" in text
    assert "mostly one donor" in text


def test_gaps_are_named_with_their_layer():
    text = sentences(results(apart=12))
    assert "at conv2 (2); at the other layers clusters are pieces of a continuum" in text[0]
    assert "conv2, 2, is chosen in 3 of 3 random halves of the cells." in text[1]


def test_a_cluster_that_is_a_donor_is_said_to_be_one():
    found = results(apart=0, donor_effect=12)
    text = " ".join(sentences(found))
    assert "Some clusters are a donor rather than a kind of cell" in text
    assert "is d2 (100 % of it" in text
    table = clusters_table(found.by_layer("clusters", Clusters)["conv2"], ("G1", "G2"))
    assert sum("mostly one group" in row[-1] for row in table.rows) == 1


def test_the_chapter_draws_clusters_parts_and_flow_and_has_a_table_of_each():
    drawings = list(figures(results(apart=12)))
    assert [drawing.name for drawing in drawings] == ["clusters", "class_parts", "cluster_flow"]
    assert all(drawing.note for drawing in drawings)
    assert all(len(drawing.caption.split()) <= MOST_WORDS for drawing in drawings)
    assert all(drawing.plot() for drawing in drawings)
    layers, agreement, counts, differences = tables(results(apart=12))
    assert [row[0] for row in layers.rows] == ["conv1", "conv2"]
    assert [row[:2] for row in agreement.rows[:2]] == [("conv1", "classes"), ("", "groups")]
    assert len(counts.rows) == 2
    assert {row[2] for row in differences.rows} == {"area"}


def test_clusters_without_stability_or_groups_are_shown_without_them():
    cells = make_cells(60)
    plain = Results(
        {
            "cells": cells,
            "layers": make_layers(2),
            "main_layer": "conv1",
            "maps": {"tsne": {"conv1": make_embedding(layer="conv1")}},
            "clusters": {"conv1": make_clusters(cells, layer="conv1")},
        }
    )
    assert sentences(plain) == ()
    assert [drawing.name for drawing in figures(plain)] == ["clusters"]
    assert next(iter(tables(plain))) is None
    assert not list(figures(Results({})))
