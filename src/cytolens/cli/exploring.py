"""The verb that opens a run in the browser."""

import webbrowser
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from cytolens.cli import terminal

if TYPE_CHECKING:
    from cytolens.explorer.asking import Network
    from cytolens.explorer.of_run import RunContent


def add_verbs(app: typer.Typer) -> None:
    """Add ``explore`` to the application."""
    app.command("explore")(explore)


def explore(
    run: Path = typer.Argument(help="the folder of a finished run", metavar="RUN"),
    export: Path | None = typer.Option(
        None, help="write one HTML file to mail instead, which needs no server", metavar="FILE"
    ),
    port: int = typer.Option(8400, help="the next free one is taken where it is in use"),
    host: str = typer.Option(
        "127.0.0.1", help="this machine alone; any other address needs the token that is printed"
    ),
    trust_model: bool = typer.Option(
        False,
        "--trust-model",
        help="run the Python file that this run names as its network, when the network is asked",
    ),
    isolate: bool = typer.Option(
        True,
        help="decode what the run stores in a process of its own: a run may come from anyone",
    ),
    browser: bool = typer.Option(True, help="open the browser"),
) -> None:
    """Look around in a run: its maps, cells and channels, in the browser."""
    from cytolens.images.isolation import isolated

    with isolated(isolate):
        _explore(run, export, port, host, trust_model=trust_model, browser=browser)


def _explore(
    run: Path, export: Path | None, port: int, host: str, *, trust_model: bool, browser: bool
) -> None:
    from cytolens.explorer.asking import Network
    from cytolens.study.finished_run import open_run

    finished = open_run(run)
    network = Network.of(finished, trust_model=trust_model)
    if export is None and network.allowed:
        network.start()  # before all else: it takes longest, and has a processor of its own
    try:
        with terminal.announce("reading the run"):
            from cytolens.explorer.of_run import RunContent

            shown = RunContent(finished)
        if export is not None:
            _write(export, shown)
        else:
            _serve(shown, network, host, port, browser=browser)
    finally:
        network.stop()


def _write(export: Path, shown: "RunContent") -> None:
    from cytolens.explorer.page import write_export

    with terminal.announce("writing the page"):
        write_export(export, shown.content)
    terminal.print_line(str(export))


def _serve(shown: "RunContent", network: "Network", host: str, port: int, *, browser: bool) -> None:
    from cytolens.explorer.server import Server

    server = Server(shown, host=host, port=port, network=network)
    if server.moved:
        terminal.print_remark(f"port {port} is in use; {server.port} is taken instead")
    terminal.print_line(server.address)
    terminal.print_remark("Ctrl-C ends it")
    if browser:
        webbrowser.open(server.address)
    with suppress(KeyboardInterrupt):  # Ctrl-C is how it is meant to end
        server.run()
