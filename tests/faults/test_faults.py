"""A quick selection of the accidents that ``make faults`` has happen."""

import subprocess
import sys
from pathlib import Path


def test_accidents_leave_nothing_half_made_and_cost_one_stage():
    script = Path(__file__).with_name("everything.py")
    done = subprocess.run([sys.executable, script, "--quick"], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
