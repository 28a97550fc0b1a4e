"""The answer: what the tests allow to say of each calibration set, with its worst network."""

import numpy as np
import pandas as pd
from tabulate import tabulate

from lib.common.errors import StudyError
from lib.comparison.models import KEYS, REAL, SETTING, int8_name, int8_names, means_over_models
from lib.comparison.tables import ALL_MODELS

IMAGES = {"student": "the student's images", "teacher": "the teacher's images"}
COLUMNS = ["difference_pp", "low_pp", "high_pp", "margin_pp", "real_models", "served"]
COLUMNS += ["worst", "worst_pp", "answer"]
LIMITS = (
    "**Limits.** {networks} networks, {images:,} test images, at most {seeds} seeds a set. Tests "
    "and intervals speak of other test images for these networks and these draws of calibration "
    "images, not of other networks or data. {real} Even without a single difference, so many "
    "images would leave one of {resolution:.3g} points possible{few}."
)
REAL_LOSS = "With real images, INT8 loses at most {:.2f} points of FP32's accuracy ({})."


def decide(row: dict | pd.Series, confidence: float = 0.95) -> str:
    """Return `equivalent`, `worse`, `better`, `not decided` or `not measured`.

    `row` is one of `versus_real`. Equivalent: the two one-sided tests say so, and there are test
    images enough that they may (`resolution_pp` below the margin). Worse or better: the interval
    excludes 0, and so does the permutation test. Both tests are Holm's corrected ones.
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
    found = [decide(row, confidence) for _, row in rows.iterrows()]
    return rows.assign(way=int8_names(rows), answer=found)


def answers(
    degradation: pd.DataFrame, versus: pd.DataFrame, *, confidence: float = 0.95
) -> pd.DataFrame:
    """Return a row for each setting and set: means over networks, the worst one, the `answer`.

    `drop_pp`, `agreement` and `kl` are means over the `models` that the set shares with real
    images. `served` counts networks that lose at most the margin against real images, `worst`
    names the one that loses most, `worst_pp` points of accuracy (below 0: it gains). A mean hides
    no network: with one beyond the margin a set is not `equivalent`, but `worse` where that
    network's own test says so, else `not decided`; so is one that lacks half of real's networks.
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
    if 2 * row["models"] <= row["real_models"]:
        row["answer"] = "not decided"
    elif row["answer"] != "worse" and len(beyond):
        worse = any(decide(other, confidence) == "worse" for _, other in beyond.iterrows())
        row["answer"] = "worse" if worse else "not decided"
    return row


def sentence(row: pd.Series, *, confidence: float = 0.95) -> str:
    """Return the answer of a row of `answers` in a sentence."""
    images = IMAGES.get(row["calibration_set"], f"the set *{row['calibration_set']}*")
    if row["answer"] == "not measured":
        return f"With {images}, no INT8 network could be compared: not measured."
    lost = f"largest loss {row['worst_pp']:.2f} points, {row['worst']}"
    lost = lost if row["worst_pp"] > 0 else "none loses"
    gone = row["real_models"] - row["models"]
    lost += f"; {gone:.0f} not measured" if gone else ""
    return (
        f"Calibrated with {images}, INT8 networks stay within {row['margin_pp']:g} points of real "
        f"images on {row['served']:.0f} of {row['real_models']:.0f} networks ({lost}); on average "
        f"{row['difference_pp']:+.2f} points ({100 * confidence:g} % interval {row['low_pp']:+.2f} "
        f"to {row['high_pp']:+.2f}): {row['answer']}."
    )


def main_answer(table: pd.DataFrame) -> pd.Series:
    """Return the row of `answers` that the study asks for: of the student, or of the first set."""
    rows = table[table["answer"] != "reference"]
    return rows.iloc[int((rows["calibration_set"] == "student").argmax())]


def reader_table(table: pd.DataFrame, confidence: float = 0.95) -> pd.DataFrame:
    """Return rows of `answers` as a reader sees them: names of columns, rounded numbers."""
    compared = table["difference_pp"].notna()
    against = table.apply(
        "{difference_pp:+.2f} ({low_pp:+.2f} to {high_pp:+.2f})".format_map, axis=1
    )
    served = table.apply("{served:.0f} of {real_models:.0f} networks".format_map, axis=1)
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
    first = versus.iloc[0]
    real = degradation[degradation["calibration_set"] == REAL].dropna(subset="drop_pp")
    worst = real.sort_values("drop_pp")[["drop_pp", "model"]].tail(1)
    few = first["resolution_pp"] >= first["margin_pp"]
    text = LIMITS.format(
        networks=degradation["model"].nunique(),
        images=first["images"],
        seeds=degradation["seeds"].max(),
        real=REAL_LOSS.format(*worst.iloc[0]) if len(worst) else "No network by real images.",
        resolution=first["resolution_pp"],
        few=": too much to call anything equivalent" if few else "",
    )
    failed = degradation[degradation["failed"] > 0]
    lines = [
        f"- {name}, {int8_name(engine, method)}: {part['failed'].sum()} cells failed "
        f"({', '.join(part['model'].unique())}: {part['reason'].iloc[0]})"
        for (engine, method, name), part in failed.groupby(["engine", "method", "calibration_set"])
    ]
    return "\n".join([text, "", "Not measured:", "", *lines] if lines else [text])
