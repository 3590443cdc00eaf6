"""A run as layers of napari, which need not be installed for it."""

import shutil
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import numpy as np

import cytolens
from cytolens.explorer.gates import Gates
from cytolens.explorer.in_napari import get_reader
from cytolens.study.finished_run import open_run


def test_a_run_becomes_layers(finished: Path, tmp_path: Path):
    run_path = tmp_path / "run"
    shutil.copytree(finished, run_path)
    run = open_run(run_path)
    Gates(run_path, run["mapped"]).save("left", [], [0, 3, 7])
    read = get_reader(str(run_path))
    assert read is not None
    layers = read([str(run_path)])
    by_name = {about["name"]: (data, about, kind) for data, about, kind in layers}
    first = f"cells: {run.cells.channel_names[0]}"
    crops, about, kind = by_name[first]
    assert (kind, about["scale"]) == ("image", (1.0, 0.5, 0.5))
    raw = run.cells.images.read_raw(run["mapped"])[:, 0]
    assert (crops.shape, crops.dtype) == (raw.shape, raw.dtype)
    np.testing.assert_array_equal(np.asarray(crops), raw)
    np.testing.assert_array_equal(crops[5], raw[5])
    np.testing.assert_array_equal(crops[2:9, 3:6, ::2], raw[2:9, 3:6, ::2])
    np.testing.assert_array_equal(crops[4, 2], raw[4, 2])
    shown = [name for name, (_, about, _) in by_name.items() if about["visible"]]
    main = f"map: pca {run['main_layer']}"
    assert shown == [first, main]
    points, about, kind = by_name[main]
    places = run.maps["pca"][run["main_layer"]].coordinates
    np.testing.assert_array_equal(points, np.stack([-places[:, 1], places[:, 0]], axis=1))
    assert about["face_color"] == "class"
    assert np.flatnonzero(about["features"]["gate left"]).tolist() == [0, 3, 7]
    np.testing.assert_array_equal(by_name["gate: left"][0], points[[0, 3, 7]])
    images = by_name["feature images: conv3"][0]
    np.testing.assert_array_equal(images, run.feature_images["conv3"].images)


def test_other_paths_are_left_to_other_readers(tmp_path: Path):
    (tmp_path / "x.tif").touch()
    assert get_reader(str(tmp_path)) is None
    assert get_reader(str(tmp_path / "x.tif")) is None
    assert get_reader([str(tmp_path), str(tmp_path)]) is None


def test_the_manifest_names_what_there_is_and_loads_little():
    manifest = (Path(cytolens.__file__).parent / "napari.yaml").read_text()
    module, name = manifest.split("python_name: ")[1].split()[0].split(":")
    assert callable(getattr(import_module(module), name))
    code = f"import {module}, sys; print('torch' in sys.modules, 'numpy' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False"]
