"""CSV that spreadsheets can open without running anything."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd


def csv_text(table: "pd.DataFrame") -> str:
    """A table as CSV with a header and without row names, each cell by `safe_csv_cell`."""
    numbers = table.select_dtypes(["number", "bool"]).columns
    safe = {
        name: table[name] if name in numbers else table[name].map(safe_csv_cell)
        for name in table.columns
    }
    return table.assign(**safe).rename(columns=safe_csv_cell).to_csv(index=False)


def safe_csv_cell(value: Any) -> Any:
    """``value``, with an apostrophe before text that a spreadsheet would run as a formula.

    That is text that begins with ``=``, ``+``, ``-``, ``@``, a tab or a line end, unless it is a
    number. Source: OWASP, "CSV Injection".

    >>> safe_csv_cell("=1+1"), safe_csv_cell("-1.5"), safe_csv_cell(-2)
    ("'=1+1", '-1.5', -2)
    """
    if not isinstance(value, str) or not value.startswith(("=", "+", "-", "@", "\t", "\r", "\n")):
        return value
    try:
        float(value)
    except ValueError:
        return "'" + value
    return value
