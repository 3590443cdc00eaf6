"""How many bytes of pictures may be decoded at once; further pictures wait for their turn."""

import threading

MOST_AT_ONCE = 32 << 20  # bytes of decoded pictures


class PostponedError(Exception):
    """There is no room for this picture in the batch; it is decoded in the next one."""


class Allowance:
    """Room for the pictures of one batch, shared by the threads that decode them.

    The first picture always has room, so that every batch gets on. A picture's size is known from
    its header, before any of it is decoded.
    """

    def __init__(self, most: int = MOST_AT_ONCE) -> None:
        self._left = most
        self._lock = threading.Lock()

    def take(self, size: int, *, first: bool) -> None:
        """Claim ``size`` bytes. Raises PostponedError where there is no room left."""
        with self._lock:
            if size > self._left and not first:
                raise PostponedError
            self._left -= size
