"""Which factor matters: analysis of variance of the results table.

The observations are the grid's INT8 cells. The shares describe this grid: cells that share a
model or a set share its images, so no p-values are given here; `lib.comparison.tables` has the
tests.
"""

import itertools
import warnings

import numpy as np
import pandas as pd
import statsmodels.formula.api as smf
from statsmodels.tools.sm_exceptions import SingularMatrixWarning

from lib.calibration.kinds import KINDS

FACTORS = {
    "calibration_set": "calibration set",
    "calibration_size": "calibration size",
    "model": "model",
    "engine": "engine",
    "method": "method",
}
RESPONSES = {"drop_pp": "loss of accuracy", "agreement_pp": "agreement with FP32"}
"""What is explained, in percentage points, by its column in `usable_cells`."""
SEEDS, REST = "seed (other images of the same set)", "rest (higher interactions)"
COLUMNS = ["factor", "levels", "df", "sum_sq", "eta_sq", "omega_sq", "note"]


def usable_cells(table: pd.DataFrame, *, controls: bool = True) -> pd.DataFrame:
    """Return the INT8 cells that succeeded, without control sets unless `controls`."""
    cells = table[(table["method"] != "fp32") & (table["status"] == "ok")]
    cells = cells.assign(agreement_pp=100 * cells["agreement"])
    left_out = [] if controls else [kind.name for kind in KINDS.values() if kind.control]
    return cells[~cells["calibration_set"].isin(left_out)]


def effect_sizes(cells: pd.DataFrame, response: str = "drop_pp") -> pd.DataFrame:
    """Return the share of the variance of `response` that goes with each factor.

    Analysis of variance with sums of squares of type II, with the two-way interactions of the
    calibration set: that with the method is what accuracy-aware quantization does for bad sets
    alone. Combinations that the grid lacks do not count: an interaction's sum of squares is what
    it explains, over those that there are, beyond its factors. `eta_sq` is the factor's sum of
    squares over the total; where the grid is unbalanced, shares overlap and need not add up to 1.
    `omega_sq` takes away what a factor of as many levels explains by chance (Hays 1963; not below
    0). A seed draws other images for each set, so that seeds are what differs between cells alike
    in all else. A factor of one level, or one that others determine, has NaN and a `note`; so has
    everything where nothing varies.
    """
    levels = {factor: cells[factor].nunique() for factor in FACTORS}
    reasons = _left_out(cells)
    varied = [factor for factor in FACTORS if factor not in reasons]
    values = cells[response].to_numpy(float)
    if len(values) > 1 and np.ptp(values) == 0:
        reasons |= dict.fromkeys(varied, "nothing varies")
    elif len(cells) < 3 or len(cells) <= 1 + sum(levels[factor] - 1 for factor in varied):
        reasons |= dict.fromkeys(varied, "too few cells")
    rows = [{"factor": FACTORS[f], "levels": levels[f], "note": reasons[f]} for f in reasons]
    if len(reasons) == len(FACTORS):
        return pd.DataFrame(rows, columns=COLUMNS)
    shares = _shares(cells, response, _estimable(cells, response, varied))
    return pd.DataFrame([*shares, *rows], columns=COLUMNS)


def effect_words(effects: pd.DataFrame, response: str = "drop_pp") -> str:
    """Return a sentence: the factors with their shares of the variance, the largest first."""
    known = effects[effects["omega_sq"].notna()]
    if known.empty:
        notes = set(effects["note"])
        why = "there are too few cells" if "too few cells" in notes else "no factor varies"
        why = "it is the same in all cells" if "nothing varies" in notes else why
        return f"Nothing to divide of the {RESPONSES[response]}: {why}."
    known = known.sort_values("omega_sq", ascending=False, kind="stable")
    texts = [f"{row.factor} {100 * row.omega_sq:.0f} %" for row in known.itertuples()]
    return f"Variance of the {RESPONSES[response]} (ω²): {', '.join(texts)}."


def _left_out(cells: pd.DataFrame) -> dict[str, str]:
    """Return the factors whose effect cannot be told, with the reason."""
    reasons = {f: "one level, nothing to compare" for f in FACTORS if cells[f].nunique() < 2}
    for factor in [f for f in FACTORS if f not in reasons]:
        for other in [f for f in FACTORS if f not in reasons and f != factor]:
            if cells.groupby(other)[factor].nunique().max() == 1:
                reasons[factor] = f"goes with {FACTORS[other]}, not to be told apart"
                break
    return reasons


def _estimable(cells: pd.DataFrame, response: str, varied: list[str]) -> list[tuple[str, ...]]:
    """Return the terms: factors, and the set's interactions for which there are cells enough."""
    terms: list[tuple[str, ...]] = [(factor,) for factor in varied]
    for first, second in itertools.combinations(varied, 2):
        if first == "calibration_set":
            before = _residual(cells, response, terms)
            after = _residual(cells, response, [*terms, (first, second)])
            terms += [(first, second)] if before[1] > after[1] > 0 else []
    return terms


def _residual(
    cells: pd.DataFrame, response: str, terms: list[tuple[str, ...]]
) -> tuple[float, float]:
    """Return the residual sum of squares of a linear model and its degrees of freedom.

    Combinations without cells leave columns of zeros, which do not count in its rank.
    """
    parts = [":".join(f"C({factor})" for factor in term) for term in terms]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SingularMatrixWarning)
        fit = smf.ols(f"{response} ~ {' + '.join(['1', *parts])}", cells).fit()
    return float(fit.ssr), float(fit.df_resid)


def _anova(
    cells: pd.DataFrame, response: str, terms: list[tuple[str, ...]]
) -> dict[tuple[str, ...], tuple[float, float]]:
    """Return the sum of squares of type II and the degrees of freedom of each term.

    They are what the term adds to all others but its own interactions.
    """
    found = {}
    for term in terms:
        others = [other for other in terms if not set(term) <= set(other)]
        without, free = _residual(cells, response, others)
        squares, left = _residual(cells, response, [*others, term])
        found[term] = (max(0.0, without - squares), free - left)
    return found


def _shares(
    cells: pd.DataFrame, response: str, terms: list[tuple[str, ...]]
) -> list[dict[str, object]]:
    """Return a row for each term, the largest first, and those of what they leave."""
    total = _squares(cells[response].to_numpy(float))
    rest, free = _residual(cells, response, terms)
    noise = rest / free if free > 0 else float("nan")
    rows = []
    for term, (squares, df) in _anova(cells, response, terms).items():
        row = {"factor": " × ".join(FACTORS[factor] for factor in term)}
        row |= {"levels": len(cells[list(term)].drop_duplicates()), "df": df}
        row |= {"sum_sq": squares, "eta_sq": squares / total}
        omega = (squares - df * noise) / (total + noise)
        row["omega_sq"] = float(np.maximum(0.0, omega))  # NaN where nothing is left over
        rows.append(row | {"note": ""})
    rows.sort(key=lambda row: -row["eta_sq"])
    return [*rows, *_remainder(cells, response, rest, free, total)]


def _remainder(
    cells: pd.DataFrame, response: str, rest: float, free: float, total: float
) -> list[dict[str, object]]:
    """Divide the residual sum of squares into that between seeds and the rest."""
    alike = cells.groupby(list(FACTORS))[response]
    seeds = float(alike.apply(lambda values: _squares(values.to_numpy(float))).sum())
    df = len(cells) - alike.ngroups
    parts = {SEEDS: (seeds, df), REST: (max(0.0, rest - seeds), free - df)}
    return [
        {"factor": name, "df": left, "sum_sq": squares, "eta_sq": squares / total, "note": ""}
        for name, (squares, left) in parts.items()
    ]


def _squares(values: np.ndarray) -> float:
    return float(((values - values.mean()) ** 2).sum())
