"""What the server keeps and computes: gates, decisions, orders, questions, new cells."""

import base64
import csv
import io
import json
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from cytolens.explorer.listening import listen
from cytolens.explorer.of_run import RunContent
from cytolens.explorer.server import Server
from cytolens.images.decisions import asked_changes
from cytolens.simulation.optics import Optics
from cytolens.simulation.simulate import simulate


def call(server: Server, path: str, body: Any = None, **headers: str) -> tuple[int, Any]:
    """Status and JSON (or text) of an address; a body is posted as the page does."""
    data = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
    request = urllib.request.Request(
        server.address.rstrip("/") + path, data, {"X-Cytolens": "1", **headers}
    )
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            status, content = answer.status, answer.read()
    except urllib.error.HTTPError as refused:
        with refused:
            status, content = refused.code, refused.read()
    try:
        return status, json.loads(content)
    except ValueError:
        return status, content.decode("utf-8", "replace")


def test_a_gate_is_kept_in_the_run_with_its_cells(
    server: Server, shown: RunContent, finished: Path
):
    steps = [{"how": "replace", "shape": {"kind": "range", "column": "area", "low": 1, "high": 9}}]
    assert call(server, "/gates", {"name": "small", "steps": steps, "cells": [5, 2]})[0] == 200
    kept = json.loads((finished / "explorer" / "gates.json").read_text())["gates"]
    assert kept == [{"name": "small", "steps": steps, "cells": shown.mapped[[2, 5]].tolist()}]
    gates = call(server, "/manifest.json")[1]["gates"]
    assert gates == [{"name": "small", "steps": steps, "cells": 2}]
    assert call(server, "/gates", {"name": "small", "forget": True})[0] == 200
    assert call(server, "/manifest.json")[1]["gates"] == []


def test_decisions_go_into_the_table_that_relabel_takes(
    server: Server, shown: RunContent, finished: Path
):
    table = finished / "suspects.csv"
    names = shown.cells.names
    first, second = shown.cells.class_names
    label = second if shown.cells.labels[3] == 0 else first
    assert call(server, "/decisions", {"cells": [3], "label": label})[0] == 200
    assert call(server, "/decisions", {"cells": [7, 8], "label": None})[0] == 200
    assert asked_changes(table) == {(names[3], label), (names[7], None), (names[8], None)}
    decided = call(server, "/manifest.json")[1]["decisions"]
    assert sorted(decided, key=str) == sorted([[3, label], [7, None], [8, None]], key=str)
    assert call(server, "/decisions", {"cells": [3, 7], "back": True})[0] == 200
    assert asked_changes(table) == {(names[8], None)}
    assert call(server, "/decisions", {"cells": [8], "back": True})[0] == 200
    assert asked_changes(table) == set()


def test_a_suspects_table_of_a_person_keeps_its_other_rows(
    server: Server, shown: RunContent, finished: Path
):
    table, names = finished / "suspects.csv", shown.cells.names
    text = f"cell;name;use;label;note\n0;{names[0]};no;;blurred\n1;{names[1]};yes;;fine\n"
    table.write_text(text)
    assert call(server, "/decisions", {"cells": [1], "label": None})[0] == 200
    rows = list(csv.DictReader(io.StringIO(table.read_text()), delimiter=";"))
    assert [row["note"] for row in rows] == ["blurred", "fine"]
    assert asked_changes(table) == {(names[0], None), (names[1], None)}
    table.unlink()


def test_cells_come_in_the_order_of_their_features(server: Server, shown: RunContent):
    layer, cells = shown.main_layer, list(range(0, 80))
    status, answer = call(server, "/order", {"cells": cells, "layer": layer, "by": "typical"})
    features = shown.features(layer)
    scaled = features / np.where(features.std(axis=0) > 0, features.std(axis=0), 1)
    distances = np.square(scaled[cells] - scaled[cells].mean(axis=0)).sum(axis=1)
    assert status == 200
    found = distances[answer["cells"]]
    assert (np.diff(found) >= -1e-3).all()


def test_a_crop_comes_at_its_full_size(server: Server, shown: RunContent):
    request = urllib.request.Request(server.address + "part/crop/4/0", headers={"X-Cytolens": "1"})
    with urllib.request.urlopen(request) as answer:
        pixels = np.asarray(Image.open(io.BytesIO(answer.read())))
    np.testing.assert_array_equal(pixels, shown.crop(4)[0])


def test_many_threads_read_the_same_sheets_and_layers(shown: RunContent):
    from concurrent.futures import ThreadPoolExecutor

    names = [f"sheet/{k % shown.content.manifest['sheets']['count']}/0" for k in range(24)]
    names += [f"activation/{layer}/0" for layer in ("conv1", "conv3", "conv5") for _ in range(8)]
    alone = {name: shown.content.parts[name].make() for name in names}
    with ThreadPoolExecutor(16) as pool:
        together = list(pool.map(lambda name: shown.content.parts[name].make(), names))
    assert together == [alone[name] for name in names]


def wait_for(server: Server, number: int, *, picture: bool = False) -> dict[str, Any]:
    after, deadline = -1, time.monotonic() + 60
    while time.monotonic() < deadline:
        answer = call(server, f"/ask/{number}?after={after}")[1]
        if answer["state"] not in ("waiting", "working") or (picture and "picture" in answer):
            return answer
        after = answer["version"]
    raise AssertionError("no answer")


def test_the_network_answers_step_by_step_and_can_be_stopped(server: Server, shown: RunContent):
    cells = np.flatnonzero(shown.cells.labels == 0).tolist()
    asked = {"cells": cells, "layer": shown.main_layer}
    status, answer = call(server, "/ask", asked)
    assert status == 200
    assert call(server, "/compare", asked)[1]["channels"][0]["auc"] != 0.5
    found = wait_for(server, answer["number"], picture=True)
    picture = np.asarray(Image.open(io.BytesIO(base64.b64decode(found["picture"]["channels"][0]))))
    assert picture.shape == (32, 32)
    assert picture.std() > 0
    last = wait_for(server, answer["number"])
    assert (last["state"], last["steps"]) == ("done", last["last"])
    number = call(server, "/ask", asked)[1]["number"]
    assert call(server, f"/ask/{number}/cancel", {})[0] == 200
    assert call(server, f"/ask/{number}")[1]["state"] == "cancelled"
    again = call(server, "/ask", {**asked, "others": [c for c in range(160) if c not in cells]})
    assert wait_for(server, again[1]["number"])["state"] == "done"


def test_what_cannot_be_asked_is_said(server: Server, shown: RunContent):
    everything = list(range(shown.content.n))
    answer = call(server, "/ask", {"cells": everything, "layer": shown.main_layer})[1]
    found = wait_for(server, answer["number"])
    assert found["state"] == "failed"
    assert "not all" in found["note"]
    status, words = call(server, "/compare", {"cells": [1], "layer": "no such layer"})
    assert status == 400
    assert "choose one of" in words


def test_real_cells_answer_at_once(server: Server, shown: RunContent):
    from cytolens.features.directions import whitened_directions

    layer = shown.main_layer
    cells = np.flatnonzero(shown.cells.labels == 0)
    asked = {"cells": cells.tolist(), "layer": layer}
    real = call(server, "/compare", asked)[1]["real"]
    features = shown.features(layer)
    reached = features @ whitened_directions(features, [cells])[0]
    assert real["chosen"][0] == cells[reached[cells].argmax()]
    others = np.flatnonzero(shown.cells.labels == 1)
    assert real["elsewhere"][0] == others[reached[others].argmax()]
    assert real["opposite"][0] == others[reached[others].argmin()]


def test_a_script_that_shows_a_run_is_not_run_again_by_the_network(finished: Path, tmp_path: Path):
    script = tmp_path / "script.py"
    script.write_text(
        "import pathlib, time\nfrom cytolens.explorer.asking import Network\n"
        "from cytolens.study.finished_run import open_run\n"
        f"with open({str(tmp_path / 'turns')!r}, 'a') as turns: turns.write('x')\n"
        f"network = Network.of(open_run({str(finished)!r}), trust_model=False)\n"
        "number = network.ask('explain', cell=0, layer=None)\n"
        "while network.answer(number).state in ('waiting', 'working'): time.sleep(0.05)\n"
        "print(network.answer(number).state)\nnetwork.stop()\n"
    )
    ran = subprocess.run([sys.executable, script], capture_output=True, text=True, timeout=120)
    assert (ran.stdout.strip(), ran.stderr) == ("done", "")
    assert (tmp_path / "turns").read_text() == "x"


def test_any_cell_is_explained_as_the_study_explains_cells(server: Server, shown: RunContent):
    from cytolens.features.modulation import explain_cell

    study = shown.run["modulated"].explanations
    told = {int(found.cell) for found in study}
    cell = next(k for k, row in enumerate(shown.mapped.tolist()) if row not in told)
    number = call(server, "/explain", {"cell": cell, "layer": None})[1]["number"]
    found = wait_for(server, number)
    assert found["state"] == "done", found["note"]
    crop = shown.run.cells.read(shown.mapped[cell : cell + 1])[0]
    known = explain_cell(shown.run["network"], crop, layer=study[0].layer)
    assert found["layer"] == study[0].layer
    assert [entry["channel"] for entry in found["channels"]] == known.channels.tolist()
    contributions = [entry["contribution"] for entry in found["channels"]]
    np.testing.assert_allclose(contributions, known.contributions, rtol=1e-3)
    assert found["predicted"] == known.predicted_class
    for entry in found["channels"]:  # of channels that the study has no image of, too
        assert entry["image"] is not None
        grey = Image.open(io.BytesIO(base64.b64decode(entry["map"]["channels"][0])))
        assert grey.size == shown.cells.shape[:0:-1]


@pytest.mark.parametrize("cell", [-1, 160, 1.5, True, "3", None, [3]])
def test_only_cells_of_the_run_are_explained(server: Server, cell: Any):
    assert call(server, "/explain", {"cell": cell})[0] == 400


def test_a_depth_without_positions_explains_no_cell(server: Server):
    number = call(server, "/explain", {"cell": 3, "layer": "logits"})[1]["number"]
    found = wait_for(server, number)
    assert found["state"] == "failed"
    assert "positions" in found["note"]


def test_dropped_cells_are_placed_on_the_maps(server: Server, shown: RunContent):
    images = simulate(9, size=32, difficulty=0.0, optics=Optics(pixel_size_um=0.5), rng=3).images
    buffer = io.BytesIO()
    np.savez(buffer, images=images)
    batch = call(server, "/new/start", {})[1]["batch"]
    assert call(server, f"/new/{batch}?name=tuesday.npz", buffer.getvalue())[0] == 200
    number = call(server, "/new/place", {"batch": batch})[1]["number"]
    found = wait_for(server, number)
    assert found["state"] == "done", found["note"]
    assert len(found["names"]) == 9
    assert np.shape(found["places"]["pca"][shown.main_layer]) == (9, 2)
    assert len(found["pictures"]) == 9
    assert "/" not in "".join(found["names"])


@pytest.mark.parametrize("name", ["cells.csv", "evil.parquet", "x.py", "../../up.npz.exe", ""])
def test_other_kinds_of_files_are_not_taken(server: Server, name: str):
    batch = call(server, "/new/start", {})[1]["batch"]
    assert call(server, f"/new/{batch}?name={name}", b"hello")[0] == 400


def test_a_port_in_use_gives_the_next():
    with listen("127.0.0.1", 18_700) as first, listen("127.0.0.1", 18_700) as second:
        assert isinstance(second, socket.socket)
        assert second.getsockname()[1] > first.getsockname()[1] - 1
        assert first.getsockname() != second.getsockname()


def test_ctrl_c_ends_the_command_cleanly(finished: Path):
    command = [sys.executable, "-m", "cytolens", "explore", str(finished), "--no-browser"]
    process = subprocess.Popen(
        [*command, "--port", "18800"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stderr is not None
    assert process.stdout.readline().startswith("http://127.0.0.1:188")
    time.sleep(0.5)
    process.send_signal(signal.SIGINT)
    assert process.wait(10) == 0
    assert "Traceback" not in process.stderr.read()
    process.stdout.close()
    process.stderr.close()
