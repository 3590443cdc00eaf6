"""``python -m cytolens``: the command line."""

from cytolens.cli import main

main()
