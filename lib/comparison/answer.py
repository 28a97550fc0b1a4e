"""The answer: what the tests allow to say of each calibration set, with its worst network."""

import numpy as np
import pandas as pd
from tabulate import tabulate

from lib.common.errors import StudyError
from lib.comparison.models import KEYS, REAL, SETTING, int8_name, int8_names, means_over_models
from lib.comparison.tables import ALL_MODELS

IMAGES = {"student": "the student's images", "teacher": "the teacher's images"}
AGAINST = "{difference_pp:+.2f} ({low_pp:+.2f} to {high_pp:+.2f})"
SERVED = "{served:.0f} of {real_models:.0f} networks"
COLUMNS = ["difference_pp", "low_pp", "high_pp", "margin_pp", "real_models", "served"]
COLUMNS += ["worst", "worst_pp", "answer"]


def decide(row: dict, confidence: float = 0.95) -> str:
    """Call a row of `versus_real` equivalent, worse, better, not decided or not measured.

    Equivalent: by the corrected one-sided tests, with test images enough (`resolution_pp`). Worse
    or better: the interval and the corrected permutation test of a row exclude 0.
    """
    if not row["pairs"]:
        return "not measured"
    if row["tost_holm_p"] < 1 - confidence and row["resolution_pp"] < row["margin_pp"]:
        return "equivalent"
    if row["permutation_holm_p"] < 1 - confidence and (row["high_pp"] < 0 or row["low_pp"] > 0):
        return "worse" if row["high_pp"] < 0 else "better"
    return "not decided"


def pooled_rows(versus: pd.DataFrame, *, confidence: float = 0.95) -> pd.DataFrame:
    """Return the rows of `versus_real` over all networks with `way` and what `decide` says."""
    rows = versus[versus["model"] == ALL_MODELS]
    found = [decide(row, confidence) for row in rows.to_dict("records")]
    return rows.assign(way=int8_names(rows), answer=found)


def answers(
    degradation: pd.DataFrame, versus: pd.DataFrame, *, confidence: float = 0.95
) -> pd.DataFrame:
    """Return a row for each setting and set: means over networks, the worst one, the `answer`.

    Means are over the `models` that the set shares with real images. `served` counts networks that
    lose at most the margin against real images; `worst` loses most, `worst_pp` points (below 0: it
    gains). A mean hides no network: with one beyond the margin a set is `worse` if that network's
    own test says so, else `not decided`; so is a set that lacks half of real's networks.
    """
    if versus.empty:
        raise StudyError("there is no calibration set beside real images: nothing to compare")
    table = means_over_models(degradation, ["drop_pp", "agreement", "kl"])
    rows = [_answer(part, confidence) for _, part in versus.groupby(KEYS, sort=False)]
    found = pd.DataFrame(rows, columns=[*KEYS, *COLUMNS])
    table = table.merge(found.astype(table[KEYS].dtypes), how="left", on=KEYS)
    table["answer"] = table["answer"].fillna("reference")
    rank = table["difference_pp"].where(table["calibration_set"] != REAL, np.inf)
    order = np.lexsort((-rank, table.groupby(SETTING, sort=False).ngroup()))
    return table.iloc[order].reset_index(drop=True)


def _answer(part: pd.DataFrame, confidence: float) -> dict:
    """Answer for the rows of `versus_real` of one setting and set."""
    row = part[part["model"] == ALL_MODELS].iloc[0].to_dict()
    single = part[(part["model"] != ALL_MODELS) & (part["pairs"] > 0)]
    beyond = single[single["difference_pp"] < -row["margin_pp"]]
    row |= {"served": len(single) - len(beyond), "answer": decide(row, confidence)}
    if row["answer"] == "not measured":
        return row
    worst = single.loc[single["difference_pp"].idxmin()]
    row |= {"worst": worst["model"], "worst_pp": -worst["difference_pp"]}
    few = 2 * row["models"] <= row["real_models"]
    if few or (row["answer"] != "worse" and len(beyond)):
        worse = "worse" in [decide(other, confidence) for other in beyond.to_dict("records")]
        row["answer"] = "worse" if worse and not few else "not decided"
    return row


def sentence(row: pd.Series, *, confidence: float = 0.95) -> str:
    """Return the answer of a row of `answers` in a sentence."""
    images = IMAGES.get(row["calibration_set"], f"the set *{row['calibration_set']}*")
    if row["answer"] == "not measured":
        return f"With {images}, no INT8 network could be compared: not measured."
    lost = f"largest loss {row['worst_pp']:.2f} points, {row['worst']}"
    lost = lost if row["worst_pp"] > 0 else "none loses"
    if row["models"] < row["real_models"]:
        lost += f"; {row['real_models'] - row['models']:.0f} not measured"
    mean, low, high = (_higher(row[name]) for name in ("difference_pp", "low_pp", "high_pp"))
    return (
        f"Calibrated with {images}, {row['served']:.0f} of {row['real_models']:.0f} INT8 networks "
        f"lose at most {row['margin_pp']:g} points against real images ({lost}); on average their "
        f"accuracy is {mean} ({100 * confidence:g} % interval: {low} to {high}): {row['answer']}."
    )


def _higher(points: float) -> str:
    if abs(points) < 0.005:
        return "the same"
    return f"{abs(points):.2f} points {'lower' if points < 0 else 'higher'}"


def main_answer(table: pd.DataFrame) -> pd.Series:
    """Return the row of `answers` that the study asks for: of the student, or of the first set."""
    rows = table[table["answer"] != "reference"]
    return rows.iloc[(rows["calibration_set"] == "student").argmax()]


def reader_table(table: pd.DataFrame, confidence: float = 0.95) -> pd.DataFrame:
    """Return rows of `answers` as a reader sees them, all texts."""
    compared = table["difference_pp"].notna()
    against, served = (table.apply(form.format_map, axis=1) for form in (AGAINST, SERVED))
    texts = {
        "calibration set": table["calibration_set"],
        "networks": table["models"].astype(str),
        "loss of top-1 (points)": table["drop_pp"].map("{:.2f}".format, na_action="ignore"),
        f"against real (points, {100 * confidence:g} %)": against.where(compared),
        "agreement with FP32": table["agreement"].mul(100).map("{:.2f} %".format, "ignore"),
        "serves": served.where(compared),
        "answer": table["answer"],
    }
    return pd.DataFrame(texts, dtype=object).fillna("")


def markdown(table: pd.DataFrame) -> str:
    """Return a table of texts as Markdown."""
    return tabulate(table, "keys", "pipe", showindex=False, disable_numparse=True)


def verdict(degradation: pd.DataFrame, versus: pd.DataFrame, *, confidence: float = 0.95) -> str:
    """Return Markdown: for each way to quantize a sentence and a table, then the limits."""
    table, parts = answers(degradation, versus, confidence=confidence), []
    for (engine, method, size), part in table.groupby(SETTING, sort=False):
        parts.append(f"## {int8_name(engine, method)}, {size} images")
        parts.append(sentence(main_answer(part), confidence=confidence))
        parts.append(markdown(reader_table(part, confidence)))
    return "\n\n".join([*parts, limits(degradation, versus)])


def limits(degradation: pd.DataFrame, versus: pd.DataFrame) -> str:
    """Say in Markdown how far the answer reaches, and what failed."""
    resolution, margin = versus[["resolution_pp", "margin_pp"]].iloc[0]
    real = degradation[degradation["calibration_set"] == REAL].dropna(subset="drop_pp")
    real = real.sort_values("drop_pp").tail(1).itertuples()
    worst = "".join(f"{row.drop_pp:.2f} points ({row.model})" for row in real) or "not measured"
    text = (
        f"**Limits.** {degradation['model'].nunique()} networks, {versus['images'].iloc[0]:,} test "
        f"images, at most {degradation['seeds'].max()} seeds per set. Tests and intervals speak of "
        "other test images for these networks and these draws of calibration images, not of other "
        f"networks or data. The most that INT8 loses against FP32 with real images: {worst}. With "
        f"so many images, a true difference of up to {resolution:.3g} points could go unseen"
        f"{': too much to call anything equivalent' if resolution >= margin else ''}."
    )
    for reason, part in degradation[degradation["failed"] > 0].groupby("reason", sort=False):
        names = part.assign(way=int8_names(part))[["way", "calibration_set", "model"]]
        where = "; ".join(", ".join(names[column].unique()) for column in names)
        text += f"\n\nNot measured: {part['failed'].sum()} cells ({where}): {reason}."
    return text
