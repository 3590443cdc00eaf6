"""The command line: arguments in, one call each."""

import sys

try:
    from cytolens.cli.main import main
except KeyboardInterrupt:  # while libraries are loaded
    sys.stderr.write("cytolens: stopped before it began\n")
    raise SystemExit(130) from None

__all__ = ["main"]
