"""The answer in one paragraph, computed from the tables of `lib.comparison.tables`."""

import pandas as pd
from pandas.api.typing import SeriesGroupBy

from lib.comparison.claims import GOOD, claimed, setting_of, told
from lib.comparison.models import REAL, SETTING, compared_models, means_over_models, measured_rows
from lib.comparison.other_sets import of_fractals, of_others
from lib.comparison.tables import int8_name
from lib.comparison.words import capitalized, counted, listed

ANSWERS = {
    "equivalent": "**Yes.** Calibrated with {subject}, INT8 networks are as accurate as with real "
    "images, within ±{margin:g} points",
    "better": "**Yes.** Calibrated with {subject}, INT8 networks are more accurate than with real "
    "images",
    "as good": "**Yes.** Calibrated with {subject}, INT8 networks are as accurate as with real "
    "images, within ±{margin:g} points, or more so",
    "worse": "**No.** Calibrated with {subject}, INT8 networks are less accurate than with real "
    "images",
    "inconclusive": "**Open.** These test images do not settle whether INT8 networks calibrated "
    "with {subject} are as accurate as with real images, within ±{margin:g} points",
    "none serves": "**No set serves.** With {subject} as with real images, INT8 loses more than "
    "{margin:g} points of accuracy",
    "mixed": "**It depends.** Calibrated with {subject}, INT8 networks compare with real images as "
    "follows",
    "incomplete": "**Open.** Too few models could be calibrated with {subject} to tell whether "
    "INT8 networks are as accurate as with real images",
    "not measured": "**No answer.** No INT8 network calibrated with {subject} could be compared "
    "with one calibrated with real images",
}


def headline(
    degradation: pd.DataFrame,
    versus: pd.DataFrame,
    *,
    margin_pp: float = 0.5,
    confidence: float = 0.95,
) -> str:
    """Return the answer in one paragraph of Markdown.

    It speaks of the student's images; where they were not compared, of the first other set.
    """
    rows = claimed(versus, margin_pp, confidence)
    if not rows:
        return "**No answer.** No calibration set was compared with real images."
    sets = list(dict.fromkeys(row["calibration_set"] for row in rows))
    chosen = "student" if "student" in sets else sets[0]
    mine = [row for row in rows if row["calibration_set"] == chosen]
    compared = [row for row in mine if row["claim"] != "not measured"]
    measured = [row for row in compared if told(row) != "incomplete"] or compared
    kind = _joint({told(row) for row in measured})
    if kind in (*GOOD, "as good") and _fails(degradation, measured, margin_pp):
        kind = "none serves"
    answer = ANSWERS[kind].format(subject=_images(chosen), margin=margin_pp)
    numbers = "; ".join(_number(row, degradation, kind, confidence) for row in measured)
    sentences = [f"{answer}: {numbers}." if numbers else f"{answer}."]
    sentences += [_models(degradation, measured), _doubt(degradation, measured, kind, margin_pp)]
    sentences += [of_others(rows, degradation, chosen, kind)]
    sentences += [_small_loss(measured, chosen, confidence), _agreement_loss(measured, chosen)]
    sentences += [of_fractals(measured, degradation, chosen)]
    sentences += [_missing(degradation)]
    sentences += [_unmeasured(mine, measured, chosen)]
    return " ".join(filter(None, sentences))


def _joint(claims: set[str]) -> str:
    if not claims:
        return "not measured"
    if len(claims) == 1:
        return next(iter(claims))
    return "as good" if claims <= GOOD else "mixed"


def _images(name: str) -> str:
    possessive = {"student": "the student's images", "teacher": "the teacher's images"}
    return possessive.get(name, f"the set *{name}*")


def _number(row: dict, degradation: pd.DataFrame, kind: str, confidence: float) -> str:
    size = f" of {row['calibration_size']} images" if _several_sizes(degradation) else ""
    said = f" ({row['claim']})" if kind in ("mixed", "as good") else ""
    interval = f"{100 * confidence:g} % interval {row['low_pp']:+.2f} to {row['high_pp']:+.2f}"
    name = int8_name(row["engine"], row["method"])
    return f"{name}{size}, {row['difference_pp']:+.2f} points ({interval}){said}"


def _models(degradation: pd.DataFrame, measured: list[dict]) -> str:
    """Say over which models the numbers go, way by way where they differ."""
    over = compared_models(measured_rows(degradation))
    over = over.groupby([*SETTING, "calibration_set"])["model"]
    ways: dict[tuple, list[str]] = {}
    for row in measured:
        models = tuple(over.get_group((*setting_of(row), row["calibration_set"])))
        ways.setdefault(models, []).append(int8_name(row["engine"], row["method"]))
    texts = [f"{counted(len(models), 'model')} ({', '.join(models)})" for models in ways]
    lacking = [_lacking(row, over) for row in measured]
    left_out = " ".join(filter(None, lacking))
    if len(ways) == 1:
        return f"These are means over {texts[0]}. {left_out}".strip()
    parts = [f"{text} by {listed(names)}" for names, text in zip(ways.values(), texts, strict=True)]
    if not parts:
        return ""
    return f"These are means over {'; over '.join(parts)}. {left_out}".strip()


def _lacking(row: dict, over: SeriesGroupBy) -> str:
    """Name the models that real images have in a setting, and the set of `row` has not."""
    key = setting_of(row)
    own = set(over.get_group((*key, row["calibration_set"])))
    gone = [model for model in over.get_group((*key, REAL)) if model not in own]
    return f"{capitalized(listed(gone))} failed by {int8_name(*key[:2])}." if gone else ""


def _several_sizes(degradation: pd.DataFrame) -> bool:
    return degradation["calibration_size"].nunique() > 1


def _fails(degradation: pd.DataFrame, measured: list[dict], margin_pp: float) -> bool:
    """Tell whether INT8 loses more than the margin in these settings with every measured set."""
    means = means_over_models(degradation, ["drop_pp"]).dropna().set_index(SETTING)["drop_pp"]
    return all((means.loc[[setting_of(row)]] > margin_pp).all() for row in measured)


def _unmeasured(mine: list[dict], measured: list[dict], chosen: str) -> str:
    """Name the settings in which the chosen set was not measured, but others were."""
    names = [int8_name(row["engine"], row["method"]) for row in mine if row not in measured]
    if not names or not measured:
        return ""
    return f"With {_images(chosen)} no cell, or too few, could be compared by {listed(names)}."


def _doubt(degradation: pd.DataFrame, measured: list[dict], kind: str, margin_pp: float) -> str:
    """Say where the real images, the yardstick, do badly themselves."""
    means = means_over_models(degradation, ["drop_pp"])
    real = means[means["calibration_set"] == REAL].set_index(SETTING)["drop_pp"]
    bad = [real[setting_of(row)] for row in measured if real[setting_of(row)] > margin_pp]
    if not bad:
        return ""
    text = f"But INT8 loses up to {max(bad):.2f} points against FP32 with real images, too"
    return text + (": as good is not good here." if kind in (*GOOD, "as good") else ".")


def _small_loss(measured: list[dict], chosen: str, confidence: float) -> str:
    """Say where an equivalent set is measurably worse, by less than the margin."""
    lost = [
        row
        for row in measured
        if row["claim"] == "equivalent"
        and row["high_pp"] < 0
        and row["permutation_holm_p"] < 1 - confidence
    ]
    if not lost:
        return ""
    names = listed([int8_name(row["engine"], row["method"]) for row in lost])
    worst = min(row["difference_pp"] for row in lost)
    return (
        f"Within that margin, {_images(chosen)} still cost accuracy, measurably so by {names}: "
        f"{-worst:.2f} points at most."
    )


def _agreement_loss(measured: list[dict], chosen: str) -> str:
    lost = [row for row in measured if row["claim"] in GOOD and row["agreement_high_pp"] < 0]
    if not lost:
        return ""
    worst = min(row["agreement_pp"] for row in lost)
    return (
        f"Still, {_images(chosen)} change more predictions than real images do: agreement with "
        f"FP32 is lower by up to {-worst:.2f} points."
    )


def _missing(degradation: pd.DataFrame) -> str:
    """Name the settings in which nothing succeeded, or nothing with real images, and why."""
    texts = []
    for key, part in degradation.groupby(SETTING, sort=False):
        real = part[part["calibration_set"] == REAL]
        for rows, what in ((part, ""), (real, " with real images")):
            if len(rows) and rows["drop_pp"].isna().all():
                reason = next((text for text in rows["reason"] if text), "every cell failed")
                texts.append(f"{int8_name(*key[:2])}{what} ({reason})")
                break
    return f"Not measured: {'; '.join(texts)}." if texts else ""
