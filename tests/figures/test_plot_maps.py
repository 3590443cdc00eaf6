from dataclasses import replace

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

from cytolens.errors import SettingError
from cytolens.figures import (
    plot_embedding,
    plot_embedding_panel,
    plot_maps_by_depth,
    plot_thumbnails,
    render_svg,
)
from cytolens.figures.overlays import continuous, overlay, overlay_of_values

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
    with pytest.raises(TypeError, match="cells"):
        plot_embedding(make_embedding())


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
    assert b"<image" not in render_svg(plot_embedding(few, color=np.zeros(1500, dtype=int)))
    assert b"<image" in render_svg(plot_embedding(many, color=np.zeros(2500, dtype=int)))


def test_density_is_drawn_for_very_many_cells() -> None:
    figure = plot_embedding(make_embedding(30_000), color=np.arange(30_000) % 2)
    assert len(figure.axes[0].images) == 1
    assert not figure.axes[0].collections


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


def test_the_panel_of_ten_long_names_keeps_its_maps_large() -> None:
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
    )
    written = texts(figure)
    assert "f   Crop size" in written
    assert figure.axes[0].get_position().width * figure.get_size_inches()[0] > 1.7


def test_thirty_depths_are_drawn_with_their_quality_where_known() -> None:
    maps = [make_embedding(layer=f"block.{k}.conv", quality=NAN) for k in range(30)]
    maps[3] = replace(maps[3], quality={"recall_10": 0.375})
    labels = np.arange(60) % 2
    written = texts(plot_maps_by_depth(maps, labels, ("a", "b")))
    assert "recall@10 0.38" in written
    assert "recall@10 –" in written
    assert any(text.startswith("29  ") for text in written)


def test_thumbnails_do_not_overlap_and_are_framed_by_class() -> None:
    cells = make_cells(4, side=20)
    layout = (np.array([2, 0, 3]), np.array([[0, 0], [1, 0], [1, 1]]))
    figure = plot_thumbnails(make_embedding(4), cells, layout)
    assert "t-SNE of conv3: 3 of 4 cells" in texts(figure)
    picture = figure.axes[0].images[0].get_array()
    assert picture.shape[:2] == (2 * 23, 2 * 23)
    assert picture[:23, :22].min() == 1.0  # nothing in the upper left place
    blue, vermilion = picture[23, 0], picture[0, 23]  # cell 2 and cell 3, classes 0 and 1
    assert blue[2] > blue[0]
    assert vermilion[0] > vermilion[2]


def test_thumbnails_of_no_cells_are_an_empty_map() -> None:
    layout = (np.zeros(0, dtype=np.int64), np.zeros((0, 2), dtype=np.int64))
    assert texts(plot_thumbnails(make_embedding(60), make_cells(), layout))


def test_classes_and_clusters_do_not_share_colours() -> None:
    cells = make_cells()
    by_class = overlay(cells)
    by_cluster = overlay(cells, "cluster", clusters=make_clusters(cells))
    assert not {c for _, c in by_class.categories} & {c for _, c in by_cluster.categories}
