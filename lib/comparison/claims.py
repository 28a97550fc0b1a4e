"""What the tests allow to say of each calibration set, and the table of these answers."""

import pandas as pd

from lib.comparison.models import REAL, SETTING, means_over_models
from lib.comparison.tables import ALL_MODELS

CLAIMS = {
    "equivalent": "equivalent to real images within ±{margin:g} points",
    "worse": "worse than real images",
    "better": "better than real images",
    "inconclusive": "neither shown to be equivalent to real images nor to differ from them",
    "not measured": "not measured, as no cell succeeded beside one with real images",
}
GOOD = {"equivalent", "better"}


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


def answers(
    degradation: pd.DataFrame,
    versus: pd.DataFrame,
    *,
    margin_pp: float = 0.5,
    confidence: float = 0.95,
) -> pd.DataFrame:
    """Return the headline table: a row for each setting and set, means over models, the claim.

    The means are over the `compared_models`, those that the set shares with real images; `models`
    says how many, `complete` whether real images have no other. A set compared with none was not
    measured.
    """
    keys = [*SETTING, "calibration_set"]
    table = means_over_models(degradation, ["drop_pp", "agreement", "kl"])
    names = ["difference_pp", "low_pp", "high_pp", "claim"]
    rows = pd.DataFrame(claimed(versus, margin_pp, confidence), columns=[*keys, *names])
    table = table.merge(rows.astype({key: table[key].dtype for key in keys}), how="left", on=keys)
    table.loc[table["calibration_set"] == REAL, "claim"] = "reference"
    return table


def claimed(versus: pd.DataFrame, margin_pp: float, confidence: float) -> list[dict]:
    """Return the pooled rows of `versus_real` with their `claim`."""
    if versus.empty:
        return []
    rows = versus[versus["model"] == ALL_MODELS].to_dict("records")
    settings = {"margin_pp": margin_pp, "confidence": confidence}
    return [row | {"claim": claim(row, **settings)} for row in rows]


def told(row: dict) -> str:
    """Return the claim, unless it rests on half of the models that real images have, or fewer."""
    few = row["pairs"] and 2 * row["models"] <= row["real_models"]
    return "incomplete" if few else row["claim"]


def setting_of(row: dict) -> tuple:
    """Return engine, method and calibration size of a row."""
    return tuple(row[key] for key in SETTING)
