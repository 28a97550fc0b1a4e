"""Put the results of a profile into README.md: `python -m lib.readme outputs/digits`."""

import sys
from pathlib import Path

import pandas as pd

from lib.errors import StudyError
from lib.files import read_json, write_text
from lib.paths import ROOT, resolve

START, END = "<!-- results -->", "<!-- /results -->"


def results_section(folder: Path) -> str:
    """Return Markdown with the headline table, figures and verdict of the profile in `folder`.

    Every number is one of the tables in `folder/tables`.
    """
    manifest = read_json(folder / "manifest.json")
    degradation = pd.read_csv(folder / "tables" / "06_degradation.csv")
    versus = pd.read_csv(folder / "tables" / "06_versus_real.csv")
    environment = manifest["artifacts"]["quantization"]["made_with"]
    versions = environment["versions"]
    relative = f"outputs/{folder.name}"
    parts = [
        headline_table(degradation, versus),
        f"*Loss*: FP32 less INT8 top-1 accuracy in percentage points, mean over "
        f"{degradation['model'].nunique()} classifiers and all seeds. *Against real*: accuracy "
        "with the set less that with real images, paired on the test images, with its bootstrap "
        "interval. *Agreement*: share of test images that INT8 and FP32 classify alike. Made by "
        f"`make study` with OpenVINO {versions['openvino']} and NNCF {versions['nncf']} on an "
        f"{environment['cpu']} ({', '.join(environment['cpu_flags'])}); every figure is in "
        f"[`{relative}/tables`]({relative}/tables).",
        f"![Accuracy against calibration with real images]({relative}/figures/06_versus_real.png)",
        (folder / "tables" / "verdict.md").read_text(encoding="utf-8").strip(),
        "What the calibration sets look like, and the classes of the student's images:",
        f"![Calibration sets]({relative}/figures/04_calibration_sets.png)",
        f"![The student's images]({relative}/figures/03_student_samples.png)",
    ]
    return "\n\n".join(parts)


def headline_table(degradation: pd.DataFrame, versus: pd.DataFrame) -> str:
    """Return a Markdown table, one row for each method and calibration set."""
    lines = [
        "| method | calibration set | loss (points) | against real (points) | agreement |",
        "|---|---|---|---|---|",
    ]
    pooled = versus[versus["model"] == "all"].set_index(["method", "calibration_set"])
    means = degradation.groupby(["method", "calibration_set"], sort=False)
    for key, part in means[["drop_pp", "agreement"]].mean().iterrows():
        against = "reference"
        if key in pooled.index:
            row = pooled.loc[key]
            interval = f"{row['low_pp']:+.2f} to {row['high_pp']:+.2f}"
            against = f"{row['difference_pp']:+.2f} ({interval})"
        cells = [key[0].replace("_", "-"), key[1], f"{part['drop_pp']:.2f}", against]
        lines.append(f"| {' | '.join(cells)} | {part['agreement']:.1%} |")
    return "\n".join(lines)


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
