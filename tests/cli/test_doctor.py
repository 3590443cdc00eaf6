"""``cytolens doctor``: what is there, and why data are not read."""

import tomllib
from importlib.metadata import PackageNotFoundError
from pathlib import Path

import numpy as np
import pytest

from cytolens.cli.main import main
from cytolens.study import doctor


def say(capsys: pytest.CaptureFixture[str], *words: str | Path) -> str:
    with pytest.raises(SystemExit) as stop:
        main(["doctor", *map(str, words)])
    assert stop.value.code == 0
    return capsys.readouterr().out


def test_versions_machine_and_extras_are_said(capsys: pytest.CaptureFixture[str]):
    said = say(capsys)
    for what in ("cytolens", "Python", "torch", "cores", "memory", "GPU", "bf16", "extra umap"):
        assert f"\n{what}" in f"\n{said}"


def test_every_extra_is_looked_for():
    file = Path(__file__).parents[2] / "pyproject.toml"
    extras = set(tomllib.loads(file.read_text())["project"]["optional-dependencies"])
    assert set(doctor.EXTRAS) == extras - {"dev"}


def test_a_version_outside_of_what_is_allowed_is_named(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(
        doctor, "requires", lambda name: ["numpy<1.0", "no-such-library>=2", "x; extra == 'dev'"]
    )
    lines = {what: advice for what, _, advice in doctor.examine()}
    assert lines["numpy"] == "cytolens is made for numpy<1.0: pip install 'numpy<1.0'"
    assert lines["no-such-library"] == "pip install 'no-such-library>=2'"
    assert "x" not in lines


def test_a_cytolens_that_is_not_installed_is_said(monkeypatch: pytest.MonkeyPatch):
    def absent(name: str):
        raise PackageNotFoundError(name)

    monkeypatch.setattr(doctor, "requires", absent)
    assert ("packages", "not known") in [line[:2] for line in doctor.examine()]


def test_data_that_are_read_are_described(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    images = np.random.default_rng(0).integers(0, 99, (24, 20, 20)).astype(np.uint8)
    np.savez(tmp_path / "a.npz", images=images, labels=np.repeat(["G1", "G2"], 12))
    said = say(capsys, tmp_path / "a.npz")
    assert "24 before they are checked (G1 12, G2 12)" in said


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("x.h5", b"\x89HDF\r\n\x1a\n", "looks like HDF5"),
        ("x.tif", b"version https://git-lfs.github.com/spec/v1\n", "Git LFS pointer"),
        ("x.pkl", b"\x80\x04abc", "Python pickle"),
        ("x.npz", b"<html>404", "a download that failed"),
        ("x.npz", b"", "looks like empty"),
        ("x.abc", b"?", "not known by its first bytes"),
    ],
)
def test_data_that_are_not_read_are_explained(
    tmp_path: Path, name: str, content: bytes, said: str, capsys: pytest.CaptureFixture[str]
):
    (tmp_path / name).write_bytes(content)
    printed = say(capsys, tmp_path / name)
    assert said in printed
    assert "things to look at" in printed
