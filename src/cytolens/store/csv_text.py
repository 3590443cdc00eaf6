"""CSV that spreadsheets can open without running anything."""

import csv
import io
from collections.abc import Iterable, Sequence
from typing import Any


def csv_text(rows: Iterable[Sequence[Any]]) -> str:
    """Rows, the header first, as CSV; each cell by `safe_csv_cell`."""
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerows([safe_csv_cell(value) for value in row] for row in rows)
    return text.getvalue()


def safe_csv_cell(value: Any) -> Any:
    """``value``, with an apostrophe before text that a spreadsheet would run as a formula; no NaN.

    That is text that begins with ``=``, ``+``, ``-``, ``@``, a tab or a line end, unless it is a
    number. Source: OWASP, "CSV Injection".

    >>> safe_csv_cell("=1+1"), safe_csv_cell("-1.5"), safe_csv_cell(-2)
    ("'=1+1", '-1.5', -2)
    """
    if isinstance(value, float) and value != value:
        return ""
    if not isinstance(value, str) or not value.startswith(("=", "+", "-", "@", "\t", "\r", "\n")):
        return value
    try:
        float(value)
    except ValueError:
        return "'" + value
    return value
