"""Decoders in a process of their own: the same pictures, and a crash is one line."""

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from cytolens.errors import InputError
from cytolens.images import isolation
from cytolens.images.isolation import Decoder, is_isolated, isolated
from cytolens.images.reading import read_cells

Folders = Callable[..., Path]


def test_cells_are_the_same_when_they_are_decoded_apart(class_folders: Folders):
    root = class_folders(dtype=np.uint16, ending=".tif")
    (root / "a" / "text.tif").write_text("no image")
    here = read_cells(root, skip_bad=True)
    with isolated():
        apart = read_cells(root, skip_bad=True)
    assert not is_isolated()
    np.testing.assert_array_equal(
        here.images.read_raw(slice(None)), apart.images.read_raw(slice(None))
    )
    assert here.skipped == apart.skipped
    assert here.remarks == apart.remarks


def test_tables_and_stacks_are_read_apart(tmp_path: Path):
    import tifffile
    from hostile_tables import parquet, rows

    rows(tmp_path / "t.csv")
    parquet(tmp_path / "t.parquet", area=[0.5, 2.5] * 12)
    crops = np.random.default_rng(0).integers(0, 99, (24, 20, 20)).astype(np.uint8)
    tifffile.imwrite(tmp_path / "s.tif", crops)
    np.save(tmp_path / "s_labels.npy", np.arange(24) % 2)
    with isolated():
        assert len(read_cells(tmp_path / "t.csv")) == 24
        assert set(read_cells(tmp_path / "t.parquet").covariates["area"].tolist()) == {0.5, 2.5}
        np.testing.assert_array_equal(
            read_cells(tmp_path / "s.tif").images.read_raw(slice(None))[:, 0, 2:-2, 2:-2], crops
        )


def test_a_decoder_that_ends_names_the_file_and_the_next_is_read(
    class_folders: Folders, monkeypatch: pytest.MonkeyPatch
):
    root = class_folders()
    ask = Decoder.ask

    def die_at(self: Decoder, question: dict[str, object], seconds: float | None):
        if str(question["path"]) == os.fsencode(root / "a" / "cell_3.png").hex():
            self._process.send_signal(signal.SIGSEGV)  # as a decoder of a made file would
            self._process.wait()
        return ask(self, question, seconds)

    monkeypatch.setattr(Decoder, "ask", die_at)
    with isolated():
        with pytest.raises(InputError, match=r"^a/cell_3\.png ends the process .*signal 11"):
            read_cells(root)
        cells = read_cells(root, skip_bad=True)
    assert len(cells) == 23
    assert [entry.name for entry in cells.skipped] == ["a/cell_3.png"]


def test_a_decoder_that_never_answers_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(isolation, "SECONDS", 0.1)
    decoder = Decoder()
    decoder._process.send_signal(signal.SIGSTOP)
    start = time.monotonic()
    with pytest.raises(InputError, match=r"not decoded within 0\.1 seconds"):
        decoder.ask({"request": "picture", "path": bytes(tmp_path / "x.png").hex()})
    assert time.monotonic() - start >= 1.2  # it has had none of the processor
    assert not decoder.alive


def test_processes_end_with_the_block(class_folders: Folders):
    with isolated():
        read_cells(class_folders())
        decoders = isolation._idle[:]
        assert decoders
    assert not any(decoder.alive for decoder in decoders)
    assert not isolation._idle
