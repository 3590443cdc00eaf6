"""Arrays, .npz and .npy files become Cells."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from made_crops import make_crops

from cytolens.errors import InputError, SettingError
from cytolens.images import array_files
from cytolens.images.arrays import cells_from_arrays
from cytolens.images.crops import ArrayCrops, in_batches
from cytolens.images.preparation import pad_or_crop
from cytolens.images.reading import read_cells
from cytolens.images.sources import ArrayImages

Npz = Callable[..., Path]


def test_both_channel_orders_give_the_same_cells() -> None:
    first = make_crops(24, 3, 20, 18)
    labels = ["x", "y"] * 12
    names = ["a", "b", "c"]
    one = cells_from_arrays(first, labels, channel_names=names, size=(20, 18))
    two = cells_from_arrays(np.moveaxis(first, 1, -1), labels, channel_names=names, size=(20, 18))
    np.testing.assert_array_equal(one.images.read_raw(slice(0, 24)), first)
    np.testing.assert_array_equal(one.read(slice(0, 24)), two.read(slice(0, 24)))


def test_channel_names_settle_an_ambiguous_axis() -> None:
    images = make_crops(24, 16, 20, 16)
    with pytest.raises(InputError, match="channels first or last"):
        cells_from_arrays(images, np.arange(24) % 2)
    images = make_crops(24, 4, 20, 16)
    names = [f"c{i}" for i in range(16)]
    assert (
        cells_from_arrays(images, np.arange(24) % 2, channel_names=names).channel_names[15] == "c15"
    )


def test_lists_of_crops_of_different_sizes_are_padded() -> None:
    crops = [make_crops(1, 8 + i, 30 - i, seed=i)[0] for i in range(22)]
    cells = cells_from_arrays(
        crops, [i % 2 for i in range(22)], class_names=["x", "y"], background=3
    )
    assert cells.original_sizes.tolist() == [list(crop.shape) for crop in crops]
    raw = cells.images.read_raw(slice(0, 22))
    np.testing.assert_array_equal(raw[4], pad_or_crop(crops[4][None], raw.shape[2:], (3.0,)))
    assert (raw[:, 0][~cells.images.masks(slice(0, 22))] == 3).all()


def test_groups_names_and_covariates_stay_with_the_cells() -> None:
    cells = cells_from_arrays(
        make_crops(24, 20, 20),
        np.arange(24) % 2 == 0,
        groups=np.arange(24) % 4,
        group_name="donor",
        names=[f"n{i}" for i in range(24)],
        covariates={"area": np.arange(24.0), "place": np.zeros((24, 2))},
        pixel_size=0.5,
        source="memory",
    )
    assert (cells.group_name, cells.source, cells.pixel_size) == ("donor", "memory", 0.5)
    assert sorted(cells.covariates) == ["area", "place_0", "place_1"]
    part = cells.subset(np.array([5, 2]))
    assert part.names.tolist() == ["n5", "n2"]
    np.testing.assert_array_equal(part.read(slice(0, 2)), cells.read(np.array([5, 2])))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"images": make_crops(23, 20, 20)}, "24 labels for 23 images"),
        ({"images": np.zeros((24, 0, 20), np.uint8)}, "no pixels"),
        ({"images": np.zeros((0, 20, 20), np.uint8), "labels": np.zeros(0, int)}, "no images"),
        ({"images": make_crops(24, 2, 2, 20, 20)}, "shape"),
        ({"images": make_crops(24, 20, 20).astype(complex)}, "complex128"),
        ({"images": np.array(["x"] * 24).reshape(24, 1, 1)}, "whole or real"),
        ({"labels": np.zeros(24, int)}, "one class only"),
        ({"labels": np.arange(24) // 20}, "'class 1' has 4"),
        ({"labels": np.arange(24) / 2 + 0.25}, "fractions or NaN"),
        ({"labels": np.ones((24, 3), int)}, "one per image"),
        ({"labels": np.array(["x", ""] * 12)}, "labels are missing"),
        ({"labels": np.array([{}] * 24)}, "Python objects"),
        ({"labels": None}, "no array 'labels'"),
        ({"images": None}, "no array 'images'"),
        ({"class_names": np.array(["a"])}, "0 to 0 are allowed"),
        ({"channel_names": np.array(["a", "b"])}, "2 channel names"),
        ({"filenames": np.array(["a", "b"])}, "2 filenames for 24 images"),
        ({"pixel_size": np.array([1.0, 2.0])}, "one number"),
        ({"images": np.asfortranarray(make_crops(24, 20, 20))}, "Fortran"),
    ],
)
def test_bad_arrays_get_one_line(npz: Npz, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        read_cells(npz(**changes))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("cut", [0, 10, 200, 3000])
def test_truncated_archives_get_one_line(npz: Npz, cut: int) -> None:
    path = npz()
    path.write_bytes(path.read_bytes()[:cut])
    with pytest.raises(InputError, match=r"file\.npz .*truncated or damaged"):
        read_cells(path)


def test_absurd_array_is_refused_by_its_header(npz: Npz) -> None:
    with pytest.raises(InputError, match="at most 4096"):
        read_cells(npz(images=np.zeros((2, 5000, 3), np.uint8), labels=np.arange(2)))


def test_bad_rows_are_named_and_can_be_skipped(npz: Npz) -> None:
    images = make_crops(30, 20, 20).astype(np.float32)
    images[17, 3, 3] = np.nan
    images[18] = 5
    images[19, 0, 0] = np.inf
    path = npz(images=images, labels=np.arange(30) % 2)
    with pytest.raises(InputError, match=r"^file\.npz\[17\] has NaN or infinite pixels"):
        read_cells(path)
    cells = read_cells(path, skip_bad=True)
    assert len(cells) == 27
    assert [(s.name, s.reason.split()[0]) for s in cells.skipped] == [
        ("file.npz[17]", "has"),
        ("file.npz[18]", "is"),
        ("file.npz[19]", "has"),
    ]
    assert np.isfinite(cells.read(slice(0, 27))).all()


def test_skipping_must_leave_ten_cells_in_each_class(npz: Npz) -> None:
    images = make_crops(24, 20, 20)
    images[[1, 3, 5]] = 7
    with pytest.raises(InputError, match="'class 1' has 9 after 3 unusable"):
        read_cells(npz(images=images), skip_bad=True)
    with pytest.raises(InputError, match="none of 24 images"):
        read_cells(npz(images=np.full((24, 20, 20), 7)), skip_bad=True)


def test_npz_columns_become_groups_and_covariates(npz: Npz) -> None:
    path = npz(
        donor=np.arange(24) % 2,
        place=np.arange(48).reshape(24, 2),
        group=np.array(["p", "q", "r"] * 8),
        masks=np.zeros((24, 20, 20), bool),
        filenames=np.array([f"f{i}.png" for i in range(24)]),
        class_names=np.array(["S", "G2"]),
        pixel_size=np.array(0.33),
    )
    cells = read_cells(path)
    assert cells.class_names == ("S", "G2")
    assert (cells.group_name, cells.pixel_size, cells.names[3]) == ("group", 0.33, "f3.png")
    assert sorted(cells.covariates) == ["donor", "place_0", "place_1"]
    assert read_cells(path, group="don").group_name == "donor"
    assert read_cells(path, labels="donor").class_names == ("donor 0", "donor 1")
    with pytest.raises(SettingError, match="labels 'plate' is unknown"):
        read_cells(path, labels="plate")


def test_medmnist_layout_is_taken_together(tmp_path: Path) -> None:
    sizes = {"train": 30, "val": 12, "test": 14}
    parts: dict[str, np.ndarray] = {}
    for seed, (split, n) in enumerate(sizes.items()):
        parts[f"{split}_images"] = make_crops(n, 28, 28, seed=seed)
        parts[f"{split}_labels"] = (np.arange(n) % 2)[:, None]
    np.savez_compressed(tmp_path / "medical.npz", **parts)
    cells = read_cells(tmp_path / "medical.npz", size=28)
    assert len(cells) == 56
    assert [np.sum(cells.covariates["split"] == s) for s in sizes] == list(sizes.values())
    assert cells.names[31] == "medical.npz[val][1]"
    np.testing.assert_array_equal(
        cells.images.read_raw(np.array([31]))[0, 0], parts["val_images"][1]
    )
    assert cells.class_names == ("class 0", "class 1")


@pytest.mark.parametrize("where", ["floor", "ceil", "corner"])
def test_padding_of_the_files_maker_is_undone(npz: Npz, where: str) -> None:
    rng = np.random.default_rng(0)
    sizes = rng.integers(9, 20, (40, 2))
    images = np.zeros((40, 24, 24), np.uint8)
    crops = [rng.integers(1, 200, size).astype(np.uint8) for size in sizes]
    for image, crop in zip(images, crops):
        room = 24 - np.array(crop.shape)
        top, left = {"floor": room // 2, "ceil": (room + 1) // 2, "corner": room * 0}[where]
        image[top : top + crop.shape[0], left : left + crop.shape[1]] = crop
    cells = read_cells(npz(images=images, labels=np.arange(40) % 2, original_size=sizes))
    np.testing.assert_array_equal(cells.original_sizes, sizes)
    assert "original_size_0" not in cells.covariates
    raw = cells.images.read_raw(slice(0, 40))
    masks = cells.images.masks(slice(0, 40))
    for row, crop in enumerate(crops):
        np.testing.assert_array_equal(raw[row, 0][masks[row]], crop.reshape(-1))


def test_sizes_that_do_not_fit_the_padding_stay_covariates(npz: Npz) -> None:
    cells = read_cells(npz(original_size=np.full((24, 2), 9)))
    assert cells.original_sizes.tolist() == [[20, 20]] * 24
    assert "original_size_0" in cells.covariates


@pytest.mark.parametrize("compressed", [False, True])
def test_large_archives_are_mapped_from_the_disk(
    tmp_path: Path, compressed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = make_crops(24, 20, 20, dtype=np.uint16)
    save = np.savez_compressed if compressed else np.savez
    save(tmp_path / "x.npz", images=images, labels=np.arange(24) % 2)
    monkeypatch.setattr(array_files, "LARGEST_IN_MEMORY", 1000)
    cells = read_cells(tmp_path / "x.npz", size=20)
    assert isinstance(cells.images.crops.parts[0], np.memmap)
    np.testing.assert_array_equal(cells.images.read_raw(slice(0, 24))[:, 0], images)


def test_npy_takes_its_labels_from_a_file_beside_it(tmp_path: Path) -> None:
    path = tmp_path / "crops.npy"
    np.save(path, make_crops(24, 20, 20))
    with pytest.raises(InputError, match=r"crops_labels\.npy"):
        read_cells(path)
    np.save(tmp_path / "crops_labels.npy", np.array(["x", "y"] * 12))
    assert read_cells(path).class_names == ("x", "y")
    np.save(path, np.array([{}]), allow_pickle=True)
    with pytest.raises(InputError, match=r"crops\.npy"):
        read_cells(path)


@pytest.mark.parametrize(
    "index",
    [slice(3, 9), slice(None, None, -4), np.array([5, 1, 5]), np.arange(24) % 5 == 0, slice(4, 4)],
)
@pytest.mark.parametrize("kind", ["ndarray", "zarr"])
def test_array_images_read_like_the_cells_they_store(tmp_path: Path, kind: str, index: Any) -> None:
    crops = [make_crops(1, 9 + i % 5, 22 - i % 7, seed=i)[0] for i in range(24)]
    cells = cells_from_arrays(crops, np.arange(24) % 2, intensity="image")
    raw: Any = cells.images.read_raw(slice(0, 24))
    if kind == "zarr":
        stored = zarr.create_array(
            tmp_path / "z", shape=raw.shape, chunks=(5, *raw.shape[1:]), dtype=raw.dtype
        )
        stored[:] = raw
        raw = stored
    images = ArrayImages(raw, cells.original_sizes, cells.preparation)
    assert images.shape == cells.images.shape
    np.testing.assert_array_equal(images.read(index), cells.read(index))
    np.testing.assert_array_equal(images.masks(index), cells.images.masks(index))


@pytest.mark.parametrize(
    ("asked", "names"),
    [(["dna"], ("DNA_Ch4",)), (["2", "bright"], ("SSC_Ch6", "bright_Ch3")), ([0], ("bright_Ch3",))],
)
def test_channels_are_chosen_by_name_part_or_number(
    asked: list[Any], names: tuple[str, ...]
) -> None:
    known = ["bright_Ch3", "DNA_Ch4", "SSC_Ch6"]
    images = make_crops(24, 20, 20, 3)
    cells = cells_from_arrays(
        images, np.arange(24) % 2, channel_names=known, channels=asked, size=20
    )
    assert cells.channel_names == names
    expected = images[..., known.index(names[0])]
    np.testing.assert_array_equal(cells.images.read_raw(slice(0, 24))[:, 0], expected)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"channels": ["9"]}, "channel 9 is unknown"),
        ({"channels": ["blue"]}, "channel 'blue' is unknown"),
        ({"intensity": "log"}, "intensity 'log' is unknown"),
        ({"background": "median"}, "background 'median' is unknown"),
        ({"background": 300}, "does not fit into uint8"),
        ({"background": (1, 2)}, "one per channel"),
        ({"size": 0}, "size 0"),
        ({"size": (1, 2, 3)}, "size"),
        ({"pixel_size": -1.0}, "pixel size -1.0"),
    ],
)
def test_settings_out_of_range_say_what_is_allowed(options: dict[str, Any], message: str) -> None:
    with pytest.raises(SettingError, match=message):
        cells_from_arrays(make_crops(24, 20, 20), np.arange(24) % 2, **options)


@pytest.mark.skipif(
    not Path("/proc/self/status").exists(), reason="Linux says what a process holds"
)
def test_a_large_array_on_the_disk_is_not_held_once_it_was_read(tmp_path: Path) -> None:
    n = 100_000
    mapped = np.lib.format.open_memmap(tmp_path / "a.npy", "w+", np.uint8, (n, 1, 32, 32))
    mapped[:, 0, 0, 0] = np.arange(n) % 251
    del mapped
    crops = ArrayCrops((np.load(tmp_path / "a.npy", mmap_mode="r"),), ("a.npy",), 1)
    started, first = _mapped(), crops.load(np.arange(3))
    for start, loaded in in_batches(crops, np.arange(n)):
        assert [int(np.asarray(crop)[0, 0, 0]) for crop in loaded[:9]] == [
            (start + place) % 251 for place in range(9)
        ]
        for crop in loaded:
            np.asarray(crop).sum()
    assert _mapped() - started < 70 << 20  # of 98 MiB: two batches at most
    assert [int(np.asarray(crop)[0, 0, 0]) for crop in first] == [0, 1, 2]


def _mapped() -> int:
    """Bytes of files that this process holds."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) << 10 for line in lines if line.startswith("RssFile"))
