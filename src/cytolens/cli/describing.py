"""The verb that says what data would be taken for, before anything is run."""

from pathlib import Path

import typer

from cytolens.cli import terminal


def add_verbs(app: typer.Typer) -> None:
    """Add ``describe`` to the application."""
    app.command("describe")(describe)


def describe(
    data: Path = typer.Argument(help="the cells, as for run", metavar="DATA"),
    labels: str | None = typer.Option(None, help="where labels come from, as for run"),
    group: str | None = typer.Option(None, help="what a split must not cut, as for run"),
    skip_bad: bool = typer.Option(False, "--skip-bad", help="leave files out that cannot be read"),
) -> None:
    """What DATA would be taken for: classes, groups, channels, masks; and which option changes it.

    Nothing is run or written, and at most 64 crops are decoded.
    """
    from cytolens.images.describing import describe_data

    lines = describe_data(data, labels=labels, group=group, skip_bad=skip_bad)
    for line in lines:
        change = f"   [{line.change}]" if line.change else ""
        terminal.print_line(f"{line.what:<14} {line.taken}{change}")
