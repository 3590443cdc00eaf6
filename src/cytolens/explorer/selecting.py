"""What is selected in the page, known to the program that serves it, and asked for by it."""

import threading
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray


class Selecting:
    """The selection of a page (n,), as places on the maps, from both sides.

    The page tells each new selection, and asks for what the program has selected since.
    """

    def __init__(self) -> None:
        self.cells: NDArray[np.int64] = np.zeros(0, dtype=np.int64)
        self.version = 0  # raised with each selection that the program asks for
        self.observers: list[Callable[[NDArray[np.int64]], None]] = []
        self.closed = False  # no longer served: nobody waits for a selection
        self._lock = threading.Lock()

    def tell(self, cells: NDArray[np.int64], *, seen: int | None = None) -> None:
        """The page has selected these, when the last version that it had seen was ``seen``.

        What it selected before it saw what the program asks for does not count.
        """
        with self._lock:
            if seen is not None and seen < self.version:
                return
            changed = not np.array_equal(cells, self.cells)
            self.cells = cells
        if changed:
            for act in list(self.observers):
                act(cells)

    def ask(self, cells: NDArray[np.int64]) -> None:
        """The page is to select these."""
        with self._lock:
            self.version += 1
        self.tell(cells)
