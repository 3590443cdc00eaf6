import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from cytolens.errors import RunError
from cytolens.store.files import temporary_of
from cytolens.store.lock import LOCK, run_lock
from cytolens.store.run_folder import RunFolder

HOLD = """
import sys, time
from pathlib import Path
from cytolens.store.lock import run_lock
with run_lock(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def holder(tmp_path: Path):
    """Another process that holds the lock of a run."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path / "run")], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.wait()
    process.stdout.close()


def test_a_second_process_is_told_who_works_on_the_run(holder, tmp_path: Path):
    said = rf"process {holder.pid} on .*, since \d\d:\d\d"
    with pytest.raises(RunError, match=said), run_lock(tmp_path / "run"):
        pytest.fail("two processes hold one lock")


def test_a_lock_ends_with_the_process_that_held_it(holder, tmp_path: Path):
    os.kill(holder.pid, signal.SIGKILL)
    holder.wait()
    with run_lock(tmp_path / "run"):
        assert (tmp_path / "run" / LOCK).is_file()


def test_what_a_killed_process_was_writing_is_removed(holder, tmp_path: Path):
    run = tmp_path / "run"
    os.kill(holder.pid, signal.SIGKILL)
    holder.wait()
    left = temporary_of(run / "run.json", holder.pid)
    left.write_text("{")
    assert not RunFolder(run).exists  # a run that was killed at its very start can be begun anew
    with run_lock(run):
        assert not left.exists()
        (run / "stages").mkdir()
        left = temporary_of(run / "stages" / "maps.npz", holder.pid)  # of a process that helped
        other = temporary_of(run / "suspects.csv", os.getppid())  # of one that still writes
        left.touch()
        other.touch()
    assert not left.exists()
    assert other.exists()


def test_a_folder_with_nothing_but_a_lock_is_a_new_run(tmp_path: Path):
    with run_lock(tmp_path / "run"):
        assert not RunFolder(tmp_path / "run").exists
    assert not (tmp_path / "run").exists()  # nothing was made in it
    started = time.monotonic()
    with run_lock(tmp_path / "run"):
        assert time.monotonic() - started < 5
