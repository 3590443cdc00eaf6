"""The process that runs the network: questions come in as lines of JSON, what is found goes out.

``python -m cytolens.explorer.questions``; `asking` starts it.
"""

import os
from collections.abc import Callable
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any

from cytolens.errors import CytolensError
from cytolens.study.lines import answering

if TYPE_CHECKING:
    from cytolens.explorer.answering import Answering

QUESTIONS = ("see", "explain", "place")
"""What can be asked: the names of methods of `Answering`."""


class _Stopped(Exception):
    """The question is no longer of interest."""


def main() -> None:
    """Answer until nobody asks any more."""
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # before torch: waiting threads sleep
    asked, answer = answering()
    first = asked.get()
    if first is None:
        return
    import numpy as np  # noqa: F401  # pyright: ignore[reportUnusedImport]
    from threadpoolctl import threadpool_limits

    from cytolens.numerics.threads import asked_threads

    with threadpool_limits(asked_threads() or 1):  # of NumPy; others come with what needs them
        try:
            from cytolens.explorer.answering import Answering

            network: Answering | Exception = Answering(first["run"], first["trusted"])
            if asked.empty():
                network.make_ready()
        except Exception as error:
            network = error
        _answer_all(network, first["run"], asked, answer)


def _answer_all(
    network: "Answering | Exception",
    run: str,
    asked: "SimpleQueue[dict[str, Any] | None]",
    answer: Callable[[Any], None],
) -> None:
    def check() -> None:
        if not asked.empty():
            raise _Stopped

    while (message := asked.get()) is not None:
        number, kind, question = message["number"], message["kind"], message["question"]

        def say(number: int = number, **change: Any) -> None:
            answer([number, change])

        try:
            if kind in QUESTIONS:
                if isinstance(network, Exception):
                    raise network
                getattr(network, kind)(say, check, **question)
        except _Stopped:
            say(state="cancelled", note="")
        except CytolensError as error:
            say(state="failed", note=_without_paths(str(error), run))
        except BrokenPipeError:
            return
        except Exception as error:
            say(state="failed", note=f"that failed ({type(error).__name__})")


def _without_paths(text: str, run: str) -> str:
    """An error's words without any path of this machine."""
    return " ".join(
        "…" if "/" in word.strip("'\"(),;") and word.strip("'\"(),;").startswith("/") else word
        for word in text.replace(run, "RUN").split()
    )


if __name__ == "__main__":
    main()
