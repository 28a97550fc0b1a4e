"""Put a profile's results into README.md: a sentence, a figure, one row per calibration set."""

import re
from pathlib import Path

import pandas as pd

from lib.common.errors import StudyError
from lib.common.files import ROOT, atomic_path, read_json, write_text
from lib.comparison.answer import answers, main_answer, markdown, reader_table, sentence
from lib.comparison.figures import set_figure
from lib.comparison.models import int8_name

README = ROOT / "README.md"
FOLDER = ROOT / "outputs" / "cifar10-local"
"""The profile whose results README shows."""
MARKS = re.compile(r"(?<=<!-- results -->\n).*?(?=<!-- /results -->)", re.DOTALL)
FIGURE = "06_answer"
ALT = (
    "One row per calibration set, one dot per network: INT8 top-1 accuracy less that with real "
    "images, in percentage points, with the interval of the mean and the margin of equivalence; "
    "controls and sets far off have an axis of their own"
)
NOTES = (
    "{way}. *Loss* is FP32's top-1 accuracy less INT8's, a mean over networks and seeds; *against "
    "real* is accuracy less that of calibration with real images. A set *serves* a network that "
    "loses at most {margin:g} points against real images; it is *equivalent* if it serves all and "
    "the tests show its mean within ±{margin:g} points. All numbers: [`{tables}`]({tables})."
)


def write_results(folder: Path = FOLDER, readme: Path = README) -> None:
    """Write the results of the profile in `folder` between README's marks.

    Its figure is drawn anew. README without its marks, or a profile without its tables, is a
    `StudyError`.
    """
    text, block = readme.read_text(encoding="utf-8"), results_block(folder)
    if not MARKS.search(text):
        raise StudyError(f"{readme} has lost <!-- results --> and <!-- /results -->: put them back")
    path = folder / "figures" / f"{FIGURE}.png"
    _, main, _ = _answer(folder)
    figure = set_figure(_table(folder, "06_versus_real"), main["engine"], main["method"])
    with atomic_path(path) as temporary:
        figure.savefig(temporary, format="png", dpi=100, metadata={"Software": None})
    write_text(readme, MARKS.sub(lambda _: f"{block}\n", text, count=1))


def results_block(folder: Path) -> str:
    """Return Markdown computed from `tables/06_*.csv` and the manifest of a profile alone."""
    table, main, level = _answer(folder)
    rows = table[(table["engine"] == main["engine"]) & (table["method"] == main["method"])]
    place, way = f"outputs/{folder.name}", int8_name(main["engine"], main["method"])
    parts = [
        f"**{_table(folder, '06_data')['data'].iloc[0]}:** {sentence(main, **level)}",
        f"![{ALT}]({place}/figures/{FIGURE}.png)",
        markdown(reader_table(rows, **level)),
        NOTES.format(way=way, margin=main["margin_pp"], tables=f"{place}/tables"),
    ]
    return "\n\n".join(parts)


def _answer(folder: Path) -> tuple[pd.DataFrame, pd.Series, dict[str, float]]:
    """Return `answers`, the main row and the confidence of a profile."""
    parameters = read_json(folder / "manifest.json")["parameters"]
    level = {"confidence": parameters["comparison_confidence"]}
    tables = (_table(folder, name) for name in ("06_degradation", "06_versus_real"))
    table = answers(*tables, **level)
    return table, main_answer(table), level


def _table(folder: Path, name: str) -> pd.DataFrame:
    path = folder / "tables" / f"{name}.csv"
    if not path.is_file():
        raise StudyError(f"{path} is missing: run notebook 06 of the profile")
    return pd.read_csv(path)
