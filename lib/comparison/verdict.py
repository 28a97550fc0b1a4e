"""The answer in words, computed from the tables of `tables`, so that it follows them."""

import pandas as pd

from lib.comparison.claims import CLAIMS, GOOD, claimed, setting_of, told
from lib.comparison.headline import headline
from lib.comparison.models import REAL, SETTING, compared_models, measured_rows
from lib.comparison.rankings import rank_sets
from lib.comparison.tables import int8_name
from lib.comparison.words import capitalized, counted, listed

VALIDATION = (
    "With every set, the drop was judged on real validation images, which are needed still."
)
STUDENT = {
    "equivalent": "So the student's images can replace real calibration images here.",
    "worse": "So the student's images cannot replace real calibration images here.",
    "better": "So the student's images can replace real calibration images here.",
    "inconclusive": "So it stays open whether the student's images can replace real calibration "
    "images here.",
    "incomplete": "So it stays open, for want of models, whether the student's images can replace "
    "real calibration images here.",
    "not measured": "So nothing is known about the student's images.",
}


def verdict(
    degradation: pd.DataFrame,
    versus: pd.DataFrame,
    *,
    margin_pp: float = 0.5,
    confidence: float = 0.95,
) -> str:
    """Return Markdown: the headline, a paragraph a setting with a line for each set, the limits.

    `degradation` and `versus` come from `lib.comparison.tables`, with the same margin and
    confidence.
    """
    if degradation.empty:
        return "Nothing was measured, so there is no answer."
    parts = [headline(degradation, versus, margin_pp=margin_pp, confidence=confidence)]
    pooled = claimed(versus, margin_pp, confidence)
    for key, losses in degradation.groupby(SETTING, sort=False):
        rows = [row for row in pooled if setting_of(row) == key]
        parts.append(_paragraph(key, losses, rows, margin_pp, confidence))
    if lines := models_words(degradation):
        parts.append(
            "**Models.** Each set is compared with real images over all models that both have."
            f"\n\n{lines}"
        )
    return "\n\n".join([*parts, _limits(degradation, versus, margin_pp, confidence)])


def _paragraph(
    key: tuple, losses: pd.DataFrame, rows: list[dict], margin_pp: float, confidence: float
) -> str:
    claims = {row["calibration_set"]: row["claim"] for row in rows}
    engine, method, size = key
    title = f"**{int8_name(engine, method)}** ({size} images)."
    sentences = [title, _real_words(losses, margin_pp), *_claim_words(rows, margin_pp)]
    sentences += [_overall_words(claims), _order_words(losses)]
    sentences += [STUDENT[told(row)] for row in rows if row["calibration_set"] == "student"]
    if method == "accuracy_aware":
        sentences.append(VALIDATION)
    bullets = [_bullet(row, confidence) for row in rows]
    return "\n".join([" ".join(filter(None, sentences)), "", *bullets])


def _real_words(losses: pd.DataFrame, margin_pp: float) -> str:
    over = compared_models(measured_rows(losses))
    real = losses[losses["calibration_set"] == REAL].merge(over)
    if real.empty:
        return "No network was calibrated with real images, so there is nothing to compare with."
    mean, worst = real["drop_pp"].mean(), real.loc[real["drop_pp"].idxmax()]
    models = counted(len(real), "model")
    text = (
        f"Calibrated with real images, INT8 {_change(mean)} on average over {models} (least well: "
        f"{worst['model']}, which {_change(worst['drop_pp'])})."
    )
    if mean > margin_pp:
        text += " That is more than the margin: here real images themselves do not serve well."
    return text


def _change(drop_pp: float) -> str:
    verb = "loses" if drop_pp >= 0 else "gains"
    return f"{verb} {abs(drop_pp):.2f} points of accuracy"


def _claim_words(rows: list[dict], margin_pp: float) -> list[str]:
    texts = []
    for kind, text in CLAIMS.items():
        names = [f"{row['calibration_set']}{_only(row)}" for row in rows if row["claim"] == kind]
        if names:
            verb = "is" if len(names) == 1 else "are"
            texts.append(capitalized(f"{listed(names)} {verb} {text.format(margin=margin_pp)}."))
    return texts


def _only(row: dict) -> str:
    """Say over how many models a set was compared that has not all of real's."""
    if row["complete"] or not row["pairs"]:
        return ""
    return f" (over {row['models']} of {counted(int(row['real_models']), 'model')})"


def _overall_words(claims: dict[str, str]) -> str:
    values = set(claims.values())
    if len(claims) > 1 and values == {"equivalent"}:
        return "Accuracy does not tell the sets apart, so it says little about their images."
    if claims and not values & GOOD:
        return "No set can be said to stand in for real images."
    return ""


def _order_words(losses: pd.DataFrame) -> str:
    ranks = rank_sets(losses)
    if len(ranks) < 2:
        return ""
    ranks = ranks.sort_values("rank_agreement", kind="stable")
    pairs = zip(ranks["calibration_set"], ranks["agreement"], strict=True)
    shares = ", ".join(f"{name} {100 * value:.2f} %" for name, value in pairs)
    same = (ranks["rank_agreement"] == ranks["rank_drop_pp"]).all()
    order = "the same order as" if same else "another order than"
    return f"Agreement with FP32: {shares}; this is {order} by accuracy."


def _bullet(row: dict, confidence: float) -> str:
    kind = row["claim"]
    failed = f"; {counted(row['failed'], 'cell')} failed" if row["failed"] else ""
    if row["unpaired"]:
        failed += f"; {counted(row['unpaired'], 'cell')} without a counterpart by real images"
    if not row["pairs"]:
        return f"- {row['calibration_set']}: {kind}{failed}"
    interval = f"{100 * confidence:g} % interval {row['low_pp']:+.2f} to {row['high_pp']:+.2f}"
    agreement = f"{row['agreement_low_pp']:+.2f} to {row['agreement_high_pp']:+.2f}"
    return (
        f"- {row['calibration_set']}: {row['difference_pp']:+.2f} points against real "
        f"({interval}), agreement with FP32 {row['agreement_pp']:+.2f} points ({agreement}); "
        f"{kind}{_only(row)}{failed}"
    )


def models_words(degradation: pd.DataFrame) -> str:
    """Say in Markdown, a line a setting, over which models its means go, which not, and why."""
    lines = []
    for key, rows in degradation.groupby(SETTING, sort=False):
        over = compared_models(measured_rows(rows))
        if len(over):
            words = [_real_models_words(degradation, rows, over), *_incomplete_words(rows, over)]
            name = f"{int8_name(*key[:2])} ({counted(key[2], 'image')})"
            lines.append(f"- {name}: {' '.join(filter(None, words))}")
    return "\n".join(lines)


def _real_models_words(degradation: pd.DataFrame, rows: pd.DataFrame, over: pd.DataFrame) -> str:
    name = REAL if (over["calibration_set"] == REAL).any() else over["calibration_set"].iloc[0]
    models = list(over.loc[over["calibration_set"] == name, "model"])
    text = f"{counted(len(models), 'model')} ({', '.join(models)})."
    gone = [model for model in degradation["model"].unique() if model not in models]
    reasons: dict[str, list[str]] = {}
    for model in gone:
        reasons.setdefault(_why_not(rows[rows["model"] == model], name), []).append(model)
    texts = [f"{listed(models)}, {reason}" for reason, models in reasons.items()]
    return f"{text} Left out: {'; '.join(texts)}." if gone else text


def _why_not(rows: pd.DataFrame, name: str) -> str:
    """Say why a model's rows hold nothing for the set `name`."""
    rows = rows[rows["calibration_set"] == name]
    if rows.empty:
        return "not quantized so"
    reason = next((text for text in rows["reason"].dropna() if text), "no cell succeeded")
    return f"not measured with {name} ({reason})"


def _incomplete_words(rows: pd.DataFrame, over: pd.DataFrame) -> list[str]:
    """Name the sets that lack models which real images have."""
    texts = []
    for name, own in rows.groupby("calibration_set", sort=False):
        mine = over[over["calibration_set"] == name]
        if own["drop_pp"].isna().all() or (len(mine) and mine["complete"].all()):
            continue
        models = list(mine["model"])
        text = f"over {listed(models)} only" if models else "not at all, since they share no model"
        reason = next((text for text in own["reason"].dropna() if text), "")
        because = f" ({reason})" if reason else ""
        texts.append(f"*{name}* is compared with real images {text}{because}.")
    return texts


def _limits(
    degradation: pd.DataFrame, versus: pd.DataFrame, margin_pp: float, confidence: float
) -> str:
    models, seeds = degradation["model"].nunique(), int(degradation["seeds"].max())
    text = f"**Limits.** {counted(models, 'model')}"
    if versus.empty:
        return f"{text}, {counted(seeds, 'seed')} a set at most."
    images, resolution = int(versus["images"].iloc[0]), versus["resolution_pp"].iloc[0]
    text += (
        f", {images:,} test images, {counted(seeds, 'seed')} a set at most; the "
        f"{100 * confidence:g} % intervals and tests speak of other test images for these models "
        "and these draws, not of other architectures or data. Where few images differ, the test of "
        "equivalence, a t-test, is approximate. So many images without a single "
        f"difference would leave one of {resolution:.3g} points possible"
    )
    if resolution >= margin_pp:
        return f"{text}: too few to call anything equivalent within ±{margin_pp:g} points."
    return f"{text}, which is below the margin of {margin_pp:g} points."
