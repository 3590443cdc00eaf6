"""New crops read as those of a study: any layout, labels or none."""

from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from cytolens.errors import InputError
from cytolens.images.arrays import cells_from_arrays
from cytolens.images.new_cells import read_alike
from cytolens.records.cells import Cells


def crops(n: int, channels: int = 1, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(5, 250, (n, channels, 20, 24), dtype=np.uint8)


@pytest.fixture(scope="module")
def known() -> Cells:
    return cells_from_arrays(crops(40), ["G1", "G2"] * 20, size=24, pixel_size=0.5)


def write(folder: Path, images: np.ndarray, names: list[str]) -> None:
    for image, name in zip(images, names, strict=True):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image[0]).save(path)


def test_every_layout_gives_the_same_crops(known: Cells, tmp_path: Path):
    images = crops(12, seed=1)
    names = [f"c{i:02d}.png" for i in range(12)]
    write(tmp_path / "flat", images, names)
    write(
        tmp_path / "deep",
        images,
        [f"plate/{'G1' if i < 6 else 'dirt'}/{names[i]}" for i in range(12)],
    )
    np.savez(tmp_path / "a.npz", images=images)
    np.save(tmp_path / "b.npy", images)
    tifffile.imwrite(tmp_path / "c.tif", images[:, 0], photometric="minisblack")
    rows = "\n".join(f"flat/{name}" for name in names)
    (tmp_path / "d.csv").write_text(f"path\n{rows}\n")
    expected = None
    for source in ("flat", "a.npz", "b.npy", "c.tif", "d.csv"):
        cells = read_alike(tmp_path / source, known)
        assert len(cells) == 12
        assert (cells.labels == -1).all()
        assert "label" not in cells.covariates
        found = cells.read(slice(None))
        expected = found if expected is None else expected
        np.testing.assert_array_equal(found, expected)
        assert found.shape == (12, 1, 24, 24)
    deep = read_alike(tmp_path / "deep", known)
    assert sorted(deep.covariates["label"].tolist()) == ["G1"] * 6 + ["dirt"] * 6
    assert sorted(deep.labels.tolist()) == [-1] * 6 + [0] * 6


def test_crops_decoded_apart_are_the_same(known: Cells, tmp_path: Path):
    write(tmp_path, crops(4, seed=2), [f"{i}.png" for i in range(4)])
    (tmp_path / "x.png").write_text("no image")
    here, apart = (read_alike(tmp_path, known, isolate=isolate) for isolate in (False, True))
    np.testing.assert_array_equal(here.images.read(slice(None)), apart.images.read(slice(None)))
    assert here.skipped == apart.skipped


def test_cells_of_new_fields_are_cut_as_those_of_the_study(known: Cells, tmp_path: Path):
    from made_fields import make_fields

    from cytolens.images.field_crops import Cutting

    for one in make_fields(2):
        tifffile.imwrite(tmp_path / f"{one.name}.tif", one.image[0])
        tifffile.imwrite(tmp_path / f"{one.name}_masks.tif", one.labels)
    cells = read_alike(tmp_path, known, cutting=Cutting(window=24))
    assert len(cells) == sum(len(one.rows) for one in make_fields(2))
    assert set(map(tuple, cells.original_sizes.tolist())) == {(24, 24)}


def test_a_single_image_is_enough_and_prepared_as_among_others(known: Cells, tmp_path: Path):
    images = crops(9, seed=2)
    write(tmp_path, images, [f"c{i}.png" for i in range(9)])
    whole = read_alike(tmp_path, known).read(slice(None))
    np.testing.assert_array_equal(read_alike(tmp_path / "c4.png", known).read([0]), whole[[4]])
    tifffile.imwrite(tmp_path / "one.tif", images[4, 0])
    np.testing.assert_array_equal(read_alike(tmp_path / "one.tif", known).read([0]), whole[[4]])


def test_limits_of_the_study_hold(known: Cells, tmp_path: Path):
    np.savez(tmp_path / "a.npz", images=crops(40) // 2)
    cells = read_alike(tmp_path / "a.npz", known)
    assert cells.preparation == known.preparation
    assert cells.read(slice(None)).max() < 0.6


def test_channels_are_taken_by_name_or_in_order(tmp_path: Path):
    images = crops(40, 3)
    study = cells_from_arrays(
        images, ["a", "b"] * 20, channel_names=["BF", "DNA", "FITC"], channels=["FITC", "BF"]
    )
    np.savez(tmp_path / "named.npz", images=images, channel_names=["FITC", "DNA", "BF"])
    named = read_alike(tmp_path / "named.npz", study)
    raw = named.images.read_raw(np.arange(2))
    np.testing.assert_array_equal(raw[:, :, 2:22], images[:2, [0, 2]])
    np.savez(tmp_path / "two.npz", images=images[:, :2], channel_names=["green", "white"])
    assert any(
        "are read as FITC, BF" in text for text in read_alike(tmp_path / "two.npz", study).remarks
    )
    np.savez(tmp_path / "three.npz", images=images)
    with pytest.raises(InputError, match=r"3 image channels .* looks at 2 \(FITC, BF\)"):
        read_alike(tmp_path / "three.npz", study)


def test_what_cannot_be_used_is_left_out_and_listed(known: Cells, tmp_path: Path):
    images = crops(6)
    images[2] = 7
    np.savez(tmp_path / "a.npz", images=images)
    cells = read_alike(tmp_path / "a.npz", known)
    assert len(cells) == 5
    assert "constant" in cells.skipped[0].reason
    with pytest.raises(InputError, match="constant"):
        read_alike(tmp_path / "a.npz", known, skip_bad=False)


def test_other_pixels_are_warned_of(known: Cells, tmp_path: Path):
    np.savez(tmp_path / "a.npz", images=crops(6).astype(np.uint16) * 40, pixel_size=1.0)
    said = " ".join(read_alike(tmp_path / "a.npz", known).remarks)
    assert "uint16" in said
    assert "1 µm wide" in said


def test_nothing_to_read_is_said_in_one_line(known: Cells, tmp_path: Path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="holds no images"):
        read_alike(tmp_path / "empty", known)
    with pytest.raises(InputError, match="does not exist"):
        read_alike(tmp_path / "nowhere", known)
