import json
import re
from dataclasses import replace
from pathlib import Path

import anndata
import numpy as np
import pandas as pd
import pytest
from PIL import Image
from pyarrow import parquet

from cytolens.errors import RunError, SettingError
from cytolens.images.arrays import cells_from_arrays
from cytolens.images.reading import read_cells
from cytolens.numerics.estimates import Estimate
from cytolens.records.clusters import Clusters
from cytolens.records.maps import Embedding
from cytolens.store.anndata_table import to_anndata
from cytolens.store.cell_table import CellTable, observations
from cytolens.store.exports import FORMATS, write_export

N = 60


def palette(column: str, categories) -> list[str]:
    return [f"#{40 * i % 256:02x}{len(column):02x}80" for i in range(len(categories))]


def show(index: np.ndarray) -> np.ndarray:
    """Every cell is grey of its own number."""
    return np.broadcast_to(index[:, None, None, None], (len(index), 6, 8, 3)).astype(np.uint8)


@pytest.fixture(scope="module")
def table() -> CellTable:
    rng = np.random.default_rng(0)
    labels = np.arange(N) % 3
    cells = cells_from_arrays(
        rng.integers(0, 255, (N, 6, 8)).astype("u1"),
        labels,
        class_names=("a", "b", 'c "quoted"'),
        groups=np.array([f"donor {i % 4}" for i in range(N)]),
        group_name="donor",
        covariates={
            "area": rng.random(N),
            "class": np.array([f"stain\t{i % 2}" for i in range(N)]),
        },
    )
    features = {
        "conv1": rng.normal(size=(N, 4)).astype(np.float32),
        "pre_softmax": (rng.normal(size=(N, 9)) + 5 * labels[:, None]).astype(np.float32),
    }
    features["conv1"][:, :2] = 0  # as of silent channels
    places = {name: rng.normal(size=(N, 2)).astype(np.float32) for name in features}
    maps = {
        method: {
            name: Embedding(name, method, xy, {"recall_10": 0.5}, {}) for name, xy in places.items()
        }
        for method in ("pca", "tsne")
    }
    found = np.where(labels == 2, -1, labels)
    clusters = Clusters(
        "conv1", "hdbscan", found, tuple(np.flatnonzero(found == k) for k in range(2)),
        np.array([[20, 0, 0], [0, 20, 0]]), {"ari": Estimate(0.5, 0.4, 0.6)}, {},
    )  # fmt: skip
    probabilities = rng.dirichlet(np.ones(3), N)
    return CellTable(
        cells, features, "pre_softmax", probabilities=probabilities, maps=maps,
        parts=np.array(["train"] * 30 + ["test"] * 30), clusters={"conv1": clusters},
        columns={"odd": np.arange(N) > 50}, left_out=("input",),
    )  # fmt: skip


def test_every_column_says_what_is_known_of_a_cell(table: CellTable):
    rows = observations(table)
    assert rows["class"].tolist()[:4] == ["a", "b", 'c "quoted"', "a"]
    assert rows["covariate_class"].cat.categories.tolist() == ["stain\t0", "stain\t1"]
    assert rows["cluster_conv1"].cat.categories.tolist() == ["0", "1", "none"]
    own = table.probabilities[np.arange(N), table.cells.labels]
    np.testing.assert_allclose(rows["probability"], own)
    assert ((rows["correct"] == "correct") == (rows["prediction"] == rows["class"])).all()
    assert rows["entropy"].between(0, np.log2(3)).all()
    assert rows["odd"].sum() == 9
    assert rows.index.is_unique


def test_repeated_names_are_told_apart(table: CellTable):
    cells = replace(table.cells, names=np.array(["same.png"] * N))
    assert observations(replace(table, cells=cells)).index.is_unique


@pytest.mark.parametrize("to", ["h5ad", "zarr"])
def test_anndata_follows_the_conventions_and_comes_back_whole(
    table: CellTable, to: str, tmp_path: Path
):
    path = write_export(table, to, tmp_path / FORMATS[to], palette=palette)
    read = anndata.read_h5ad if to == "h5ad" else anndata.read_zarr
    adata = read(path)
    assert adata.X.dtype == np.float32
    np.testing.assert_array_equal(adata.X, table.features["pre_softmax"])
    for layer, values in table.features.items():
        np.testing.assert_array_equal(adata.obsm[f"X_{layer}"], values)
        np.testing.assert_array_equal(
            adata.obsm[f"X_tsne_{layer}"], table.maps["tsne"][layer].coordinates
        )
    text = [name for name in adata.obs if adata.obs[name].dtype == "category"]
    assert {"class", "prediction", "donor", "part", "cluster_conv1", "correct"} <= set(text)
    for name in text:
        colours = adata.uns[f"{name}_colors"]
        assert len(colours) == len(adata.obs[name].cat.categories)
        assert all(re.fullmatch("#[0-9a-f]{6}", colour) for colour in colours)
    about = adata.uns["cytolens"]
    assert (about["layer"], list(about["left_out"])) == ("pre_softmax", ["input"])
    assert about["quality"]["X_tsne_conv1"]["recall_10"] == 0.5


@pytest.mark.filterwarnings("ignore::FutureWarning:scanpy", "ignore::UserWarning:scanpy")
@pytest.mark.parametrize("to", ["h5ad", "zarr"])
def test_scanpy_plots_it_and_finds_neighbours_in_it_as_it_is(
    table: CellTable, to: str, tmp_path: Path
):
    matplotlib = pytest.importorskip("matplotlib")
    matplotlib.use("Agg")
    sc = pytest.importorskip("scanpy")
    path = write_export(table, to, tmp_path / FORMATS[to], palette=palette)
    adata = anndata.read_h5ad(path) if to == "h5ad" else anndata.read_zarr(path)
    drawn = sc.pl.embedding(
        adata, basis="tsne_pre_softmax", color=["class", "entropy", "pre_softmax_3"],
        show=False, return_fig=True,
    )  # fmt: skip
    legend = drawn.axes[0].get_legend()
    shown = {text.get_text() for text in legend.get_texts()}
    assert shown == set(table.cells.class_names)
    assert [matplotlib.colors.to_hex(h.get_facecolor()[0]) for h in legend.legend_handles] == list(
        palette("class", table.cells.class_names)
    )
    sc.pp.neighbors(
        adata, n_neighbors=5, use_rep="X_pre_softmax", transformer="sklearn", method="gauss"
    )  # "gauss": the default method compiles for half a minute
    near = adata.obsp["distances"].toarray()
    labels = table.cells.labels
    rows, columns = near.nonzero()
    assert (labels[rows] == labels[columns]).all()


def test_parquet_has_a_row_per_cell_with_its_place_on_every_map(table: CellTable, tmp_path: Path):
    path = write_export(table, "parquet", tmp_path)
    assert path == tmp_path / "cells.parquet"
    rows = pd.read_parquet(path, engine="pyarrow")
    assert rows["name"].tolist() == table.cells.names.tolist()
    for method, by_layer in table.maps.items():
        for layer, embedding in by_layer.items():
            names = [f"x_{method}_{layer}", f"y_{method}_{layer}"]
            np.testing.assert_array_equal(rows[names], embedding.coordinates)
    assert rows["class"].astype(str).tolist() == observations(table)["class"].tolist()


def test_embedding_atlas_gets_places_neighbours_and_pictures(table: CellTable, tmp_path: Path):
    path = write_export(table, "embedding-atlas", tmp_path / "atlas.parquet", show=show)
    rows = pd.read_parquet(path, engine="pyarrow")
    np.testing.assert_array_equal(rows[["x", "y"]], table.maps["tsne"]["pre_softmax"].coordinates)
    assert rows["image"].str.startswith("data:image/png;base64,").all()
    kind = str(parquet.read_schema(path).field("neighbors").type)
    assert kind == "struct<ids: list<element: int32>, distances: list<element: float>>"
    ids = np.stack([row["ids"] for row in rows["neighbors"]])
    assert ids.shape == (N, 15)
    np.testing.assert_array_equal(ids[:, 0], np.arange(N))
    features = table.features["pre_softmax"]
    apart = np.linalg.norm(features[ids] - features[:, None], axis=2)
    np.testing.assert_allclose(
        np.stack([row["distances"] for row in rows["neighbors"]]), apart, atol=1e-3
    )
    assert (np.diff(apart, axis=1) > -1e-3).all()


def test_embedding_atlas_needs_a_map(table: CellTable, tmp_path: Path):
    with pytest.raises(RunError, match="cytolens embed"):
        write_export(replace(table, maps={}), "embedding-atlas", tmp_path / "a.parquet")
    assert not list(tmp_path.iterdir())


def test_tensorboard_finds_tensors_metadata_and_pictures(table: CellTable, tmp_path: Path):
    folder = write_export(table, "tensorboard", tmp_path / "board", show=show)
    config = (folder / "projector_config.pbtxt").read_text()
    names = re.findall(r'tensor_name: "(.*)"', config)
    assert names[:2] == ["pre_softmax", "conv1"]
    assert "pre_softmax (tsne map)" in names
    paths = re.findall(r'tensor_path: "(.*)"', config)
    shapes = re.findall(r"tensor_shape: (\d+)\n  tensor_shape: (\d+)", config)
    assert len(paths) == len(shapes) == len(names) == 6
    for path, shape in zip(paths, shapes, strict=True):
        assert np.loadtxt(folder / path, delimiter="\t").shape == tuple(map(int, shape))
    np.testing.assert_allclose(
        np.loadtxt(folder / paths[0]), table.features["pre_softmax"], rtol=1e-4, atol=1e-5
    )
    metadata = (folder / "metadata.tsv").read_text().splitlines()
    assert len(metadata) == N + 1
    assert len({line.count("\t") for line in metadata}) == 1
    assert metadata[0].split("\t")[:2] == ["name", "class"]
    with Image.open(folder / "sprite.png") as opened:
        sprite = np.array(opened)
    assert sprite.shape == (8 * 6, 8 * 8, 3)  # eight across and down, of 6 × 8 px
    assert re.findall(r"single_image_dim: (\d+)", config)[:2] == ["8", "6"]
    np.testing.assert_array_equal(sprite[::6, ::8, 0].ravel()[:N], np.arange(N))


def test_sprites_stay_within_what_tensorboard_takes(
    table: CellTable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("cytolens.store.projector.SPRITE_SIDE", 40)
    folder = write_export(table, "tensorboard", tmp_path / "board", show=show)
    with Image.open(folder / "sprite.png") as sprite:
        assert max(sprite.size) <= 40
    dims = re.findall(r"single_image_dim: (\d+)", (folder / "projector_config.pbtxt").read_text())
    assert dims[:2] == ["5", "3"]


def test_an_unknown_format_lists_the_known_ones(table: CellTable, tmp_path: Path):
    with pytest.raises(SettingError, match="embedding-atlas, tensorboard"):
        write_export(table, "excel", tmp_path / "x")


@pytest.mark.parametrize("to", ["zarr", "tensorboard"])
def test_an_export_replaces_its_like_and_nothing_else(table: CellTable, to: str, tmp_path: Path):
    out = tmp_path / "out"
    for _ in range(2):
        write_export(table, to, out, show=show)
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    other = tmp_path / "thesis"
    other.mkdir()
    (other / "thesis.tex").write_text("precious")
    with pytest.raises(SettingError, match="other things"):
        write_export(table, to, other)
    assert (other / "thesis.tex").read_text() == "precious"


@pytest.mark.parametrize(("dtype", "stored"), [("u1", "f2"), ("u2", "u2"), ("f4", "f4")])
def test_crops_go_to_scportrait_and_come_back_bit_for_bit(
    table: CellTable, dtype: str, stored: str, tmp_path: Path
):
    rng = np.random.default_rng(1)
    crops = [
        rng.integers(1, 255, (2, *rng.integers(6, 10, 2))).astype(dtype)
        * (9 if dtype != "u1" else 1)
        for _ in range(N)
    ]
    cells = cells_from_arrays(
        crops, table.cells.labels, class_names=("a", "b", "c"), channel_names=("BF", "DNA"),
        pixel_size=0.5, size=10, background=0, groups=table.cells.groups, group_name="donor",
    )  # fmt: skip
    path = write_export(replace(table, cells=cells), "h5sc", tmp_path / "x.h5sc", palette=palette)
    adata = anndata.read_h5ad(path)
    images = adata.obsm["single_cell_images"]
    assert images.dtype == np.dtype(stored)
    assert images.shape == (N, 3, 10, 10)
    np.testing.assert_array_equal(images[:, 1:], cells.images.read_raw(slice(0, N)))
    assert adata.var["channel_mapping"].tolist() == ["mask", "image_channel", "image_channel"]
    assert adata.uns["single_cell_images"]["n_masks"] == 1
    assert adata.obs["scportrait_cell_id"].tolist() == list(range(N))
    back = read_cells(path, masks="crop", size=10, background=0, group="donor")
    np.testing.assert_array_equal(back.original_sizes, [crop.shape[1:] for crop in crops])
    np.testing.assert_array_equal(
        back.images.read_raw(slice(0, N)), cells.images.read_raw(slice(0, N))
    )
    assert (back.channel_names, back.pixel_size, back.class_names) == (
        ("BF", "DNA"),
        0.5,
        tuple("abc"),
    )
    assert back.groups is not None


def test_csv_has_a_row_for_every_cell(table: CellTable, tmp_path: Path):
    cells = replace(table.cells, names=np.array(["=1+1", *[f"c{i}" for i in range(1, N)]]))
    path = write_export(replace(table, cells=cells), "csv", tmp_path / "x.csv")
    rows = pd.read_csv(path)
    assert rows["name"].tolist()[:2] == ["'=1+1", "c1"]
    assert rows["class"].tolist()[:3] == ["a", "b", 'c "quoted"']
    np.testing.assert_allclose(rows["x_tsne_conv1"], table.maps["tsne"]["conv1"].coordinates[:, 0])
    np.testing.assert_allclose(rows["entropy"], observations(table)["entropy"])


@pytest.mark.parametrize("to", [name for name in FORMATS if name != "tiff"])
def test_an_export_that_fails_leaves_the_old_one(
    table: CellTable, to: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    path = write_export(table, to, tmp_path / "old", show=show)
    before = sorted((p.name, p.stat().st_mtime_ns) for p in [path, *path.rglob("*")])

    def fail(*_: object, **__: object) -> None:
        raise OSError("the disk is full")

    for target in (
        "anndata.AnnData.write_h5ad", "anndata.AnnData.write_zarr", "pyarrow.parquet.write_table",
        "cytolens.store.projector.np.savetxt", "cytolens.store.exports.csv_text",
    ):  # fmt: skip
        monkeypatch.setattr(target, fail)
    with pytest.raises(OSError, match="full"):
        write_export(table, to, tmp_path / "old", show=show)
    assert sorted((p.name, p.stat().st_mtime_ns) for p in [path, *path.rglob("*")]) == before
    assert [p.name for p in tmp_path.iterdir()] == ["old"]


def test_without_maps_or_predictions_there_is_still_a_table(table: CellTable):
    bare = CellTable(table.cells, table.features, "conv1")
    adata = to_anndata(bare)
    assert json.loads(json.dumps(list(adata.obsm))) == ["X_conv1", "X_pre_softmax"]
    assert not [key for key in adata.uns if key.endswith("_colors")]
