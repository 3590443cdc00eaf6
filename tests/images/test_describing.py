from pathlib import Path

import numpy as np
import pytest
from made_cif import write_cif
from made_crops import make_crops, write_crop

from cytolens.cli.main import main
from cytolens.errors import InputError
from cytolens.images.describing import describe_data


def said(path: Path, **more: str) -> dict[str, tuple[str, str]]:
    return {line.what: (line.taken, line.change) for line in describe_data(path, **more)}


def test_a_folder_is_described_without_being_run(tmp_path: Path) -> None:
    for i, crop in enumerate(make_crops(8, 20, 18)):
        write_crop(tmp_path / f"donor_{i % 2}/{'ab'[i // 4]}/{i}.png", crop)
    (tmp_path / "donor_0/a/broken.png").write_bytes(b"no picture")
    lines = said(tmp_path)
    assert lines["cells"][0].startswith("9,")
    assert lines["class"] == ("a (5), b (4); from: innermost folder", "--labels, --classes")
    assert lines["group"] == ("donor: donor_0, donor_1", "--group")
    assert lines["crops"][0].startswith("20 × 18 px, uint8; brought to about 24 × 24")
    assert "1 of 9 looked at: donor_0/a/broken.png is no PNG" in lines["unusable"][0]
    assert said(tmp_path, group="(?P<group>[0-9]+).png")["group"][0].startswith("group '(?P<group>")


def test_a_file_without_labels_is_described_all_the_same(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    crops = list(make_crops(5, 2, 20, 20, dtype=np.uint16))
    masks = [np.ones_like(crop) for crop in crops]
    path = write_cif(tmp_path / "x.cif", crops, masks, names={1: "BF", 2: "DNA"})
    with pytest.raises(SystemExit) as done:
        main(["describe", str(path)])
    assert done.value.code == 0
    shown = capsys.readouterr().out
    assert "none found: it holds 5 cells but no labels; put x_labels.csv" in shown
    assert "BF (0…199), DNA (0…199)   [--channel]" in shown
    assert "[--masks blank, --masks crop]" in shown
    assert "0.5 µm" in shown
    assert len(shown.splitlines()) < 20


def test_what_cannot_be_read_is_said_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "x.cif").write_bytes(b"MM\0*" + bytes(40))
    with pytest.raises(SystemExit) as done:
        main(["describe", str(tmp_path / "x.cif")])
    assert done.value.code == 2
    assert "x.cif is no CIF" in capsys.readouterr().err
    with pytest.raises(InputError, match="does not exist"):
        describe_data(tmp_path / "nothing")
