"""Comparison of the calibration sets: tables with intervals and tests, and a verdict in words.

All differences are paired on the test images and pooled image by image over seeds (and models),
so that the intervals speak of new test images, for these models and these draws of the sets.
"""

from collections.abc import Iterable

import numpy as np
import pandas as pd

from lib.cell import CELL_KEYS, reference_cell
from lib.errors import StudyError
from lib.grid import cell_name
from lib.statistics import bootstrap_interval, holm, mcnemar_test, tost_test

REAL, ALL_MODELS = "real", "all"
SETTING = ["engine", "method", "calibration_size"]
Predictions = dict[str, np.ndarray]
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


def degradation_table(
    table: pd.DataFrame,
    predictions: Predictions,
    labels: np.ndarray,
    *,
    confidence: float = 0.95,
    resamples: int = 10_000,
    seed: int = 0,
) -> pd.DataFrame:
    """Return what INT8 loses against FP32, a row for each model, setting and calibration set.

    `drop_pp` is the loss of top-1 accuracy in percentage points, a mean over the seeds that
    succeeded, `low_pp` and `high_pp` its bootstrap interval over test images, `seed_std_pp` the
    standard deviation between seeds. `agreement` (share of images with FP32's class) and `kl`
    (nats) are means, too. Failed cells count in `failed`; a row of which all failed holds NaN.
    """
    rows = []
    for key, group in _int8(table).groupby(["model", *SETTING, "calibration_set"], sort=False):
        ok = group[group["status"] == "ok"]
        reference = cell_name(reference_cell(key[0]))
        gains = [_gain(predictions, labels, reference, cell_name(cell)) for cell in _cells(ok)]
        row = dict(zip(["model", *SETTING, "calibration_set"], key, strict=True))
        row |= {"seeds": len(ok), "failed": len(group) - len(ok)}
        row |= ok[["fp32_accuracy", "accuracy"]].mean().to_dict()
        row |= _interval(gains, "drop_pp", "low_pp", "high_pp", confidence, resamples, seed)
        row["seed_std_pp"] = ok["drop_pp"].std() if len(ok) > 1 else float("nan")
        rows.append(row | ok[["agreement", "kl"]].mean().to_dict())
    return pd.DataFrame(rows)


def versus_real(
    table: pd.DataFrame,
    predictions: Predictions,
    labels: np.ndarray,
    *,
    margin_pp: float = 0.5,
    confidence: float = 0.95,
    resamples: int = 10_000,
    seed: int = 0,
) -> pd.DataFrame:
    """Compare each calibration set with the real one, model by model and (`all`) pooled.

    `difference_pp` is accuracy with the set less accuracy with real images, in percentage points,
    with its bootstrap interval; cells are paired by model, setting and seed. `tost_p` tests
    equivalence within ±`margin_pp`; `mcnemar_p` tests for any difference; `tost_holm_p` and
    `holm_p` correct the two among the pooled rows and among the others. `agreement_pp` and its
    interval compare the agreement with FP32 in the same way.
    """
    rows = []
    int8 = _int8(table)
    for key, group in int8.groupby([*SETTING, "calibration_set"], sort=False):
        if key[-1] == REAL:
            continue
        for model in [ALL_MODELS, *int8["model"].unique()]:
            chosen = group if model == ALL_MODELS else group[group["model"] == model]
            pairs = list(_pairs(chosen, int8))
            row = dict(zip([*SETTING, "calibration_set"], key, strict=True)) | {"model": model}
            row |= {"pairs": len(pairs), "failed": len(chosen) - len(pairs)}
            accuracy = [_gain(predictions, labels, name, real) for name, real in pairs]
            agreement = [
                _gain(predictions, predictions[_fp32_of(name)], name, real) for name, real in pairs
            ]
            names = ("difference_pp", "low_pp", "high_pp")
            row |= _interval(accuracy, *names, confidence, resamples, seed)
            row |= _tests(accuracy, margin_pp)
            names = ("agreement_pp", "agreement_low_pp", "agreement_high_pp")
            rows.append(row | _interval(agreement, *names, confidence, resamples, seed))
    return _with_holm(pd.DataFrame(rows))


def verdict(
    degradation: pd.DataFrame,
    versus: pd.DataFrame,
    *,
    margin_pp: float = 0.5,
    confidence: float = 0.95,
) -> str:
    """Return Markdown that says which calibration sets can stand in for real images.

    One paragraph for each setting in `degradation_table`, decided by the pooled rows of
    `versus_real`, each of which `claim` classifies.
    """
    parts = []
    for key, losses in degradation.groupby(SETTING, sort=False):
        rows = []
        if len(versus):
            same = (versus[SETTING] == list(key)).all(axis=1) & (versus["model"] == ALL_MODELS)
            rows = versus[same].to_dict("records")
        parts.append(_paragraph(key, losses, rows, margin_pp, confidence))
    return "\n\n".join(parts) or "Nothing was measured, so there is no answer."


def claim(row: dict, *, confidence: float = 0.95) -> str:
    """Classify a row of `versus_real` as one of `CLAIMS`.

    Equivalent if the two one-sided tests say so, though the set may measurably differ by less
    than the margin; else worse or better if the interval excludes 0 and Holm's corrected test
    agrees; else inconclusive.
    """
    alpha = 1 - confidence
    if not row["pairs"]:
        return "not measured"
    if row["tost_holm_p"] < alpha:
        return "equivalent"
    if row["holm_p"] < alpha and (row["high_pp"] < 0 or row["low_pp"] > 0):
        return "worse" if row["high_pp"] < 0 else "better"
    return "inconclusive"


def _paragraph(
    key: tuple, losses: pd.DataFrame, rows: list[dict], margin_pp: float, confidence: float
) -> str:
    claims = {row["calibration_set"]: claim(row, confidence=confidence) for row in rows}
    engine, method, size = key
    title = f"**{_upper(method.replace('_', '-'))} quantization** ({engine}, {size} images)."
    sentences = [title, _real_words(losses, margin_pp), *_claim_words(claims, margin_pp)]
    sentences += [_overall_words(claims), _order_words(losses), STUDENT.get(claims.get("student"))]
    if method == "accuracy_aware":
        sentences.append(VALIDATION)
    bullets = [_bullet(row, claims[row["calibration_set"]], confidence) for row in rows]
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
    if claims and not values & {"equivalent", "better"}:
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


def _bullet(row: dict, kind: str, confidence: float) -> str:
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


def _upper(text: str) -> str:
    return text[:1].upper() + text[1:]


def _listed(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def _count(n: int, noun: str) -> str:
    return f"{n} {noun}" if n == 1 else f"{n} {noun}s"


def _int8(table: pd.DataFrame) -> pd.DataFrame:
    return table[table["method"] != "fp32"]


def _cells(rows: pd.DataFrame) -> Iterable[dict]:
    return rows[list(CELL_KEYS)].to_dict("records")


def _pairs(rows: pd.DataFrame, table: pd.DataFrame) -> Iterable[tuple[str, str]]:
    """Yield the names of cells and of their counterparts with real images, where both are ok."""
    ok = {cell_name(cell) for cell in _cells(table[table["status"] == "ok"])}
    for cell in _cells(rows):
        name, real = cell_name(cell), cell_name(cell | {"calibration_set": REAL})
        if name in ok and real in ok:
            yield name, real


def _fp32_of(name: str) -> str:
    return cell_name(reference_cell(name.split("/")[0]))


def _gain(predictions: Predictions, truth: np.ndarray, first: str, second: str) -> np.ndarray:
    """Return by image 1 where only `first` meets `truth`, -1 where only `second` does, else 0."""
    try:
        hits = [predictions[name] == truth for name in (first, second)]
    except KeyError as error:
        raise StudyError(f"predictions of {error} are missing: run quantization again") from error
    return hits[0].astype(np.int64) - hits[1].astype(np.int64)


def _pooled(gains: list[np.ndarray]) -> np.ndarray:
    return np.sum(gains, axis=0) / len(gains)  # whole numbers are summed: equal means stay equal


def _interval(gains, mean, low, high, confidence, resamples, seed) -> dict[str, float]:
    """Return the pooled mean and its interval in percentage points under the given names."""
    if not gains:
        return dict.fromkeys((mean, low, high), float("nan"))
    pooled = 100 * _pooled(gains)
    bounds = bootstrap_interval(pooled, confidence=confidence, resamples=resamples, seed=seed)
    return {mean: float(pooled.mean())} | dict(zip((low, high), bounds, strict=True))


def _tests(gains: list[np.ndarray], margin_pp: float) -> dict[str, float]:
    if not gains:
        return {"tost_p": float("nan"), "mcnemar_p": float("nan")}
    pooled = _pooled(gains)
    return {"tost_p": tost_test(100 * pooled, margin_pp), "mcnemar_p": mcnemar_test(pooled)}


def _with_holm(table: pd.DataFrame) -> pd.DataFrame:
    if table.empty:
        return table
    table[["tost_holm_p", "holm_p"]] = float("nan")
    pooled = table["model"] == ALL_MODELS
    for family in (pooled, ~pooled):
        tested = family & table["mcnemar_p"].notna()
        for corrected, p in (("tost_holm_p", "tost_p"), ("holm_p", "mcnemar_p")):
            table.loc[tested, corrected] = holm(table.loc[tested, p].to_numpy())
    return table
