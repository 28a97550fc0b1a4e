"""The numbers of a post: from the tables of a profile, never typed by hand."""

import re
from pathlib import Path
from typing import Any

import pandas as pd
from jinja2 import Environment, StrictUndefined, TemplateError

from lib.classifiers.names import network_name
from lib.common.errors import StudyError
from lib.common.files import read_json, read_named
from lib.comparison.answer import markdown, of_way, rule_table
from lib.comparison.models import set_name

NOT_PROSE = re.compile(
    r"```.*?```|`[^`]*`|\{\{.*?\}\}|\{%.*?%\}|\]\([^)]*\)|^!\[\[\w+\]\]$", re.DOTALL | re.MULTILINE
)
TYPED = re.compile(r"(?<![\w-])[+-]?\d[\d.,%]*")  # INT8 and CIFAR-10 are names
SMALL = ["none", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"]


def check_typed(text: str, name: str) -> None:
    """Raise `StudyError` for the first number that stands in a post's prose itself."""
    prose = NOT_PROSE.sub(lambda found: "\n" * found[0].count("\n"), text)
    for line, content in enumerate(prose.split("\n"), 1):
        if found := TYPED.search(content):
            raise StudyError(
                f"{name}, line {line}: the number {found[0]} is typed by hand: "
                "put it in from a table, by {{ value(…) }}"
            )


def fill(text: str, folder: Path, name: str = "the post") -> str:
    """Put the numbers of the profile in `folder` into a post's text, a Jinja template.

    It knows `value(table, column, **where)`, of the one row that fits; `rows(table, **where)`;
    `answer(set)`, the row of `lib.comparison.answers` by the main way to quantize with most images;
    `rule`, the table of what to calibrate with; and the parameters `p`. What
    is unknown or ambiguous is a `StudyError`.
    """
    tables = folder / "tables"

    def rows(table: str, **where: Any) -> pd.DataFrame:
        path = tables / f"{table}.csv"
        if not path.is_file():
            raise StudyError(f"{path} is missing: run the notebook that writes it")
        found = read_named(path)
        for column, wanted in where.items():
            found = found[found[column].astype(str) == str(wanted)]
        return found

    def value(table: str, column: str, **where: Any) -> Any:
        found = rows(table, **where)
        if len(found) != 1:
            raise StudyError(f"{table} has {len(found)} rows with {where}: name one")
        return found[column].iloc[0]

    answers = of_way(rows("06_answers"))

    def answer(kind: str) -> pd.Series:
        found = answers[answers["calibration_set"] == kind]
        if found.empty:
            raise StudyError(f"06_answers has no set {kind}: name another")
        return found.sort_values("calibration_size").iloc[-1]

    environment = Environment(undefined=StrictUndefined, keep_trailing_newline=True)
    environment.filters |= {
        "percent": lambda share, digits=1: f"{100 * share:.{digits}f} %",
        "points": lambda value, digits=1: f"{value:+.{digits}f}".replace("-", "−"),
        "count": lambda n: SMALL[int(n)] if 0 <= n < len(SMALL) else f"{int(n):,}",
        "number": lambda value, digits=0: f"{value:,.{digits}f}",
        "network": network_name,
        "set": set_name,
    }
    known = {"rows": rows, "value": value, "answer": answer}
    known |= {"rule": markdown(rule_table(answers))}
    known |= {"p": read_json(folder / "manifest.json")["parameters"]}
    try:
        return environment.from_string(text).render(known)
    except (TemplateError, LookupError, AttributeError, ValueError, TypeError) as error:
        raise StudyError(f"{name}: {type(error).__name__}: {error}") from error
