"""Parts that end the worker which makes them."""

import os
import signal

from cytolens.study.parts import PartTask


def dies_once(task: PartTask) -> None:
    """The second part kills its worker the first time; all parts leave a file."""
    if task.number == 1 and not (task.run / "died").exists():
        (task.run / "died").touch()
        os.kill(os.getpid(), signal.SIGKILL)
    (task.run / str(task.number)).write_text(str(os.environ.get("MALLOC_TRIM_THRESHOLD_")))


def always_dies(task: PartTask) -> None:
    """However often it is tried."""
    del task
    os.kill(os.getpid(), signal.SIGKILL)
