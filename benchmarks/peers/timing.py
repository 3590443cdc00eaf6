"""What every peer's script shares: its arguments, and how it is timed and leaves its images.

    SCRIPT FOLDER TASK STEPS CHANNELS OUT [OPTION=VALUE …]

TASK is a network of `networks`; CHANNELS "0-63" or "0,5"; with ``single=1`` they are made one at a
time. Set OMP_NUM_THREADS=1. OUT.npy gets the images (n, 1, H, W), OUT.json the process-CPU seconds:
"cpu" for all, "step" for a step of one image without what a call costs once.
"""

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

Make = Callable[[list[int], int], np.ndarray]
"""(channels, steps) -> images (n, 1, H, W)."""


def run(prepare: Callable[[str, Path, dict[str, str]], Make]) -> None:
    """Prepare the peer, warm it up, time two steps and all, write what it made."""
    folder, task, steps, channels, out = sys.argv[1:6]
    options = dict(option.split("=") for option in sys.argv[6:])
    make = prepare(task, Path(folder), options)
    first, _, last = channels.partition("-")
    wanted = list(range(int(first), int(last) + 1)) if last else [int(c) for c in first.split(",")]
    single = options.get("single") == "1"
    groups = [[channel] for channel in wanted] if single else [wanted]
    make(groups[0], 2)
    clock = time.process_time()
    make(groups[0], 2)
    short = time.process_time() - clock
    clock, wall = time.process_time(), time.perf_counter()
    images = np.concatenate([make(group, int(steps)) for group in groups])
    cpu = time.process_time() - clock
    told: dict[str, Any] = {
        "cpu": cpu,
        "step": (cpu / len(groups) - short) / (int(steps) - 2) / len(groups[0]),
        "wall": time.perf_counter() - wall,
        "n": len(wanted),
        "steps": int(steps),
    }
    np.save(f"{out}.npy", images.astype(np.float32))
    Path(f"{out}.json").write_text(json.dumps(told))
