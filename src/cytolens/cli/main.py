"""``cytolens``: the verbs, and the one place where errors become a line and an exit code.

Exit codes: 0 done, 1 a fault of ours, 2 bad input (one line on stderr), 130 interrupted
(Ctrl-C), 143 asked to end (SIGTERM, e.g. at a job's time limit).
"""

import logging
import os
import signal
import sys
import warnings
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import typer

import cytolens
from cytolens.cli import (
    carding,
    describing,
    doctoring,
    exploring,
    exporting,
    fetching,
    making,
    placing,
    sharing,
    studying,
    validating,
)
from cytolens.errors import CytolensError

_UsageError: Any = typer.BadParameter.__base__  # typer's own copy of click, or click, by version

_INTERRUPTED, _ENDED = 130, 143

app = typer.Typer(
    name="cytolens",
    help="See what a cell-image classifier has learnt, and whether to believe it.",
    epilog="DATA is a folder of class folders (an outer level is the group), an .npz or .npy file, "
    "a stack of TIFF pages, CIF, HDF5, AnnData, Zarr, a CSV or Parquet manifest, or field images "
    "with a table of cells (of CellProfiler, for one) or label images; describe DATA says what it "
    "would be taken for. Every verb on a RUN first makes the "
    "stages that it needs, and repeats only those whose settings have changed.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)
studying.add_verbs(app)
making.add_verbs(app)
placing.add_verbs(app)
sharing.add_verbs(app)
describing.add_verbs(app)
validating.add_verbs(app)
exploring.add_verbs(app)
exporting.add_verbs(app)
carding.add_verbs(app)
doctoring.add_verbs(app)
fetching.add_verbs(app)


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"cytolens {cytolens.__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: bool = typer.Option(
        False, "--version", callback=_show_version, is_eager=True, help="Show the version."
    ),
) -> None:
    del version


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and leave the process with its exit code."""
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # before torch: waiting threads sleep
    words = list(sys.argv[1:] if arguments is None else arguments)
    with suppress(ValueError):  # in a thread of someone else's program
        signal.signal(signal.SIGTERM, _end)
    warnings.filterwarnings("ignore")  # libraries' remarks are for developers; ours are printed
    logging.getLogger("asyncio").setLevel(logging.CRITICAL)  # of writing that a full disk stopped
    sys.unraisablehook = lambda found: None  # of what an interrupt left half made
    try:
        code = app(spread(words or ["--help"]), standalone_mode=False)
    except typer.Exit as stop:  # typer makes this of an interrupt, too
        code = stop.exit_code
    except (typer.Abort, KeyboardInterrupt):
        code = _INTERRUPTED
    except _Ended:
        code = _ENDED
    except _UsageError as error:
        typer.echo(f"cytolens: {one_line(error.format_message())} (see --help)", err=True)
        code = 2
    except CytolensError as error:
        typer.echo(f"cytolens: {one_line(str(error))}", err=True)
        code = 2
    except SystemExit:  # no verb of ours does this
        typer.echo("cytolens: the network's code ended the program (sys.exit)", err=True)
        code = 2
    except MemoryError:
        typer.echo("cytolens: there is not enough memory for this", err=True)
        code = 2
    except OSError as error:
        named = "" if error.filename is None else f": '{error.filename}'"
        typer.echo(f"cytolens: {one_line(str(error.strerror or error))}{named}", err=True)
        code = 2
    if code in (_INTERRUPTED, _ENDED):
        typer.echo("cytolens: stopped; the same command goes on from here", err=True)
    raise SystemExit(code if isinstance(code, int) else 0)


class _Ended(BaseException):
    """The system asks the process to end: all blocks are left in order, as after Ctrl-C."""


def _end(number: int, frame: Any) -> None:
    raise _Ended


def spread(words: Sequence[str]) -> list[str]:
    """``--classes G2 Prophase`` as ``--classes G2 --classes Prophase``, which the parser knows.

    Holds for the options that take several names; the data must come before them.

    >>> spread(["run", "x", "--classes", "a", "b", "--out", "r"])
    ['run', 'x', '--classes', 'a', '--classes', 'b', '--out', 'r']
    """
    result: list[str] = []
    flag: str | None = None
    first = False
    several = studying.several() | validating.several()
    for word in words:
        if word.startswith("-") and not word.lstrip("-")[:1].isdigit():
            flag, first = (word, True) if word in several else (None, False)
        elif flag is not None and not first:
            result.append(flag)
        else:
            first = False
        result.append(word)
    return result


def one_line(text: str) -> str:
    """Text without line breaks, and without what a terminal cannot print."""
    plain = text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    return " ".join("".join(c if c.isprintable() else " " for c in plain).split())
