"""The answer in words, computed from the tables of `lib.comparison`, so that it follows them."""

import pandas as pd

from lib.comparison import ALL_MODELS, REAL, SETTING, int8_name

VALIDATION = (
    "With every set, the drop was judged on real validation images, which are needed still."
)
CLAIMS = {
    "equivalent": "equivalent to real images within ±{margin:g} points",
    "worse": "worse than real images",
    "better": "better than real images",
    "inconclusive": "neither shown to be equivalent to real images nor to differ from them",
    "not measured": "not measured, as no cell succeeded",
}
STUDENT = {
    "equivalent": "So the student's images can replace real calibration images here.",
    "worse": "So the student's images cannot replace real calibration images here.",
    "better": "So the student's images can replace real calibration images here.",
    "inconclusive": "So it stays open whether the student's images can replace real calibration "
    "images here.",
    "not measured": "So nothing is known about the student's images.",
}
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
    "mixed": "**It depends on how one quantizes.** Calibrated with {subject}, INT8 networks "
    "compare with real images as follows",
    "not measured": "**No answer.** No INT8 network calibrated with {subject} could be compared "
    "with one calibrated with real images",
}
GOOD = {"equivalent", "better"}
WORDS = {
    frozenset({"not measured"}): "not measured",
    frozenset({"better", "not measured"}): "better than real ones",
    frozenset({*GOOD, "not measured"}): "as good as real ones",
    frozenset({"worse", "not measured"}): "worse",
    frozenset({"inconclusive", "not measured"}): "undecided",
}
"""What is said of other sets, by the claims that they may have in the settings."""


def claim(row: dict, *, margin_pp: float = 0.5, confidence: float = 0.95) -> str:
    """Classify a row of `versus_real` as one of `CLAIMS`.

    Equivalent if the two one-sided tests say so and there are enough test images that one may
    (`resolution_pp` below the margin), though the set may measurably differ by less than the
    margin; else worse or better if the interval excludes 0 and Holm's corrected permutation test
    agrees; else inconclusive.
    """
    alpha = 1 - confidence
    if not row["pairs"]:
        return "not measured"
    if row["tost_holm_p"] < alpha and row["resolution_pp"] < margin_pp:
        return "equivalent"
    if row["permutation_holm_p"] < alpha and (row["high_pp"] < 0 or row["low_pp"] > 0):
        return "worse" if row["high_pp"] < 0 else "better"
    return "inconclusive"


def verdict(
    degradation: pd.DataFrame,
    versus: pd.DataFrame,
    *,
    margin_pp: float = 0.5,
    confidence: float = 0.95,
) -> str:
    """Return Markdown: the headline, a paragraph a setting with a line for each set, the limits.

    `degradation` and `versus` come from `lib.comparison`, with the same margin and confidence.
    """
    if degradation.empty:
        return "Nothing was measured, so there is no answer."
    parts = [headline(degradation, versus, margin_pp=margin_pp, confidence=confidence)]
    pooled = _claimed(versus, margin_pp, confidence)
    for key, losses in degradation.groupby(SETTING, sort=False):
        rows = [row for row in pooled if _setting(row) == key]
        parts.append(_paragraph(key, losses, rows, margin_pp, confidence))
    return "\n\n".join([*parts, _limits(degradation, versus, margin_pp, confidence)])


def answers(
    degradation: pd.DataFrame,
    versus: pd.DataFrame,
    *,
    margin_pp: float = 0.5,
    confidence: float = 0.95,
) -> pd.DataFrame:
    """Return the headline table: a row for each setting and set, means over models, the claim."""
    keys = [*SETTING, "calibration_set"]
    columns = ["drop_pp", "agreement", "kl"]
    table = degradation.groupby(keys, sort=False)[columns].mean().reset_index()
    names = ["difference_pp", "low_pp", "high_pp", "claim"]
    rows = pd.DataFrame(_claimed(versus, margin_pp, confidence), columns=[*keys, *names])
    table = table.merge(rows.astype({key: table[key].dtype for key in keys}), how="left", on=keys)
    table.loc[table["calibration_set"] == REAL, "claim"] = "reference"
    return table


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
    rows = _claimed(versus, margin_pp, confidence)
    if not rows:
        return "**No answer.** No calibration set was compared with real images."
    sets = list(dict.fromkeys(row["calibration_set"] for row in rows))
    chosen = "student" if "student" in sets else sets[0]
    mine = [row for row in rows if row["calibration_set"] == chosen]
    measured = [row for row in mine if row["claim"] != "not measured"]
    kind = _joint({row["claim"] for row in measured})
    if kind in (*GOOD, "as good") and _fails(degradation, measured, margin_pp):
        kind = "none serves"
    answer = ANSWERS[kind].format(subject=_images(chosen), margin=margin_pp)
    numbers = "; ".join(_number(row, degradation, kind, confidence) for row in measured)
    sentences = [f"{answer}: {numbers}." if numbers else f"{answer}."]
    sentences += [_doubt(degradation, measured, kind, margin_pp)]
    sentences += _others(rows, chosen, sets, kind)
    sentences += [_agreement_loss(measured, chosen), _missing(degradation, versus)]
    sentences += [_unmeasured(mine, measured, chosen)]
    return " ".join(filter(None, sentences))


def _claimed(versus: pd.DataFrame, margin_pp: float, confidence: float) -> list[dict]:
    if versus.empty:
        return []
    rows = versus[versus["model"] == ALL_MODELS].to_dict("records")
    settings = {"margin_pp": margin_pp, "confidence": confidence}
    return [row | {"claim": claim(row, **settings)} for row in rows]


def _setting(row: dict) -> tuple:
    return tuple(row[key] for key in SETTING)


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


def _several_sizes(degradation: pd.DataFrame) -> bool:
    return degradation["calibration_size"].nunique() > 1


def _fails(degradation: pd.DataFrame, measured: list[dict], margin_pp: float) -> bool:
    """Tell whether INT8 loses more than the margin with a set, and with real images, everywhere."""
    means = degradation.groupby(["calibration_set", *SETTING])["drop_pp"].mean()
    sets = (REAL, measured[0]["calibration_set"])
    return all(means[(name, *_setting(row))] > margin_pp for row in measured for name in sets)


def _unmeasured(mine: list[dict], measured: list[dict], chosen: str) -> str:
    """Name the settings in which the chosen set was not measured, but others were."""
    names = [int8_name(row["engine"], row["method"]) for row in mine if row not in measured]
    if not names or not measured:
        return ""
    return f"With {_images(chosen)} no cell succeeded by {_listed(names)}."


def _doubt(degradation: pd.DataFrame, measured: list[dict], kind: str, margin_pp: float) -> str:
    """Say where the real images, the yardstick, do badly themselves."""
    real = degradation[degradation["calibration_set"] == REAL].groupby(SETTING)["drop_pp"].mean()
    bad = [real[_setting(row)] for row in measured if real[_setting(row)] > margin_pp]
    if not bad:
        return ""
    text = f"But INT8 loses up to {max(bad):.2f} points against FP32 with real images, too"
    return text + (": as good is not good here." if kind in (*GOOD, "as good") else ".")


def _others(rows: list[dict], chosen: str, sets: list[str], kind: str) -> list[str]:
    """Tell how each other set compares with real images in the settings, briefly."""
    others = [name for name in sets if name != chosen]
    claims = {n: {r["claim"] for r in rows if r["calibration_set"] == n} for n in others}
    good = kind in (*GOOD, "as good", "none serves")
    if others and good and all(values <= GOOD for values in claims.values()):
        return [f"The same holds for {_listed(others)}: accuracy does not tell the sets apart."]
    texts, said = [], set()
    for kinds, words in WORDS.items():
        names = [name for name, values in claims.items() if values <= kinds and name not in said]
        said |= set(names)
        if names:
            texts.append(f"{_listed(names)} {'is' if len(names) == 1 else 'are'} {words}")
    rest = [name for name in others if name not in said]
    if rest:
        texts.append(f"for {_listed(rest)} the answer depends on how one quantizes")
    return [_upper("; ".join(texts) + ".")] if texts else []


def _agreement_loss(measured: list[dict], chosen: str) -> str:
    lost = [row for row in measured if row["claim"] in GOOD and row["agreement_high_pp"] < 0]
    if not lost:
        return ""
    worst = min(row["agreement_pp"] for row in lost)
    return (
        f"Still, {_images(chosen)} change more predictions than real images do: agreement with "
        f"FP32 is lower by up to {-worst:.2f} points."
    )


def _missing(degradation: pd.DataFrame, versus: pd.DataFrame) -> str:
    """Name the settings in which nothing succeeded, with the reason."""
    texts = []
    for key, part in degradation.groupby(SETTING, sort=False):
        if part["drop_pp"].isna().all():
            reason = next(iter(part.get("reason", pd.Series(dtype=str)).replace("", None)), None)
            texts.append(f"{int8_name(*key[:2])} ({reason or 'every cell failed'})")
    return f"Not measured: {'; '.join(texts)}." if texts else ""


def _paragraph(
    key: tuple, losses: pd.DataFrame, rows: list[dict], margin_pp: float, confidence: float
) -> str:
    claims = {row["calibration_set"]: row["claim"] for row in rows}
    engine, method, size = key
    title = f"**{int8_name(engine, method)}** ({size} images)."
    sentences = [title, _real_words(losses, margin_pp), *_claim_words(claims, margin_pp)]
    sentences += [_overall_words(claims), _order_words(losses), STUDENT.get(claims.get("student"))]
    if method == "accuracy_aware":
        sentences.append(VALIDATION)
    bullets = [_bullet(row, confidence) for row in rows]
    return "\n".join([" ".join(filter(None, sentences)), "", *bullets])


def _real_words(losses: pd.DataFrame, margin_pp: float) -> str:
    real = losses[(losses["calibration_set"] == REAL) & losses["drop_pp"].notna()]
    if real.empty:
        return "No network was calibrated with real images, so there is nothing to compare with."
    mean, worst = real["drop_pp"].mean(), real.loc[real["drop_pp"].idxmax()]
    models = _count(real["model"].nunique(), "model")
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


def _claim_words(claims: dict[str, str], margin_pp: float) -> list[str]:
    texts = []
    for kind, text in CLAIMS.items():
        names = [name for name, value in claims.items() if value == kind]
        if names:
            verb = "is" if len(names) == 1 else "are"
            texts.append(_upper(f"{_listed(names)} {verb} {text.format(margin=margin_pp)}."))
    return texts


def _overall_words(claims: dict[str, str]) -> str:
    values = set(claims.values())
    if len(claims) > 1 and values == {"equivalent"}:
        return "Accuracy does not tell the sets apart, so it says little about their images."
    if claims and not values & GOOD:
        return "No set can be said to stand in for real images."
    return ""


def _order_words(losses: pd.DataFrame) -> str:
    means = losses.groupby("calibration_set", sort=False)[["drop_pp", "agreement"]].mean().dropna()
    if len(means) < 2:
        return ""
    by_agreement = means["agreement"].sort_values(ascending=False, kind="stable")
    by_accuracy = means["drop_pp"].sort_values(kind="stable")
    shares = ", ".join(f"{name} {100 * value:.2f} %" for name, value in by_agreement.items())
    same = list(by_agreement.index) == list(by_accuracy.index)
    order = "the same order as" if same else "another order than"
    return f"Agreement with FP32: {shares}; this is {order} by accuracy."


def _bullet(row: dict, confidence: float) -> str:
    kind = row["claim"]
    failed = f"; {_count(row['failed'], 'cell')} failed" if row["failed"] else ""
    if not row["pairs"]:
        return f"- {row['calibration_set']}: {kind}{failed}"
    interval = f"{100 * confidence:g} % interval {row['low_pp']:+.2f} to {row['high_pp']:+.2f}"
    agreement = f"{row['agreement_low_pp']:+.2f} to {row['agreement_high_pp']:+.2f}"
    return (
        f"- {row['calibration_set']}: {row['difference_pp']:+.2f} points against real "
        f"({interval}), agreement with FP32 {row['agreement_pp']:+.2f} points ({agreement}); "
        f"{kind}{failed}"
    )


def _limits(
    degradation: pd.DataFrame, versus: pd.DataFrame, margin_pp: float, confidence: float
) -> str:
    models, seeds = degradation["model"].nunique(), int(degradation["seeds"].max())
    text = f"**Limits.** {_count(models, 'model')}"
    if versus.empty:
        return f"{text}, {_count(seeds, 'seed')} a set at most."
    images, resolution = int(versus["images"].iloc[0]), versus["resolution_pp"].iloc[0]
    text += (
        f", {images:,} test images, {_count(seeds, 'seed')} a set at most; the "
        f"{100 * confidence:g} % intervals and tests speak of other test images for these models "
        "and these draws, not of other architectures or data. So many images without a single "
        f"difference would leave one of {resolution:.3g} points possible"
    )
    if resolution >= margin_pp:
        return f"{text}: too few to call anything equivalent within ±{margin_pp:g} points."
    return f"{text}, which is below the margin of {margin_pp:g} points."


def _upper(text: str) -> str:
    return text[:1].upper() + text[1:]


def _listed(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def _count(n: int, noun: str) -> str:
    return f"{n} {noun}" if n == 1 else f"{n} {noun}s"
