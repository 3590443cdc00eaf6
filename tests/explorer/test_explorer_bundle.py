"""The bundle in the package is what the sources in explorer/web build, byte for byte."""

import shutil
import subprocess
from pathlib import Path

import pytest

import cytolens

WEB = Path(cytolens.__file__).parent / "explorer" / "web"


@pytest.fixture(scope="module")
def node() -> str:
    found = shutil.which("node")
    if found is None or not (WEB / "node_modules").is_dir():
        pytest.skip(f"no node, or no packages: cd {WEB} && npm ci")
    return found


def test_building_gives_the_shipped_bundle(node: str, tmp_path: Path):
    subprocess.run([node, "build.mjs", f"--out={tmp_path}"], cwd=WEB, check=True)
    for name in ("explorer.js", "explorer.css"):
        built = (tmp_path / name).read_bytes()
        shipped = (WEB.parent / "static" / name).read_bytes()
        assert built == shipped, f"{name} is old: cd {WEB} && npm run build"


def test_the_sources_are_typed(node: str):
    subprocess.run([node, "node_modules/typescript/bin/tsc", "--noEmit"], cwd=WEB, check=True)


def test_the_units_of_the_front_end_hold(node: str):
    subprocess.run([node, "build.mjs", "--tests"], cwd=WEB, check=True)
    ran = subprocess.run([node, "--test", "build/tests/"], cwd=WEB, text=True, capture_output=True)
    assert ran.returncode == 0, ran.stdout


def test_the_bundle_is_small():
    import gzip

    files = [
        (WEB.parent / "static" / name).read_bytes() for name in ("explorer.js", "explorer.css")
    ]
    assert sum(len(gzip.compress(data)) for data in files) < 120_000
