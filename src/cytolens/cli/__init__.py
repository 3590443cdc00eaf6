"""The command line: arguments in, one call each."""

from cytolens.cli.main import main

__all__ = ["main"]
