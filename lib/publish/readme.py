"""Put the results of profiles into README.md: `python -m lib readme`.

The first profile's are the long ones, between `<!-- results -->` and `<!-- /results -->`; those of
each further profile follow, shorter, between marks with its name, under a heading of their own.
"""

import re
import sys
from itertools import zip_longest
from pathlib import Path

import pandas as pd

from lib.calibration.kinds import KINDS
from lib.common.errors import StudyError
from lib.common.files import ROOT, read_json, resolve, write_text
from lib.comparison.models import SETTING, means_over_models
from lib.comparison.models import int8_name
from lib.quantization.pot.environment import PINS

START, END = "<!-- results -->", "<!-- /results -->"
SECTION = re.compile(r"<!-- results ?(\S*) -->\n(.*?)\n<!-- /results ?\1 -->", re.DOTALL)
"""A results section: the name of its profile, "" for the first, and what stands between."""
FIGURES = {
    "06_versus_real": "Difference in accuracy to calibration with real images, a row for each "
    "calibration set, a point with its interval for each way to quantize, the zone of equivalence "
    "shaded",
    "04_calibration_sets": "The first images of each calibration set, a row a set",
    "01_teacher_samples": "Images that the teacher made, a row for each class",
    "03_student_samples": "Images that the student made, a row for each class",
}
"""The figures that README shows, with their alternative texts."""


def results_section(folder: Path) -> str:
    """Return Markdown with answer, figures, headline table and limits of the profile in `folder`.

    Written from `tables/06_*.csv`, `tables/verdict.md` and the manifest of that folder alone.
    """
    words = _words(folder)
    parts = [
        words.partition("\n\n")[0],
        _picture(folder, "06_versus_real"),
        headline_table(_with_models(folder / "tables")),
        _sets(_needed(folder, "06_headline.csv")),
        _explanation(folder, "make study"),
        words.rpartition("\n\n")[2],
        f"Each way to quantize in words: {_verdict_link(folder)}.",
        "What the calibration sets look like, and the classes of the student's images:",
        _picture(folder, "04_calibration_sets"),
        _picture(folder, "03_student_samples"),
    ]
    return "\n\n".join(parts)


def short_section(folder: Path) -> str:
    """Return Markdown with answer, figure, headline table and data of the profile in `folder`."""
    data = _data(folder)
    rest = (
        f"Data: {data['data']}, {data['train_images']:,} training and {data['test_images']:,} test "
        f"images. Each way to quantize in words, and the limits: {_verdict_link(folder)}."
    )
    parts = [
        _words(folder).partition("\n\n")[0],
        _picture(folder, "06_versus_real"),
        headline_table(_with_models(folder / "tables")),
        _sets(_needed(folder, "06_headline.csv")),
        _explanation(folder, f"make study PROFILE=params/{folder.name}.yaml"),
        rest,
        "Images of the teacher, then of the student:",
        _picture(folder, "01_teacher_samples"),
        _picture(folder, "03_student_samples"),
    ]
    return "\n\n".join(parts)


def wrong_lines(section: str, expected: str) -> list[str]:
    """Return the lines of a results section that are not those written from the tables."""
    lines = zip_longest(section.splitlines(), expected.splitlines(), fillvalue="(nothing)")
    return [f"{found} | expected: {wanted}" for found, wanted in lines if found != wanted]


def _sets(headline: Path) -> str:
    """Explain the calibration sets of a headline table, in its order."""
    names = pd.read_csv(headline)["calibration_set"].unique()
    words = (f"*{name}*: {KINDS[name].words}" for name in names if name in KINDS)
    return f"Calibration sets: {'; '.join(words)}."


def _verdict_link(folder: Path) -> str:
    path = f"outputs/{folder.name}/tables/verdict.md"
    return f"[`{path}`]({path})"


def _words(folder: Path) -> str:
    return _needed(folder, "verdict.md").read_text(encoding="utf-8").strip()


def _data(folder: Path) -> dict:
    return pd.read_csv(_needed(folder, "06_data.csv")).iloc[0].to_dict()


def _needed(folder: Path, table: str) -> Path:
    path = folder / "tables" / table
    if not path.is_file():
        raise StudyError(f"{path} is missing: run notebook 06 of the profile")
    return path


def _with_models(tables: Path) -> pd.DataFrame:
    """Return the headline table with the `models` that its means go over, and `complete`."""
    degradation = pd.read_csv(_needed(tables.parent, "06_degradation.csv"))
    counts = means_over_models(degradation, ["drop_pp"])
    keys = [*SETTING, "calibration_set"]
    table = pd.read_csv(_needed(tables.parent, "06_headline.csv"))
    table = table.drop(columns=["models", "complete"], errors="ignore")
    return table.merge(counts.drop(columns="drop_pp"), how="left", on=keys)


def headline_table(table: pd.DataFrame) -> str:
    """Return `06_headline.csv` as Markdown, a row for each way to quantize and calibration set."""
    lines = [
        "| quantization | calibration set | models | loss (points) | against real (points) "
        "| agreement | |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in table.to_dict("records"):
        against = "reference"
        if row["claim"] != "reference" and pd.notna(row["difference_pp"]):
            interval = f"({row['low_pp']:+.2f} to {row['high_pp']:+.2f})"
            against = f"{row['difference_pp']:+.2f} {interval}"
        claim = "" if row["claim"] == "reference" else str(row["claim"])
        numbers = [str(row["models"]), f"{row['drop_pp']:.2f}", against]
        numbers += [f"{100 * row['agreement']:.2f} %"]
        if pd.isna(row["drop_pp"]):
            numbers = ["", "", "", ""]
        elif not row["complete"]:
            claim += " (incomplete)"
        way = int8_name(row["engine"], row["method"]).removesuffix(" quantization")
        lines.append(f"| {' | '.join([way, row['calibration_set'], *numbers, claim])} |")
    return "\n".join(lines)


def _picture(folder: Path, name: str) -> str:
    return f"![{FIGURES[name]}](outputs/{folder.name}/figures/{name}.png)"


def _explanation(folder: Path, command: str) -> str:
    environment = read_json(folder / "manifest.json")["artifacts"]["quantization"]["made_with"]
    tables, versions = f"outputs/{folder.name}/tables", environment["versions"]
    engines = set(pd.read_csv(folder / "tables" / "06_headline.csv")["engine"])
    tools = f"OpenVINO {versions['openvino']} and NNCF {versions['nncf']}"
    if "pot" in engines:
        tools += f" (POT {PINS[0].partition('==')[2]})"
    return (
        "*Loss*: FP32 less INT8 top-1 accuracy in percentage points, mean over all seeds and "
        "*models*: so many classifiers, those quantized with this set and with real images. "
        "*Against real*: accuracy "
        "with the set less that with real images, paired on the test images, with its bootstrap "
        "interval. *Agreement*: share of test images that INT8 and FP32 classify alike. The last "
        f"column is what the tests allow to say. Made by `{command}` with {tools} on an "
        f"{environment['cpu']} "
        f"({', '.join(environment['cpu_flags'])}); every figure is in [`{tables}`]({tables}), how "
        "it was found in notebook `06_comparison`."
    )


def write_results(readme: str, folders: list[Path]) -> str:
    """Return README's text with the results of the profiles in `folders`, in their order."""
    if START not in readme or END not in readme:
        raise StudyError(f"README.md has lost its marks {START} and {END}: put them back")
    text = _between(readme, START, END, results_section(folders[0]))
    last = END
    for folder in folders[1:]:
        start, end = f"<!-- results {folder.name} -->", f"<!-- /results {folder.name} -->"
        if start not in text:
            heading = f"## The answer for {_data(folder)['data']}, profile {folder.name}"
            text = text.replace(last, f"{last}\n\n{heading}\n\n{start}\n{end}")
        text = _between(text, start, end, short_section(folder))
        last = end
    return text


def _between(text: str, start: str, end: str, section: str) -> str:
    before, _, rest = text.partition(start)
    _, found, after = rest.partition(end)
    if not found:
        raise StudyError(f"README.md has {start} without {end} after it: put it back")
    return f"{before}{start}\n{section}\n{end}{after}"


def main(*folders: str) -> None:
    """Replace the results sections of README.md."""
    if not folders:
        raise StudyError("name the folders of results: python -m lib.publish.readme outputs/digits")
    path = ROOT / "README.md"
    text = path.read_text(encoding="utf-8")
    write_text(path, write_results(text, [resolve(folder) for folder in folders]))


if __name__ == "__main__":
    main(*sys.argv[1:])
