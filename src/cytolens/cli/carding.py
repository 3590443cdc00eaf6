"""The verb that drafts a model card."""

from pathlib import Path

import typer

from cytolens.cli import terminal


def add_verbs(app: typer.Typer) -> None:
    """Add ``card`` to the application."""
    app.command("card")(card)


def card(
    data: Path | None = typer.Argument(
        None, help="cells that the network is for; they say what it does not", metavar="[DATA]"
    ),
    model: str = typer.Option(
        help="your network: file.py:function, package.module:function, timm:NAME or hf:REPO; it is "
        "made, so its code is run"
    ),
    weights: Path | None = typer.Option(None, help="its weights, .safetensors or a state dict .pt"),
    allow_pickle: bool = typer.Option(
        False, "--allow-pickle", help="unpickle the weights file, which can run any code"
    ),
    out: Path = typer.Option(
        Path("model_card.json"), help="the card to write, .json or .yaml", metavar="CARD"
    ),
) -> None:
    """Draft a model card: a small file for --model that says what a network takes and gives."""
    from cytolens.classifier.card import card_text, is_yaml
    from cytolens.classifier.card_draft import draft_card
    from cytolens.classifier.factories import is_card
    from cytolens.errors import InputError, SettingError
    from cytolens.images.reading import read_cells
    from cytolens.store.files import write_bytes

    if not is_card(str(out)):
        raise SettingError(f"--out '{out}': a model card ends in .json, .yaml or .yml")
    if is_card(model):
        raise SettingError(f"--model '{model}' is a card already; name the network itself")
    if out.exists():
        raise InputError(f"'{out}' exists already; give another --out, or remove it")
    cells = None if data is None else read_cells(data)
    drafted, left = draft_card(
        model,
        None if weights is None else str(weights),
        cells,
        beside=out.parent,
        allow_pickle=allow_pickle,
    )
    write_bytes(out, card_text(drafted, yaml=is_yaml(out)).encode())
    terminal.print_line(str(out))
    for remark in left:
        terminal.print_remark(remark)
