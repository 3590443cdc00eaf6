from dataclasses import replace
from functools import cache

import numpy as np
from made_records import make_cells, make_clusters, make_embedding, make_layers

from cytolens.clusters.clustering import cluster
from cytolens.clusters.flow import measure_flow
from cytolens.clusters.subpopulations import describe_clusters
from cytolens.records.clusters import ClassParts, Populations
from cytolens.report.clusters import chapter, clusters_table, layers_table, sentences
from cytolens.report.results import StudyResults


@cache
def results(*, apart: float, donor_effect: float = 0.0) -> StudyResults:
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
    return StudyResults(
        cells=cells,
        layers=make_layers(2),
        maps={"tsne": {layer: make_embedding(200, layer=layer) for layer in found}},
        clusters=found,
        main_layer="conv2",
        populations=Populations(
            layer="conv2",
            described=parted.described,
            classes=(parted,),
            images=None,
            flow=measure_flow(found, resamples=20, permutations=20, rng=0),
        ),
    )


def test_a_continuum_is_called_one():
    text = " ".join(sentences(results(apart=0)))
    assert "At no layer does a gap" in text
    assert "mostly one donor" in text


def test_gaps_are_told_where_they_are():
    told = sentences(results(apart=12))
    assert "at conv2 (2); at the other layers clusters are a continuum" in told[0]
    assert "conv2, 2, is chosen in 3 of 3 random halves of the cells." in told[1]


def test_a_cluster_that_is_a_donor_is_told():
    text = " ".join(sentences(results(apart=0, donor_effect=12)))
    assert "Some clusters are a donor rather than a kind of cell" in text
    assert "is d2 (100 % of it" in text
    rows = clusters_table(results(apart=0, donor_effect=12)).rows
    assert sum("mostly one group" in row[-1] for row in rows) == 1


def test_the_chapter_draws_clusters_parts_and_flow_with_captions_and_tables():
    anchor, _, _, drawings, tables = chapter(results(apart=12))
    assert anchor == "clusters"
    assert [name for name, *_ in drawings] == ["clusters", "class_parts", "cluster_flow"]
    assert all(len(caption) > 200 for _, _, caption, _, _ in drawings)
    assert all(plot() for *_, plot, _ in drawings)
    layers, agreement, counts, differences = tables
    assert [row[0] for row in layers.rows] == ["conv1", "conv2"]
    assert [row[:2] for row in agreement.rows[:2]] == [("conv1", "classes"), ("", "groups")]
    assert len(counts.rows) == 2
    assert {row[2] for row in differences.rows} == {"area"}


def test_clusters_without_stability_or_groups_are_told_plainly():
    cells = make_cells(60)
    plain = StudyResults(
        cells=cells,
        layers=make_layers(2),
        main_layer="conv1",
        maps={"tsne": {"conv1": make_embedding(layer="conv1")}},
        clusters={"conv1": make_clusters(cells, layer="conv1")},
    )
    _, _, told, drawings, _ = chapter(plain)
    assert told == ()
    assert [name for name, *_ in drawings] == ["clusters"]
    assert layers_table(plain) is None
    assert chapter(StudyResults())[3] == []
