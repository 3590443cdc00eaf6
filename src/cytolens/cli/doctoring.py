"""The verb that says what is installed, what the machine has, and why data are not read."""

from pathlib import Path

import typer

from cytolens.cli import terminal


def add_verbs(app: typer.Typer) -> None:
    """Add ``doctor`` to the application."""
    app.command("doctor")(doctor)


def doctor(
    data: Path | None = typer.Argument(
        None, help="data that are not read, or not as they should be", show_default=False
    ),
) -> None:
    """Say what is installed, what the machine has, and why DATA are not read.

    Nothing is changed and nothing leaves the machine. A line with → says what to do.
    """
    from cytolens.study.doctor import examine

    lines = examine(data)
    width = max(len(what) for what, _, _ in lines)
    for what, there, advice in lines:
        terminal.print_line(f"{what:{width}}  {there}" + (f"  → {advice}" if advice else ""))
    wrong = sum(bool(advice) and not what.startswith("extra") for what, _, advice in lines)
    terminal.print_line("nothing is in the way" if not wrong else f"{wrong} things to look at")
