"""The verb that fetches public data by name."""

from pathlib import Path

import typer

from cytolens.cli import terminal


def add_verbs(app: typer.Typer) -> None:
    """Add ``fetch`` to the application."""
    app.command("fetch")(fetch)


def fetch(
    name: str | None = typer.Argument(
        None, help="which data; without it, all that are known are listed", show_default=False
    ),
    out: Path | None = typer.Option(
        None, help="the folder; default: CYTOLENS_DATA or the cache of the user", metavar="FOLDER"
    ),
    licence_read: bool = typer.Option(
        False,
        "--licence-read",
        help="you have read the licence of data whose licence could not be verified",
    ),
) -> None:
    """Fetch public data by NAME: checked, resumed, with their licence and citation.

    This is the one verb that uses the network.
    """
    from cytolens.study.fetching import fetch as run
    from cytolens.study.public_data import CATALOGUE

    if name is None:
        width = max(map(len, CATALOGUE))
        for known, about in CATALOGUE.items():
            terms = about.licence or "licence not verified"
            terms = f"not fetched: {terms}" if about.refused else terms
            terminal.print_line(f"{known:{width}}  {about.title} ({terms})")
        return
    with terminal.announce(f"fetching {name}") as progress:
        fetched = run(name, out=out, licence_read=licence_read, progress=progress)
    about = fetched.about
    terminal.print_line(str(fetched.folder))
    terminal.print_line(f"licence: {about.licence or 'as you have read it'}")
    terminal.print_line(f"cite: {about.citation}")
    for unchecked in fetched.unchecked:
        terminal.print_remark(
            f"no checksum of {unchecked} is known beforehand; that of what came is in fetched.json"
        )
    terminal.print_line(f"study them there: {about.use}")
