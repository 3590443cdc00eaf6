"""The command line as a user runs it: a process of its own, its exit code, what it prints."""

import json
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from test_offline import offline

FILES = ("cells/table.npz", "classifier/weights.safetensors", "classifier/network.json")
CYTOLENS = [sys.executable, "-m", "cytolens"]


def cytolens(*words: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*CYTOLENS, *map(str, words)], capture_output=True, text=True, check=False, timeout=300
    )


@pytest.fixture(scope="module")
def simulated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("simulated") / "cells"
    small = ["--cells", "240", "--size", "32", "--pixel-size", "0.5", "--difficulty", "0"]
    done = cytolens("simulate", *small, "--out", out)
    assert done.returncode == 0, done.stderr
    return out


@pytest.fixture(scope="module")
def finished(simulated: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("runs") / "run"
    options = ["--quick", "--epochs", "2", "--gallery", "2", "--steps", "4", "--map-cells", "150"]
    notes = run.with_name("network")  # what was tried of it, where it is denied: see offline.py
    done = offline(notes, "run", simulated, "--out", run, *options)
    assert done.returncode == 0, done.stderr
    assert not notes.exists(), notes.read_text()
    return run


def test_a_run_leaves_a_report_a_summary_and_a_table_of_cells(finished: Path):
    page = (finished / "report.html").read_text()
    assert "http-equiv" not in page or "refresh" not in page
    assert 'src="http' not in page
    summary = json.loads((finished / "summary.json").read_text(), parse_constant=pytest.fail)
    assert summary["cells"]["n"] == 240
    assert summary["cells"]["classes"] == ["lymphocyte", "neutrophil"]
    for part in ("test", "baseline"):
        balanced = summary["classifier"][part]["balanced_accuracy"]
        assert balanced["low"] <= balanced["value"] <= balanced["high"]
    names = [layer["name"] for layer in summary["layers"]]
    assert names[0] == "input"
    assert names[-1] == "logits"
    probe = summary["layers"][-1]["separation"]["probe_accuracy"]
    assert set(probe) == {"value", "low", "high", "null", "untrained"}
    assert summary["layers"][1]["receptive_field"] == 3
    assert set(summary["timings"]) >= {"cells", "classifier", "maps", "features"}
    assert list((finished / "figures").glob("*.png"))
    assert not list((finished / "figures").glob("*.svg"))  # on request
    assert not list(finished.rglob("*.partial"))


def test_a_run_that_is_there_is_shown_without_loading_the_network_s_library(finished: Path):
    code = (
        "import sys; from cytolens.cli.main import main; sys.argv = ['cytolens', *sys.argv[1:]]\n"
        "try: main()\n"
        "finally: print('torch' in sys.modules)"
    )
    words = [sys.executable, "-c", code, "report", str(finished)]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "False"


def test_a_look_from_elsewhere_changes_neither_cells_nor_classifier(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    held = {name: (finished / name).read_bytes() for name in FILES}
    (tmp_path / "cells").mkdir()  # of the same name as the data
    monkeypatch.chdir(tmp_path)
    for verb in ("layers", "report"):
        assert cytolens(verb, finished).returncode == 0
    refused = cytolens("cluster", finished, "--epochs", "3")
    assert refused.returncode == 2
    assert "cytolens train" in refused.stderr
    assert {name: (finished / name).read_bytes() for name in FILES} == held


def test_the_table_of_cells_follows_the_conventions(finished: Path):
    import anndata

    adata = anndata.read_h5ad(finished / "cells.h5ad")
    assert adata.obs["class"].dtype == "category"
    assert adata.obsm["X_tsne_pre_softmax"].shape == (adata.n_obs, 2)
    assert len(adata.uns["class_colors"]) == 2
    assert adata.obs_names.is_unique


def test_the_cells_go_to_other_tools(finished: Path, tmp_path: Path):
    import pandas

    done = cytolens("export", finished, "--to", "tensorboard")
    assert done.returncode == 0, done.stderr
    folder = finished / "exports" / "tensorboard"
    assert done.stdout.strip() == str(folder)
    assert "making maps" not in done.stderr
    assert (folder / "projector_config.pbtxt").read_text().count("sprite.png") > 2
    done = cytolens("export", finished, "--to", "atlas", "--out", tmp_path / "cells.parquet")
    assert done.returncode == 0, done.stderr
    rows = pandas.read_parquet(tmp_path / "cells.parquet", engine="pyarrow")
    assert {"x", "y", "image", "neighbors", "class", "area", "label_doubt"} <= set(rows)
    assert len(rows) == 150


def test_a_second_call_repeats_nothing_and_a_changed_setting_only_what_depends_on_it(
    finished: Path,
):
    again = cytolens("report", finished)
    assert again.returncode == 0
    assert "making maps" not in again.stderr
    assert "training" not in again.stderr
    changed = cytolens("cluster", finished, "--n-clusters", "3")
    assert changed.returncode == 0, changed.stderr
    assert "clustering:" in changed.stderr
    assert "making maps" not in changed.stderr


def test_layers_are_listed_in_depth_order(finished: Path):
    done = cytolens("layers", finished)
    assert done.returncode == 0
    lines = done.stdout.splitlines()
    assert "receptive field" in lines[0]
    names = [line.split()[0] for line in lines[1:]]
    assert names[:2] == ["input", "conv1"]
    assert names[-2:] == ["pre_softmax", "logits"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["run", "no/such/folder", "--out", "r"], "no/such/folder"),
        (["embed", "nowhere"], "nowhere"),
        (["simulate", "--cells", "many", "--out", "r"], "--cells"),
        (["polish"], "polish"),
        (["export", "nowhere", "--to", "h5ad"], "nowhere"),
        (["export", ".", "--to", "excel"], "embedding-atlas"),
        (["run", ".", "--out", "r", "--intensity", "loud"], "dataset"),
        (["run", ".", "--out", "r", "--steps", "0"], "--steps"),
    ],
)
def test_bad_input_gets_one_line_and_exit_code_2(words: list[str], said: str, tmp_path: Path):
    words = [str(tmp_path / word) if word == "r" else word for word in words]
    done = cytolens(*words)
    assert done.returncode == 2
    assert len(done.stderr.strip().splitlines()) == 1
    assert said in done.stderr
    assert "Traceback" not in done.stderr
    assert not list(tmp_path.iterdir())


def test_bad_cells_leave_no_run_behind(tmp_path: Path):
    images = np.random.default_rng(0).integers(0, 255, (30, 16, 16)).astype("u1")
    np.savez(tmp_path / "cells.npz", images=images, labels=np.zeros(30, int))
    done = cytolens("run", tmp_path / "cells.npz", "--out", tmp_path / "run")
    assert done.returncode == 2
    assert "class" in done.stderr
    assert not (tmp_path / "run").exists()


def test_a_folder_with_other_things_is_not_taken_for_a_run(simulated: Path, tmp_path: Path):
    (tmp_path / "thesis.tex").write_text("precious")
    done = cytolens("run", simulated, "--out", tmp_path)
    assert done.returncode == 2
    assert [p.name for p in tmp_path.iterdir()] == ["thesis.tex"]


def test_the_same_seed_gives_the_same_bytes(tmp_path: Path):
    for name in ("a", "b"):
        assert cytolens("simulate", "--cells", "60", "--out", tmp_path / name).returncode == 0
    first, second = ((tmp_path / name / "cells.npz") for name in ("a", "b"))
    with np.load(first) as one, np.load(second) as two:
        assert all(one[key].tobytes() == two[key].tobytes() for key in one.files)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interrupt_says_that_the_same_command_goes_on(
    simulated: Path, tmp_path: Path, number: signal.Signals, code: int
):
    words = ["train", str(simulated), "--out", str(tmp_path / "run"), "--epochs", "500"]
    running = subprocess.Popen(
        [*CYTOLENS, *words], stderr=subprocess.PIPE, text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # jobs may ignore it
    )  # fmt: skip
    for _ in range(600):  # until it trains
        record = tmp_path / "run" / "run.json"
        if record.is_file() and "cells" in json.loads(record.read_text())["stages"]:
            break
        time.sleep(0.1)
    running.send_signal(number)
    _, said = running.communicate(timeout=60)
    assert running.returncode in (code, -signal.SIGINT)  # a shell says 130 of the latter
    assert said.splitlines()[-1] == "cytolens: stopped; the same command goes on from here"
    again = cytolens("train", simulated, "--out", tmp_path / "run", "--epochs", "1")
    assert again.returncode == 0, again.stderr
    assert "reading the cells" not in again.stderr


def test_every_key_of_the_summary_is_written_down(finished: Path):
    """A key that is added, renamed or gone is seen here; docs/summary.md describes them."""
    summary = json.loads((finished / "summary.json").read_text())
    found = sorted({*summary, *(f"layers.{key}" for la in summary["layers"] for key in la)})
    assert found == Path(__file__).with_name("summary_keys.txt").read_text().split()


def test_every_stored_byte_is_checked(finished: Path, tmp_path: Path):
    whole = cytolens("verify", finished)
    assert whole.returncode == 0, whole.stderr
    damaged = Path(shutil.copytree(finished, tmp_path / "run"))
    file = damaged / "stages" / "separation.npz"
    file.write_bytes(file.read_bytes()[:-40])
    found = cytolens("verify", damaged)
    assert found.returncode == 2
    assert f"cytolens stage separation {damaged} --remake" in found.stdout
    assert cytolens("stage", "separation", damaged, "--remake").returncode == 0
    assert cytolens("verify", damaged).returncode == 0
