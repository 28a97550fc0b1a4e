"""Tables as a reader sees them: plain words for columns, no row numbers, few digits."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
from tabulate import tabulate

from lib.common.errors import StudyError

NO_MATHEMATICS = "tex2jax_ignore mathjax_ignore"  # in it, notebooks typeset no `$`
DIGITS = 3  # of the largest number in a column


@dataclass(frozen=True)
class Shown:
    """What a notebook displays: equal tables give equal outputs."""

    outputs: dict[str, str]  # by MIME type

    def _repr_mimebundle_(self, **_) -> dict[str, str]:
        return self.outputs

    def __str__(self) -> str:
        return self.outputs["text/plain"]


def show(
    table: pd.DataFrame,
    columns: Mapping[str, str] | None = None,
    formats: Mapping[str, str | Callable] | None = None,
    *,
    decimals: int | None = None,
    missing: str = "–",
    empty: str = "",
) -> Shown:
    """Prepare a table for display in a notebook.

    `columns` maps the columns to show, in this order, to what the reader reads; without it all are
    shown. A named index becomes the first columns, another is left out. `formats` maps columns to
    format strings (`"{:.1%}"`) or functions; other fractions have `decimals`, or so many that a
    column's largest number has three digits. A table without rows is the sentence `empty`, or a
    `StudyError` where there is none.
    """
    table = table.reset_index([name for name in table.index.names if name is not None])
    columns = columns or {name: str(name) for name in table}
    if unknown := [name for name in columns if name not in table]:
        raise StudyError(f"the table has no column {unknown[0]!r}: it has {', '.join(table)}")
    if table.empty:
        if not empty:
            raise StudyError(f"no rows to show ({', '.join(columns.values())}): give `empty=`")
        return Shown({"text/plain": empty, "text/markdown": empty})
    cells = {}
    for name, text in columns.items():
        form = (formats or {}).get(name) or _usual_form(table[name], decimals)
        write = form.format if isinstance(form, str) else form
        cells[text] = [missing if pd.isna(value) else str(write(value)) for value in table[name]]
    numbers = [pd.api.types.is_numeric_dtype(table[name]) for name in columns]
    align = ["right" if number else "left" for number in numbers]
    plain, html = (
        tabulate(cells, "keys", kind, colalign=align, disable_numparse=True)
        for kind in ("simple", "html")
    )
    html = html.replace("<table>", f'<table class="{NO_MATHEMATICS}">', 1)
    for tag in ("th", "td"):  # notebooks align all cells right that do not say otherwise
        html = html.replace(f"<{tag}>", f'<{tag} style="text-align: left;">')
    return Shown({"text/plain": plain, "text/html": html})


def _usual_form(column: pd.Series, decimals: int | None) -> str | Callable:
    if pd.api.types.is_bool_dtype(column):
        return {True: "yes", False: "no"}.get
    if not pd.api.types.is_numeric_dtype(column):
        return "{}"
    numbers = column.to_numpy(dtype=float, na_value=np.nan)
    numbers = numbers[np.isfinite(numbers)]
    if np.all(numbers == np.rint(numbers)):
        return "{:,.0f}"
    if decimals is None:
        decimals = max(DIGITS - 1 - int(np.floor(np.log10(np.abs(numbers).max()))), 0)
    return f"{{:,.{decimals}f}}"


def escaped(text: str) -> str:
    """Return text that Markdown shows as it is, whatever marks and formulas it holds."""
    return re.sub(r"([\\`*_{}\[\]<>$&#|~])", r"\\\1", text)
