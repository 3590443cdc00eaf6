"""Files looked at before they are opened: a pipe, a device or a folder is no file to read."""

import stat
from pathlib import Path

from cytolens.errors import InputError

LONGEST_TEXT = 4096  # characters of one label, name or path; a longer one is no name

_KINDS = (
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISFIFO, "a pipe"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)


def check_file(path: str | Path, *, most: int | None = None) -> int:
    """The size in bytes of a regular file, links followed; nothing is opened.

    A pipe without a writer would be waited for, and a device read without end. Raises InputError
    where it is neither a file nor a link to one, or larger than ``most`` bytes; the message leaves
    the file's name to the caller.
    """
    try:
        about = Path(path).stat()
    except FileNotFoundError:
        raise InputError("does not exist") from None
    except (OSError, ValueError) as error:  # ValueError: a name with a zero byte
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise InputError(f"cannot be read ({reason})") from None
    if not stat.S_ISREG(about.st_mode):
        kind = next((name for is_it, name in _KINDS if is_it(about.st_mode)), "no regular file")
        raise InputError(f"is {kind}, where a file is needed")
    if most is not None and about.st_size > most:
        raise InputError(f"is a file of {about.st_size >> 20} MiB; at most {most >> 20} are read")
    return about.st_size


def shown(name: str) -> str:
    r"""A file name as text: bytes that are not UTF-8 are written out, "caf\xe9.png".

    Python keeps such bytes as lone surrogates, which can neither be printed nor stored.

    >>> print(shown("caf\udce9.png"))
    caf\xe9.png
    """
    if name.isascii():
        return name
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
