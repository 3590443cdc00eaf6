import time
from dataclasses import replace
from io import BytesIO

import matplotlib as mpl
import numpy as np
import pytest
from made_records import (
    NAN,
    make_cells,
    make_clusters,
    make_embedding,
    make_probabilities,
    texts,
)
from matplotlib.figure import Figure
from PIL import Image
from scipy import ndimage

from cytolens.errors import SettingError
from cytolens.figures.cluster_map import plot_cluster_outlines
from cytolens.figures.density import extent_of, level_holding, pixel_of, smooth_density
from cytolens.figures.map_panels import follow_colours, plot_embedding_panel, plot_maps_by_depth
from cytolens.figures.maps import RARE, plot_embedding
from cytolens.figures.outlines import describe_cluster, draw_cluster_outlines
from cytolens.figures.overlays import continuous, overlay, overlay_of_values
from cytolens.figures.style import PALETTE, render
from cytolens.figures.thumbnails import plot_thumbnails

LONG = tuple(f"activated by a stimulus of long name {k}" for k in range(10))


def test_every_colouring_has_its_key() -> None:
    cells = make_cells(
        groups=np.array([f"donor {i % 3}" for i in range(60)]),
        group_name="donor",
        covariates={"area": np.linspace(0, 9, 60), "stain": np.array(["a", "b"] * 30)},
    )
    options = {
        "probabilities": make_probabilities(cells.labels, 2),
        "clusters": make_clusters(cells),
    }
    keys = {
        "class": "class 1",
        "prediction": "class 1",
        "errors": "wrong",
        "confidence": "probability of prediction",
        "probability": "of the cell's given class",
        "entropy": "of the prediction (bits)",
        "group": "donor 2",
        "cluster": "3",
        "area": "area",
        "stain": "b",
    }
    for color, key in keys.items():
        assert key in texts(plot_embedding(make_embedding(), cells, color=color, **options))


def test_an_unknown_colouring_lists_the_known_ones() -> None:
    with pytest.raises(SettingError, match="confidence"):
        overlay(make_cells(), "colour of the moon")


@pytest.mark.parametrize("color", ["prediction", "group", "cluster"])
def test_a_colouring_without_its_data_says_what_is_missing(color: str) -> None:
    with pytest.raises(SettingError, match=color):
        overlay(make_cells(), color)


def test_a_map_needs_no_cells_where_colours_are_given() -> None:
    plotted = plot_embedding(make_embedding(), color=np.array(["left", "right"] * 30))
    assert {"left", "right"} <= set(texts(plotted))
    with pytest.raises(SettingError, match="cells"):
        plot_embedding(make_embedding(), color="group")


def test_a_map_alone_is_drawn_in_one_colour_and_its_clusters_in_theirs() -> None:
    plain = plot_embedding(make_embedding()).axes[0].collections[0]
    assert len(np.unique(plain.get_facecolors(), axis=0)) == 1
    clusters = make_clusters(make_cells(), n=3)
    assert {"0", "1", "2"} <= set(texts(plot_embedding(make_embedding(), clusters=clusters)))


def test_maps_by_layer_are_drawn_as_their_list_is() -> None:
    maps = {name: make_embedding(layer=name) for name in ("input", "conv1", "logits")}
    by_layer, listed = (plot_maps_by_depth(m, make_cells()) for m in (maps, list(maps.values())))
    assert texts(by_layer) == texts(listed)


def test_more_than_ten_categories_are_gathered() -> None:
    values = np.array([f"plate {i % 25:02d}" for i in range(500)])
    names = [name for name, _ in overlay_of_values("plate", values).categories]
    assert len(names) == 10
    assert names[-1] == "other (16)"


def test_missing_covariates_are_grey_and_do_not_set_the_scale() -> None:
    shown = continuous("area", np.array([1.0, 2.0, 3.0, NAN, np.inf]))
    assert shown.limits is not None
    assert max(shown.limits) <= 3
    assert len(np.unique(shown.rgb[3])) == 1
    assert continuous("area", np.full(3, NAN)).limits == (0.0, 1.0)


def test_points_stay_vectors_up_to_two_thousand() -> None:
    few, many = make_embedding(1500), make_embedding(2500)
    assert b"<image" not in render(plot_embedding(few, color=np.zeros(1500, dtype=int)))[1]
    assert b"<image" in render(plot_embedding(many, color=np.zeros(2500, dtype=int)))[1]


def test_density_is_drawn_for_very_many_cells() -> None:
    figure = plot_embedding(make_embedding(30_000), color=np.arange(30_000) % 2)
    assert len(figure.axes[0].images) == 1
    assert not figure.axes[0].collections


def test_a_rare_class_is_seen_among_a_hundred_thousand_cells_in_three_seconds() -> None:
    labels = np.zeros(100_000, dtype=int)
    labels[::2000] = 1  # 50 cells, spread over the others
    started = time.process_time()
    figure = plot_embedding(make_embedding(100_000), color=labels)
    png = render(figure)[0]
    assert time.process_time() - started < 3
    picture = np.array(Image.open(BytesIO(png)).convert("RGB")).astype(int)
    vermilion, blue = (np.array([int(c[i : i + 2], 16) for i in (1, 3, 5)]) for c in PALETTE[1::-1])
    seen, _ = ndimage.label(np.abs(picture - vermilion).sum(axis=2) < 90)
    spots = np.bincount(seen.ravel())[1:]
    assert (spots >= 4).sum() > 40  # some of the fifty lie on each other
    assert (np.abs(picture - blue).sum(axis=2) < 90).sum() > 5_000
    assert (labels == 1).mean() < RARE


def test_shading_shows_the_mean_value_and_not_the_mean_colour() -> None:
    values = np.where(np.arange(30_000) % 2, 1.0, 0.0)
    embedding = replace(make_embedding(30_000), coordinates=np.zeros((30_000, 2), np.float32))
    embedding.coordinates[:2] = [[-1, -1], [1, 1]]
    picture = plot_embedding(embedding, color=values).axes[0].images[0].get_array()
    middle = picture[picture.shape[0] // 2, picture.shape[1] // 2, :3]
    np.testing.assert_allclose(middle, mpl.colormaps["viridis"](0.5)[:3], atol=0.02)


def test_values_that_are_not_known_are_shaded_grey() -> None:
    values = np.full(30_000, NAN)
    values[:10] = 1.0
    figure = plot_embedding(make_embedding(30_000), color=values)
    assert len(figure.axes[0].images) == 2


def test_regions_hold_the_share_of_cells_that_they_claim() -> None:
    xy = np.random.default_rng(0).normal(size=(4000, 2)) * [2, 1]
    extent = extent_of(xy)
    density = smooth_density(xy, extent)
    for share in (0.5, 0.9):
        level = level_holding(density, xy, extent, share)
        inside, place = pixel_of(xy, extent, len(density))
        assert inside.all()
        assert (density.ravel()[place] >= level).mean() == pytest.approx(share, abs=0.01)
    row, column = np.unravel_index(density.argmax(), density.shape)
    assert abs(row - 80) < 10
    assert abs(column - 80) < 10


def test_contours_are_drawn_for_classes_with_enough_cells_only() -> None:
    labels = np.zeros(200, dtype=int)
    labels[:3] = 1
    figure = plot_embedding(make_embedding(200), color=labels, contours=True)
    lines = [c for c in figure.axes[0].collections if type(c).__name__ == "QuadContourSet"]
    assert len(lines) == 1


def test_outlines_are_labelled_with_size_and_purity_and_small_clusters_have_none() -> None:
    cells = make_cells(200)
    clusters = make_clusters(cells, n=3)
    labels = clusters.labels.copy()
    labels[labels == 2] = 1
    labels[:3] = 2
    table = [np.bincount(cells.labels[labels == k], minlength=2) for k in range(3)]
    clusters = replace(clusters, labels=labels, table=np.array(table))
    axes = Figure().add_subplot()
    places = draw_cluster_outlines(axes, make_embedding(200), clusters, labels="full")
    assert places[2] is None
    assert describe_cluster(clusters, 0, cells.class_names).startswith(f"0:  n = {sum(table[0])}")
    assert [text.get_text()[:2] for text in axes.texts] == ["0:", "1:"]
    figure = plot_embedding(
        make_embedding(200), cells, color="cluster", clusters=clusters, outlines=True
    )
    share = 100 * table[1].max() / table[1].sum()
    name = cells.class_names[int(table[1].argmax())]
    assert f"1:  n = {table[1].sum()}\n{share:.0f} % {name}" in texts(figure)


def test_a_cluster_keeps_its_colour_from_depth_to_depth() -> None:
    cells = make_cells(90)
    before = replace(make_clusters(cells, n=3), labels=np.repeat([0, 1, 2], 30))
    after = replace(make_clusters(cells, n=4), labels=np.repeat([2, 0, 1, 3, 3, 3], 15))
    after.labels[15:30] = 2  # the first thirty are cluster 2 now
    first, second = follow_colours([before, after])
    assert second[2] == first[0]
    assert len(set(second)) == 4


def test_a_map_is_a_small_vector_file_however_many_cells_it_has() -> None:
    figure = plot_embedding(make_embedding(4000), color=np.arange(4000) % 3)
    svg = render(figure)[1]
    assert len(svg) < 1_000_000
    assert b"<text" in svg  # text stays text
    assert b"<dc:date>" not in svg


def test_maps_say_that_far_distances_mean_little() -> None:
    assert any("distances between far groups" in t for t in texts(plot_embedding(
        make_embedding(), make_cells()
    )))  # fmt: skip
    panel = plot_embedding_panel(make_embedding(), make_cells())
    assert any("distances between far groups" in text.get_text() for text in panel.texts)


def test_a_few_far_cells_do_not_shrink_the_map() -> None:
    embedding = make_embedding(1000)
    embedding.coordinates[:2] = 1000
    figure = plot_embedding(embedding, color=np.zeros(1000, dtype=int))
    assert any(text.endswith("cells outside") for text in texts(figure))
    assert figure.axes[0].get_xlim()[1] < 50


def test_maps_without_units_have_no_ticks_and_equal_axes() -> None:
    axes = plot_embedding(make_embedding(), make_cells()).axes[0]
    assert len(axes.get_xticks()) == 0
    assert axes.get_aspect() == 1.0


def test_pca_says_what_its_axes_are() -> None:
    settings = {"explained_variance_ratio": [0.31, 0.12]}
    embedding = replace(make_embedding(), method="pca", settings=settings)
    assert "component 1 (31 % of variance)" in texts(plot_embedding(embedding, make_cells()))


def test_coordinates_that_are_not_finite_are_left_out() -> None:
    embedding = make_embedding()
    embedding.coordinates[:] = np.nan
    assert "no cells" in texts(plot_embedding(embedding, make_cells()))


def test_the_panel_leaves_out_what_is_not_known() -> None:
    cells = make_cells()
    panels = plot_embedding_panel(make_embedding(), cells).axes
    assert [axes.get_title(loc="left")[4:] for axes in panels] == ["Class"]


def test_the_panel_of_ten_long_names_keeps_its_maps_large_square_and_of_one_size() -> None:
    cells = make_cells(
        100,
        classes=10,
        class_names=LONG,
        groups=np.array([f"donor {i % 12}" for i in range(100)]),
        original_sizes=np.stack([np.arange(100) + 5] * 2, axis=1),
    )
    figure = plot_embedding_panel(
        make_embedding(100),
        cells,
        probabilities=make_probabilities(cells.labels, 10),
        clusters=make_clusters(cells, n=1),
        values={"conv3 channel 5": np.linspace(0, 3, 100)},
    )
    titled = {axes.get_title(loc="left")[4:]: axes for axes in figure.axes}
    assert next(iter(titled)) == "Class"
    assert {"Probability", "Errors", "Entropy", "Crop size", "conv3 channel 5"} <= set(titled)
    boxes = [axes.get_position() for title, axes in titled.items() if title]
    size = figure.get_size_inches()
    widths = [box.width * size[0] for box in boxes]
    heights = [box.height * size[1] for box in boxes]
    assert min(widths) > 1.7
    np.testing.assert_allclose(widths + heights, widths[0])


def test_small_multiples_have_a_row_per_colouring_and_the_quality_of_every_map() -> None:
    maps = [make_embedding(layer=f"block.{k}.conv", quality=NAN) for k in range(11)]
    maps[3] = replace(maps[3], quality={"recall_10": 0.375, "trustworthiness": 0.9})
    cells = make_cells(groups=np.array([f"donor {i % 3}" for i in range(60)]), group_name="donor")
    clusters = {e.layer: make_clusters(cells, n=2 + k % 3) for k, e in enumerate(maps)}
    figure = plot_maps_by_depth(
        maps, cells, clusters=clusters, probabilities=make_probabilities(cells.labels, 2)
    )
    assert len([axes for axes in figure.axes if axes.get_aspect() == 1.0]) == 11 * 4
    written = [text.get_text() for text in figure.texts]
    assert "r@10 0.38" in written
    assert "trust. 0.90" in written
    assert "r@10 –" in written
    assert any(text.startswith("10 ") for text in written)
    assert {axes.get_ylabel() for axes in figure.axes} >= {"Class", "Probability", "Cluster"}


def test_small_multiples_can_show_the_class_alone() -> None:
    maps = [make_embedding(layer=name) for name in ("a", "b")]
    figure = plot_maps_by_depth(maps, make_cells(), only_class=True)
    assert len(figure.axes) == 2
    assert "trustworthiness –" in [text.get_text() for text in figure.texts]


def test_thumbnails_do_not_overlap_and_are_framed_by_class() -> None:
    cells = make_cells(4, side=20)
    layout = (np.array([2, 0, 3]), np.array([[0, 0], [1, 0], [1, 1]]))
    figure = plot_thumbnails(make_embedding(4), cells, layout)
    assert "t-SNE of conv3: 3 of 4 cells" in texts(figure)
    picture = figure.axes[0].images[0].get_array()
    assert picture.shape[:2] == (2 * 23, 2 * 23)
    assert picture[:23, :22].min() == 255  # nothing in the upper left place
    blue, vermilion = picture[23, 0].astype(int), picture[0, 23].astype(int)  # classes 0 and 1
    assert blue[2] > blue[0]
    assert vermilion[0] > vermilion[2]


def test_the_part_where_classes_mix_is_framed_and_shown_with_its_cells_and_a_scale_bar() -> None:
    cells = make_cells(300, pixel_size=0.5)
    embedding = make_embedding(300)
    embedding.coordinates[40:, 0] += 30 * cells.labels[40:]
    embedding.coordinates[:40] = embedding.coordinates[:40] * 0.05 + 15  # both classes, far away
    figure = plot_thumbnails(embedding, cells)
    written = texts(figure)
    assert any("of the 40 cells in the frame" in text for text in written)
    assert any("moved" in text for text in written)
    assert sum(text.endswith(" µm") for text in written) == 2
    assert len(figure.axes[0].images) == 2


def test_thumbnails_of_no_cells_are_an_empty_map() -> None:
    layout = (np.zeros(0, dtype=np.int64), np.zeros((0, 2), dtype=np.int64))
    assert texts(plot_thumbnails(make_embedding(60), make_cells(), layout))
    nowhere = replace(make_embedding(), coordinates=np.full((60, 2), np.nan, np.float32))
    assert "no cells" in texts(plot_thumbnails(nowhere, make_cells()))


def test_classes_and_clusters_do_not_share_colours() -> None:
    cells = make_cells()
    by_class = overlay(cells)
    by_cluster = overlay(cells, "cluster", clusters=make_clusters(cells))
    assert not {c for _, c in by_class.categories} & {c for _, c in by_cluster.categories}


@pytest.mark.parametrize("n", [1, 2, 6])
def test_few_cells_in_one_place_are_drawn_all_the_same(n: int) -> None:
    cells = make_cells(n, classes=2, groups=np.array(["donor"] * n), group_name="donor")
    embedding = replace(make_embedding(n), coordinates=np.zeros((n, 2), np.float32))
    clusters = make_clusters(cells, n=1)
    for figure in (
        plot_embedding(embedding, cells, contours=True),
        plot_embedding_panel(
            embedding, cells, clusters=clusters, probabilities=make_probabilities(cells.labels, 2)
        ),
        plot_cluster_outlines(embedding, clusters, cells),
        plot_thumbnails(embedding, cells),
        plot_maps_by_depth([embedding], cells, clusters={"conv3": clusters}),
    ):
        assert render(figure, dpi=50)[0]


def test_clusters_stand_beside_the_map_with_their_size_purity_and_typical_cells() -> None:
    cells = make_cells(400, pixel_size=0.25)
    clusters = make_clusters(cells, n=14)
    figure = plot_cluster_outlines(make_embedding(400), clusters, cells)
    written = texts(figure)
    sizes = clusters.table.sum(axis=1)
    told = [text for text in written if ":  n = " in text]
    assert len(told) == 10
    largest = int(sizes.argmax())
    assert f"{largest}:  n = {sizes[largest]}" in told
    assert len(figure.axes[0].images) == 30
    assert any(text.endswith(" µm") for text in written)
    nothing = make_clusters(cells, n=0)
    assert "t-SNE of conv3: clusters" in texts(
        plot_cluster_outlines(make_embedding(400), nothing, cells)
    )


def test_a_map_without_extent_says_that_its_cells_are_alike() -> None:
    flat = replace(make_embedding(), coordinates=np.zeros((60, 2), dtype=np.float32))
    assert "all cells alike" in texts(plot_embedding(flat, make_cells()))
    panels = plot_maps_by_depth([make_embedding(), flat], make_cells())
    assert texts(panels).count("all cells alike") == 1
