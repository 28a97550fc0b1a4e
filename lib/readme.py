"""Put the results of a profile into README.md: `python -m lib.readme outputs/digits`."""

import re
import sys
from pathlib import Path

import numpy as np
import pandas as pd

from lib.common_models import SETTING, means_over_models
from lib.comparison import int8_name
from lib.errors import StudyError
from lib.files import read_json, write_text
from lib.paths import ROOT, resolve
from lib.pot_environment import PINS

TABLES = ("headline", "versus_real", "degradation")
START, END = "<!-- results -->", "<!-- /results -->"
FIGURES = {
    "06_versus_real": "Difference in accuracy to calibration with real images, a row for each "
    "calibration set, a point with its interval for each way to quantize, the zone of equivalence "
    "shaded",
    "04_calibration_sets": "The first images of each calibration set, a row a set",
    "03_student_samples": "Images that the student made, a row for each class",
}
"""The figures that README shows, with their alternative texts."""


def results_section(folder: Path) -> str:
    """Return Markdown with answer, figure, headline table and verdict of the profile in `folder`.

    Every number is one of the tables in `folder/tables`, up to rounding: see `unknown_numbers`.
    """
    tables = folder / "tables"
    if not (tables / "06_headline.csv").is_file():
        raise StudyError(f"{tables / '06_headline.csv'} is missing: run notebook 06 of the profile")
    made_with = read_json(folder / "manifest.json")["artifacts"]["quantization"]["made_with"]
    words = (tables / "verdict.md").read_text(encoding="utf-8").strip()
    answer, _, details = words.partition("\n\n")
    parts = [
        answer,
        _picture(folder, "06_versus_real"),
        headline_table(_with_models(tables)),
        _explanation(folder, made_with),
        details,
        "What the calibration sets look like, and the classes of the student's images:",
        _picture(folder, "04_calibration_sets"),
        _picture(folder, "03_student_samples"),
    ]
    return "\n\n".join(parts)


def _with_models(tables: Path) -> pd.DataFrame:
    """Return the headline table with the `models` that its means go over, and `complete`."""
    counts = means_over_models(pd.read_csv(tables / "06_degradation.csv"), ["drop_pp"])
    keys = [*SETTING, "calibration_set"]
    table = pd.read_csv(tables / "06_headline.csv")
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


def unknown_numbers(section: str, folder: Path) -> list[str]:
    """Return the decimal numbers of a results section that none of notebook 06's tables holds.

    A number with a sign must be a value rounded, one without its absolute value; shares of
    agreement are looked for as per cent.
    """
    tables = {name: pd.read_csv(folder / "tables" / f"06_{name}.csv") for name in TABLES}
    parts = [table.select_dtypes("number").to_numpy(float).ravel() for table in tables.values()]
    parts += [100 * tables[name]["agreement"] for name in ("headline", "degradation")]
    known = np.concatenate(parts)
    text = re.sub(r"\]\([^)]*\)|(OpenVINO|NNCF|POT) [\d.]*\d", "", section)
    found = re.findall(r"(?<![\w.])[+-]?\d+\.\d+(?![\w.]*\d)", text)
    return [number for number in found if not _is_among(number, known)]


def _is_among(number: str, known: np.ndarray) -> bool:
    half = 0.5 * 10.0 ** -len(number.partition(".")[2]) + 1e-4  # tables hold six digits
    values = known if number[0] in "+-" else np.abs(known)
    return bool((np.abs(values - float(number)) <= half).any())


def _picture(folder: Path, name: str) -> str:
    return f"![{FIGURES[name]}](outputs/{folder.name}/figures/{name}.png)"


def _explanation(folder: Path, environment: dict) -> str:
    tables, versions = f"outputs/{folder.name}/tables", environment["versions"]
    engines = set(pd.read_csv(folder / "tables" / "06_headline.csv")["engine"])
    tools = f"OpenVINO {versions['openvino']} and NNCF {versions['nncf']}"
    if "pot" in engines:
        tools += f" (POT {PINS[0].partition('==')[2]})"
    return (
        "*Loss*: FP32 less INT8 top-1 accuracy in percentage points, mean over all seeds and "
        "*models*: so many classifiers, the same for all sets of a way to quantize (but for sets "
        "marked incomplete, which have too few). *Against real*: accuracy "
        "with the set less that with real images, paired on the test images, with its bootstrap "
        "interval. *Agreement*: share of test images that INT8 and FP32 classify alike. The last "
        f"column is what the tests allow to say. Made by `make study` with {tools} on an "
        f"{environment['cpu']} "
        f"({', '.join(environment['cpu_flags'])}); every figure is in [`{tables}`]({tables}), how "
        "it was found in notebook `06_comparison`."
    )


def main(folder: str) -> None:
    """Replace the results section of README.md."""
    path = ROOT / "README.md"
    before, found, rest = path.read_text(encoding="utf-8").partition(START)
    if not found or END not in rest:
        raise StudyError(f"{path} has lost its marks {START} and {END}: put them back")
    section = results_section(resolve(folder))
    write_text(path, f"{before}{START}\n{section}\n{END}{rest.partition(END)[2]}")


if __name__ == "__main__":
    main(*sys.argv[1:])
