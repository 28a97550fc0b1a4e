"""Put a profile's results into README.md: a sentence, a figure, what to calibrate with."""

import re
from pathlib import Path

import pandas as pd

from lib.common.errors import StudyError
from lib.common.files import ROOT, write_text
from lib.comparison.answer import main_answer, markdown, of_way, rule_table, sentence, whole_sets
from lib.comparison.models import MAIN, int8_name

README = ROOT / "README.md"
FOLDER = ROOT / "outputs" / "cifar10-cpu"
"""The profile whose results README shows."""
MARKS = re.compile(r"(?<=<!-- results -->\n).*?(?=<!-- /results -->)", re.DOTALL)
FIGURE = "06_answer"
ALT = (
    "One row per calibration set, one mark per network: the share of test images on which INT8 and "
    "FP32 agree, less that with real images, in percentage points, with the margin; controls and "
    "sets far off have an axis of their own"
)
NOTES = (
    "{way}, against calibration with real images. A set *serves* a network whose INT8 and FP32 "
    "forms agree as often as with other real images, within a margin of {margin:g} points or what "
    "another draw of real images changes; it *fails* beyond. What serves or fails is corrected for "
    "all sets and networks together (Holm), intervals are not; the rest is undecided. All sets and "
    "numbers: [the verdict]({tables}/verdict.md), [`{tables}`]({tables})."
)


def write_results(folder: Path = FOLDER, readme: Path = README) -> None:
    """Write the results of the profile in `folder` between README's marks.

    README without its marks, or a profile without its tables, is a `StudyError`.
    """
    text, block = readme.read_text(encoding="utf-8"), results_block(folder)
    if not MARKS.search(text):
        raise StudyError(f"{readme} has lost <!-- results --> and <!-- /results -->: put them back")
    write_text(readme, MARKS.sub(lambda _: f"{block}\n", text, count=1))


def results_block(folder: Path) -> str:
    """Return Markdown computed from `tables/06_*.csv` of a profile alone."""
    rows = whole_sets(of_way(_table(folder, "06_answers")))
    place = f"outputs/{folder.name}"
    margin = of_way(_table(folder, "06_services"))["stated_pp"].iloc[0]
    parts = [
        f"**{_table(folder, '06_data')['data'].iloc[0]}:** {sentence(main_answer(rows))}",
        f"![{ALT}]({place}/figures/{FIGURE}.png)",
        markdown(rule_table(rows)),
        NOTES.format(way=int8_name(*MAIN), margin=margin, tables=f"{place}/tables"),
    ]
    return "\n\n".join(parts)


def _table(folder: Path, name: str) -> pd.DataFrame:
    path = folder / "tables" / f"{name}.csv"
    if not path.is_file():
        raise StudyError(f"{path} is missing: run notebook 06 of the profile")
    return pd.read_csv(path)
