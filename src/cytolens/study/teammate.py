"""One process of a study's team: it makes the stages that it is asked for, from the run folder.

Asked by lines of JSON on standard input; answers are lines of JSON. It ends when the input does,
at once: with the study that asked, a stage is no longer wanted. So it does where memory is short:
another process makes the stage, then.
"""

import os
import time
import traceback
from collections.abc import Callable, Mapping
from typing import Any

from cytolens.errors import CytolensError, RunError
from cytolens.numerics.threads import limited_threads
from cytolens.study.finished_run import FinishedRun
from cytolens.study.lines import answering
from cytolens.study.settings import StudySettings
from cytolens.study.stage import table

Message = Mapping[str, Any]

_OFTEN = 0.2  # seconds between two lines of progress
_plots: dict[str, Any] = {}  # what draws each figure, once one was asked for


def main() -> None:
    """Answer until the input ends."""
    asked, answer = answering(ended=lambda: os._exit(0))
    first = asked.get()
    run = FinishedRun(first["run"], trust_model=first["trusted"])
    run.settings = StudySettings(**first["settings"])
    with limited_threads(1):
        while True:
            request = asked.get()
            try:
                made = _make if "make" in request else _draw
                answer(made(run, request, answer))
            except CytolensError as error:
                answer({"error": str(error), "kind": type(error).__name__})
            except MemoryError:
                os._exit(1)  # there may be enough once this process is gone
            except OSError as error:
                answer({"error": str(error), "kind": RunError.__name__})
            except Exception:
                answer({"error": traceback.format_exc(), "kind": ""})


def _make(run: FinishedRun, request: Message, answer: Callable[[Message], None]) -> Message:
    """Make and store a stage."""
    stage, last = table()[request["make"]], 0.0
    assert stage.keep is not None
    started = time.perf_counter()

    def progress(done: int, total: int, note: str) -> None:
        nonlocal last
        if time.monotonic() - last > _OFTEN:
            last = time.monotonic()
            answer({"progress": [done, total, note]})

    value = stage.run(run, run.settings, progress)
    stage.keep.write(run.folder, stage.name, value, progress)
    return {"files": run.folder.take_unfinished(), "seconds": time.perf_counter() - started}


def _draw(run: FinishedRun, request: Message, answer: Callable[[Message], None]) -> Message:
    """Draw a figure of the report."""
    from cytolens.report.story import plots
    from cytolens.study.stages.report import draw_figure, results_shown

    if not _plots:
        _plots.update(plots(results_shown(run, request["about"], {})))
    name = request["draw"]
    draw_figure(run.folder.path / "figures" / name, _plots[name], svg=request["svg"])
    return {}


if __name__ == "__main__":
    main()
