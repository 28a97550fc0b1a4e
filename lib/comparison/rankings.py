"""Orders of the calibration sets by accuracy, agreement and divergence, and how alike they are."""

import itertools

import numpy as np
import pandas as pd
from scipy.stats import kendalltau, spearmanr

from lib.comparison.models import SETTING, common_models, means_over_models
from lib.comparison.tables import int8_name
from lib.comparison.words import counted

MEASURES = {"drop_pp": "accuracy", "agreement": "agreement with FP32", "kl": "divergence"}
"""What orders the sets, by the column of `degradation_table` that holds it."""
DECIMALS = 6
"""Shares of images and divergences that differ by less, as rounding makes them, count as equal."""
LOW_IS_GOOD = {"drop_pp": True, "agreement": False, "kl": True}


def rank_sets(degradation: pd.DataFrame) -> pd.DataFrame:
    """Return means over models by setting and set, with the set's rank (1 is best) by each.

    `degradation` comes from `lib.comparison.tables.degradation_table`. Means and ranks are over the
    `common_models` of a setting, `models` many; a set that was not measured over all of them is
    left out. Equal sets share the mean of their ranks.
    """
    means = means_over_models(degradation, list(MEASURES), common_models)
    means[list(MEASURES)] = means[list(MEASURES)].round(DECIMALS)
    means = means[means["complete"]].drop(columns="complete").reset_index(drop=True)
    for column in MEASURES:
        groups = means.groupby(SETTING, sort=False)[column]
        means[f"rank_{column}"] = groups.rank(ascending=LOW_IS_GOOD[column])
    return means


def rank_correlations(ranks: pd.DataFrame) -> pd.DataFrame:
    """Return Kendall's tau-b and Spearman's rho between each two orders of `rank_sets`.

    A row for each setting and pair of measures, with the number of `sets`. NaN where there are
    fewer than two sets or a measure does not tell any apart.
    """
    rows = []
    for key, part in ranks.groupby(SETTING, sort=False):
        for first, second in itertools.combinations(MEASURES, 2):
            row = dict(zip(SETTING, key, strict=True)) | {"first": first, "second": second}
            rows.append(row | correlations(part[f"rank_{first}"], part[f"rank_{second}"]))
    return pd.DataFrame(rows, columns=[*SETTING, "first", "second", "sets", "kendall", "spearman"])


def correlations(first: pd.Series, second: pd.Series) -> dict[str, float]:
    """Return `sets`, the number of pairs without NaN, and both rank correlations of them."""
    known = np.isfinite(first.to_numpy(float)) & np.isfinite(second.to_numpy(float))
    first, second = first.to_numpy(float)[known], second.to_numpy(float)[known]
    result = {"sets": int(known.sum()), "kendall": float("nan"), "spearman": float("nan")}
    if len(first) > 1 and np.ptp(first) > 0 and np.ptp(second) > 0:
        result["kendall"] = float(kendalltau(first, second).statistic)
        result["spearman"] = float(spearmanr(first, second).statistic)
    return result


def ranking_words(ranks: pd.DataFrame, related: pd.DataFrame) -> str:
    """Return a line of Markdown a setting: the orders, and whether they agree."""
    lines = []
    for key, part in ranks.groupby(SETTING, sort=False):
        orders = {
            words: " › ".join(_order(part, column))
            for column, words in MEASURES.items()
            if part[column].notna().any()
        }
        same = (related[SETTING] == list(key)).all(axis=1) & (related["first"] == "drop_pp")
        taus = related[same].set_index("second")["kendall"]
        texts = "; ".join(f"by {words}: {order}" for words, order in orders.items())
        over = counted(int(part["models"].iloc[0]), "model")
        lines.append(f"- {int8_name(*key[:2])}, over {over}: {texts}. {_alike(taus)}")
    return "\n".join(lines) or "No order: no set was measured."


def _order(part: pd.DataFrame, column: str) -> list[str]:
    """Name the sets from best to worst; equal ones stand together."""
    tied = part.dropna(subset=[column]).groupby(f"rank_{column}")["calibration_set"]
    return [" = ".join(names) for _, names in tied]


def _alike(taus: pd.Series) -> str:
    known = taus.dropna()
    if known.empty:
        return "No order to compare: too few sets, or all alike."
    texts = [f"{MEASURES[second]} {tau:+.2f}" for second, tau in known.items()]
    word = "the same order" if (known > 0.999).all() else "not the same order"
    return f"Kendall's tau of the order by accuracy with {', '.join(texts)}: {word}."
