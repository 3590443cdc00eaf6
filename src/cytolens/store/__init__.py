"""The run folder: the only place of the project that reads and writes results."""

from cytolens.store.anndata_table import to_anndata
from cytolens.store.cell_table import CellTable
from cytolens.store.encoding import decode, encode
from cytolens.store.exports import FORMATS, write_export
from cytolens.store.files import (
    write_bytes,
    write_json,
    write_simulation,
    write_text,
)
from cytolens.store.run_folder import FORMAT, RunFolder, open_run

__all__ = [
    "CellTable",
    "FORMAT",
    "FORMATS",
    "RunFolder",
    "decode",
    "encode",
    "open_run",
    "to_anndata",
    "write_bytes",
    "write_export",
    "write_json",
    "write_simulation",
    "write_text",
]
