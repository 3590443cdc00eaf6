import struct
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from made_cif import SHORT, Writer, encode_masks, encode_picture, write_cif

from cytolens.errors import InputError, SettingError
from cytolens.images.amnis_cif import CifCrops, decode_masks, decode_picture, index_cif
from cytolens.images.new_cells import read_alike
from cytolens.images.reading import read_cells

REAL = Path(__file__).parents[2].parent / "shared/data/instrument_formats/amnis_cif"


def made_crops(n: int, *, seed: int = 0, channels: int = 3, top: int = 4095) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    sizes = rng.integers(18, 26, (n, 2))
    return [rng.integers(0, top, (channels, h, w)).astype(np.uint16) for h, w in sizes]


def discs(crops: list[np.ndarray]) -> list[np.ndarray]:
    """A mask in the first image channel only."""
    found = []
    for crop in crops:
        mask = np.zeros(crop.shape, dtype=np.uint8)
        mask[0, 4:-5, 3:-6] = 1
        found.append(mask)
    return found


@pytest.mark.skipif(not REAL.is_dir(), reason="no shared data here")
def test_a_real_file_has_the_pixels_that_another_decoder_found() -> None:
    index = index_cif(REAL / "example.cif")
    known = np.load(REAL / "example_decoded.npz")
    crops = CifCrops(REAL / "example.cif", index)
    everything = np.arange(len(crops))
    assert len(crops) == 111
    assert index.channel_names == tuple(f"Ch{i}" for i in range(1, 7))
    assert index.pixel_size == 0.5
    for i, crop in enumerate(crops.load(everything)):
        assert isinstance(crop, np.ndarray)
        height, width = known["size_hw"][i]
        assert crop.dtype == np.uint16
        np.testing.assert_array_equal(crop, known["images"][i, :, :height, :width])
    for i, mask in enumerate(crops.load_masks(everything)):
        height, width = known["size_hw"][i]
        np.testing.assert_array_equal(mask, known["masks"][i, :, :height, :width].any(axis=0))


@settings(max_examples=40, deadline=None)
@given(
    arrays(
        np.uint16, array_shapes(min_dims=2, max_dims=2, max_side=9), elements=st.integers(0, 65535)
    )
)
def test_any_picture_comes_back_bit_for_bit(pixels: np.ndarray) -> None:
    stream = np.frombuffer(encode_picture(pixels), np.uint8)
    np.testing.assert_array_equal(decode_picture(stream, *pixels.shape), pixels)
    masks = pixels % 2 == 0
    np.testing.assert_array_equal(
        decode_masks(np.frombuffer(encode_masks(masks), np.uint8), *masks.shape), masks
    )


def test_a_file_that_contradicts_itself_is_said_to(tmp_path: Path) -> None:
    path = write_cif(tmp_path / "x.cif", made_crops(2), levels=3)
    assert index_cif(path).doubt == ""
    path = write_cif(tmp_path / "x.cif", made_crops(2), levels=6)
    assert "3 image channels are in use, but keeps 6 background levels" in index_cif(path).doubt
    content = write_cif(path, made_crops(2), levels=3).read_bytes()
    path.write_bytes(content.replace(b"InUse", b"xxxxx"))
    assert index_cif(path).channel_names == ("Ch1", "Ch2", "Ch3")


def test_a_folder_of_files_has_a_class_per_file(tmp_path: Path) -> None:
    first, second = made_crops(12), made_crops(12, seed=1)
    names = {1: "BF", 2: "CD3", 3: "DRAQ5"}
    write_cif(tmp_path / "data/resting.cif", first, names=names)
    write_cif(tmp_path / "data/activated.cif", second, names=names)
    cells = read_cells(tmp_path / "data", channels=["cd3"], size=24)
    assert cells.class_names == ("activated", "resting")
    assert cells.channel_names == ("CD3",)
    assert cells.pixel_size == 0.5
    assert cells.names[0] == "activated.cif[0]"
    at = cells.names.tolist().index("resting.cif[3]")
    height, width = (min(side, 24) for side in first[3].shape[1:])
    shown = cells.images.read_raw(np.array([at]))[0]
    assert shown.dtype == np.uint16
    assert np.isin(first[3][1, 3 : height - 3, 3 : width - 3], shown).all()


def test_folders_are_classes_and_outer_folders_groups(tmp_path: Path) -> None:
    for seed, place in enumerate(["donor_1/a/x", "donor_1/b/x", "donor_2/a/x", "donor_2/b/x"]):
        write_cif(tmp_path / f"{place}.cif", made_crops(6, seed=seed))
    cells = read_cells(tmp_path)
    assert (cells.class_names, cells.group_name) == (("a", "b"), "donor")
    assert cells.names[0] == "donor_1/a/x.cif[0]"
    chosen = cells.images.read_raw(np.array([23, 0, 7]))
    np.testing.assert_array_equal(chosen[1], cells.images.read_raw(slice(0, 1))[0])


def test_masks_blank_what_is_not_the_cell_or_cut_to_it(tmp_path: Path) -> None:
    crops = made_crops(24)
    write_cif(tmp_path / "x.cif", crops, discs(crops))
    (tmp_path / "x_labels.csv").write_text("label\n" + "a\nb\n" * 12)
    blank = read_cells(tmp_path / "x.cif", masks="blank", size=32)
    cut = read_cells(tmp_path / "x.cif", masks="crop", size=32)
    height, width = crops[0].shape[1:]
    assert cut.original_sizes[0].tolist() == [height - 9, width - 9]
    inside = crops[0][:, 4:-5, 3:-6]
    shown = blank.images.read_raw(slice(0, 1))[0]
    off = shown[1][~np.isin(shown[1], inside[1])]
    assert len(np.unique(off)) <= 2  # the background of this crop, and the padding
    assert np.isin(inside[1], shown[1]).all()
    placed = read_alike(tmp_path / "x.cif", blank)  # new cells go the same way
    np.testing.assert_array_equal(placed.read(slice(0, 24)), blank.read(slice(0, 24)))
    with pytest.raises(SettingError, match="masks 'cut' is unknown"):
        read_cells(tmp_path / "x.cif", masks="cut")
    write_cif(tmp_path / "x.cif", crops)
    with pytest.raises(SettingError, match="hold no masks"):
        read_cells(tmp_path / "x.cif", masks="crop")


def test_features_are_joined_by_object_number(tmp_path: Path) -> None:
    numbers = list(range(100, 148, 2))
    write_cif(tmp_path / "x.cif", made_crops(24), numbers=numbers)
    rows = [f"{n}\t{n / 7:.3f}\t{'a' if n % 4 else 'b'}" for n in reversed(range(90, 150))]
    header = "Feature values of x\nPopulation: All\n\nObject Number\tArea_M01\tlabel\n"
    (tmp_path / "x.txt").write_text(header + "\n".join(rows) + "\n")
    cells = read_cells(tmp_path / "x.cif")
    np.testing.assert_allclose(cells.covariates["Area_M01"], np.array(numbers) / 7, atol=1e-3)
    assert cells.names[0] == "x.cif[100]"
    assert [cells.class_names[i] for i in cells.labels[:3]] == ["b", "a", "b"]
    (tmp_path / "x.txt").write_text(header + "\n".join(rows[20:]) + "\n")
    with pytest.raises(InputError, match=r"lacks 9 of 24 object numbers, the first is 130"):
        read_cells(tmp_path / "x.cif")
    (tmp_path / "x.txt").write_text("a\tb\n1\t2\n")
    with pytest.raises(InputError, match="no column 'Object Number'"):
        read_cells(tmp_path / "x.cif")


def test_a_table_in_fcs_is_joined_too(tmp_path: Path) -> None:
    flowio = pytest.importorskip("flowio")
    write_cif(tmp_path / "x.cif", made_crops(24))
    (tmp_path / "x_labels.csv").write_text("label\n" + "a\nb\n" * 12)
    values = np.stack([np.arange(24), np.arange(24) * 1.5], axis=1).astype(np.float32)[::-1]
    with (tmp_path / "x.fcs").open("wb") as file:
        flowio.create_fcs(file, values.ravel().tolist(), ["Object Number", "Area_M01"])
    cells = read_cells(tmp_path / "x.cif")
    np.testing.assert_allclose(cells.covariates["Area_M01"], np.arange(24) * 1.5)


def test_a_file_of_more_than_four_gibibytes_is_read_to_its_end(tmp_path: Path) -> None:
    crops = made_crops(3)
    path = write_cif(tmp_path / "x.cif", crops[:2])
    head, tail = path.read_bytes(), write_cif(tmp_path / "y.cif", crops).read_bytes()
    last = index_cif(tmp_path / "y.cif")
    start, length, height, width = last.pictures[2].tolist()
    beyond = (1 << 32) + 64
    pointer = _pointers(head)[-1]
    writer = Writer()
    writer.content += bytes(64 - 8)
    writer.strip(30817, (height, width), tail[start : start + length], number=2)
    with path.open("r+b") as file:  # a hole, which takes no room on the disk
        file.seek(pointer)
        file.write(struct.pack("<I", 64))
        file.seek(beyond)
        file.write(writer.content[64:])
    index = index_cif(path)
    np.testing.assert_array_equal(CifCrops(path, index).load(np.array([2]))[0], crops[2])


def _pointers(content: bytes) -> list[int]:
    """Where the offset of the next directory stands, directory by directory."""
    places, offset = [], struct.unpack_from("<I", content, 4)[0]
    while offset:
        places.append(offset + 2 + 12 * struct.unpack_from("<H", content, offset)[0])
        offset = struct.unpack_from("<I", content, places[-1])[0]
    return places


def _entry(content: bytes, directory: int, tag: int) -> int:
    """Where an entry begins."""
    offset = struct.unpack_from("<I", content, [4, *_pointers(content)][directory])[0]
    count = struct.unpack_from("<H", content, offset)[0]
    places = [offset + 2 + 12 * i for i in range(count)]
    return next(at for at in places if struct.unpack_from("<H", content, at)[0] == tag)


def _set(tag: int, value: int, directory: int = 3) -> Callable[[bytearray], None]:
    def change(content: bytearray) -> None:
        at = _entry(content, directory, tag)
        form = "<H" if struct.unpack_from("<H", content, at + 2)[0] == SHORT else "<I"
        struct.pack_into(form, content, at + 8, value)

    return change


def _loop(content: bytearray) -> None:
    struct.pack_into("<I", content, _pointers(content)[-1], 8)


def _far(content: bytearray) -> None:
    struct.pack_into("<I", content, _pointers(content)[-1], 0xFFFFFF00)


def _many_entries(content: bytearray) -> None:
    struct.pack_into("<H", content, 8, 65535)


def _no_tags(content: bytearray) -> None:
    struct.pack_into("<H", content, _entry(content, 3, 279), 280)


def _no_channels(content: bytearray) -> None:
    at = content.index(b"InUse")
    content[at : at + 5] = b"xxxxx"


HOSTILE: dict[str, tuple[Callable[[bytearray], None], str]] = {
    "loop": (_loop, "overlap or form a loop"),
    "directory beyond the end": (_far, "truncated or damaged"),
    "endless directory": (_many_entries, "65535 entries"),
    "no byte count": (_no_tags, "lacks the tag 279"),
    "no channels": (_no_channels, "which image channels"),
    "stream beyond the end": (_set(273, 0x7FFFFFFF), "truncated: cell 1"),
    "stream of 4 GB": (_set(279, 0xFFFFFFFF), "truncated: cell 1"),
    "empty stream": (_set(279, 0), "cannot be"),
    "picture of 4 billion rows": (_set(257, 0xFFFFFFFF), "pixels large"),
    "picture of many columns": (_set(256, 0xFFFFFFFF), "pixels large"),
    "no columns": (_set(256, 0), "no pixels|pixels large"),
    "no rows": (_set(257, 0), "no pixels"),
    "more pixels than bits": (_set(257, 4000), "cannot be"),
    "8 bits": (_set(258, 8), "12 and 16 are read"),
    "odd width": (lambda c: [_set(256, 61, d)(c) for d in (3, 4)] and None, "side by side"),
    "mask of another size": (_set(257, 3, directory=4), "its picture"),
    "mask of 4 GB": (_set(279, 0xFFFFFF00, directory=4), "truncated: the mask"),
    "no TIFF": (lambda content: content.__setitem__(0, 77), "is no CIF"),
    "no pictures": (
        lambda c: [_set(259, 1, directory=d)(c) for d in (1, 3)] and None,
        "no cell pic",
    ),
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_a_hostile_file_is_refused_in_one_line_and_little_memory(kind: str, tmp_path: Path) -> None:
    crops = made_crops(2)
    path = write_cif(tmp_path / "x.cif", crops, discs(crops))
    content = bytearray(path.read_bytes())
    change, message = HOSTILE[kind]
    change(content)
    path.write_bytes(content)
    tracemalloc.start()
    with pytest.raises(InputError, match=message) as refused:
        index_cif(path)
    assert tracemalloc.get_traced_memory()[1] < 5e6
    tracemalloc.stop()
    assert "\n" not in str(refused.value)


def test_a_damaged_stream_costs_one_cell(tmp_path: Path) -> None:
    crops = made_crops(24)
    path = write_cif(tmp_path / "x.cif", crops)
    (tmp_path / "x_labels.csv").write_text("label\n" + "a\nb\n" * 12)
    start, length = index_cif(path).pictures[5, :2].tolist()
    content = bytearray(path.read_bytes())
    content[start + 40 : start + length] = b"\xff" * (length - 40)
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"x\.cif\[5\] is damaged: its stream holds .* of"):
        read_cells(path)
    cells = read_cells(path, skip_bad=True)
    assert len(cells) == 23
    assert cells.skipped[0].name == "x.cif[5]"


@pytest.mark.parametrize(
    ("stream", "message"),
    [
        ([0x00], "holds 2 of 4"),
        ([0x00] * 20, "goes on for 36 parts"),
        ([0x88] * 4 + [0] * 4, "a difference of 9 parts"),
        ([0x07, 0x00], "run from -1 to"),
        ([0x7F, 0xFF, 0x7F, 0], "16 bits"),
    ],
)
def test_a_stream_that_cannot_be_is_refused(stream: list[int], message: str) -> None:
    with pytest.raises(InputError, match=message):
        decode_picture(np.array(stream, dtype=np.uint8), 2, 2)


def test_a_mask_of_another_length_is_refused() -> None:
    with pytest.raises(InputError, match="holds 256 of 4 pixels"):
        decode_masks(np.array([1, 255], dtype=np.uint8), 2, 2)
    with pytest.raises(InputError, match="odd number of bytes"):
        decode_masks(np.array([1, 3, 0], dtype=np.uint8), 2, 2)


def test_files_whose_channels_differ_are_not_mixed(tmp_path: Path) -> None:
    write_cif(tmp_path / "a.cif", made_crops(12), names={1: "BF", 2: "CD3", 3: "DNA"})
    write_cif(tmp_path / "b.cif", made_crops(12), names={1: "BF", 2: "DNA", 3: "CD3"})
    with pytest.raises(InputError, match=r"b\.cif has channels BF, DNA, CD3 where a\.cif has"):
        read_cells(tmp_path)


def test_a_file_without_labels_says_how_to_give_them(tmp_path: Path) -> None:
    path = write_cif(tmp_path / "x.cif", made_crops(12), bits=12)
    with pytest.raises(InputError, match=r"12 cells but no labels; put x_labels\.csv"):
        read_cells(path)
