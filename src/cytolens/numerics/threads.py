"""How many threads a computation may use."""

import os
from collections.abc import Generator
from contextlib import contextmanager
from contextvars import ContextVar

from threadpoolctl import threadpool_limits

from cytolens.numerics.machine import cores

ONE_THREAD_UP_TO = 5000
"""Cells up to which clusters and separation are found on one thread where none are asked for."""


_asked: ContextVar[int | None] = ContextVar("threads", default=None)


@contextmanager
def default_threads(threads: int | None) -> Generator[None]:
    """Within the block ``threads`` are used where a function is not told how many."""
    token = _asked.set(threads)
    try:
        yield
    finally:
        _asked.reset(token)


def asked_threads() -> int | None:
    """What `default_threads` or OMP_NUM_THREADS asks for; None where neither does."""
    if _asked.get() is not None:
        return _asked.get()
    asked = os.environ.get("OMP_NUM_THREADS", "").split(",")[0]
    return int(asked) if asked.isdigit() and int(asked) else None


def thread_count(threads: int | None) -> int:
    """``threads``; where None, `asked_threads`, or the cores this process may use."""
    return max(1, threads if threads is not None else asked_threads() or cores())


@contextmanager
def limited_threads(threads: int | None, *, cells: int | None = None) -> Generator[int]:
    """Within the block BLAS and OpenMP (faiss, scikit-learn) use `thread_count` threads.

    Where ``threads`` is None and there are at most `ONE_THREAD_UP_TO` ``cells``, one thread: many
    short parallel steps gain little, and on a busy machine wait for each other many times longer.
    """
    # A library can be limited only once it is loaded.
    import faiss  # noqa: F401  # pyright: ignore[reportUnusedImport]
    import scipy.linalg  # noqa: F401  # pyright: ignore[reportUnusedImport]
    import sklearn.decomposition  # noqa: F401  # pyright: ignore[reportUnusedImport]

    small = threads is None and cells is not None and cells <= ONE_THREAD_UP_TO
    count = 1 if small else thread_count(threads)
    with threadpool_limits(limits=count):
        yield count
