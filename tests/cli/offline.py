"""The command line with the network denied: ``python offline.py NOTES WORDS…``.

Every attempt to look up a name or to reach another machine is noted in the file NOTES and refused.
Where the system allows it, the process is first put where there is no network at all, so that
libraries in C, and processes that are started, have none either.
"""

import ctypes
import os
import socket
import sys
from pathlib import Path
from typing import Any

NOTES = Path(sys.argv[1]) if __name__ == "__main__" else Path(os.devnull)
_NEW_USER, _NEW_NETWORK = 0x10000000, 0x40000000  # CLONE_NEWUSER, CLONE_NEWNET of Linux
_LOOKED_UP = ("socket.getaddrinfo", "socket.gethostbyname", "socket.gethostbyaddr")
_REACHED = ("socket.connect", "socket.sendto", "socket.sendmsg", "socket.bind")


def deny(event: str, details: tuple[Any, ...]) -> None:
    """An audit hook (PEP 578), which cannot be taken off again."""
    reached = event in _REACHED and details[0].family in (socket.AF_INET, socket.AF_INET6)
    if reached or event in _LOOKED_UP:
        with NOTES.open("a") as file:
            file.write(f"{event} {details if event in _LOOKED_UP else details[1:]}\n")
        raise PermissionError(f"the network is denied: {event}")


def without_network() -> None:
    """Leave the network for a namespace without one, where the system lets a user do so."""
    libc = ctypes.CDLL(None, use_errno=True)
    leave: Any = getattr(libc, "unshare", lambda flags: -1)
    done = leave(_NEW_USER | _NEW_NETWORK)  # not allowed everywhere; the hook is there anyway
    NOTES.with_suffix(".namespace").write_text("without network" if done == 0 else "as before")


if __name__ == "__main__":
    without_network()
    sys.addaudithook(deny)
    from cytolens.cli.main import main

    main(sys.argv[2:])
