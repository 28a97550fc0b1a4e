"""Which factor matters: analysis of variance of the results table.

The shares describe this grid's INT8 cells, which share models and images, so that there are no
p-values here; `lib.comparison.tables` has the tests.
"""

import warnings

import numpy as np
import pandas as pd
import statsmodels.formula.api as smf
from statsmodels.tools.sm_exceptions import SingularMatrixWarning

from lib.calibration.kinds import KINDS

NAMES = ("calibration_set", "calibration_size", "model", "engine", "method")
FACTORS = {name: name.replace("_", " ") for name in NAMES}
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

    Analysis of variance with sums of squares of type II and the two-way interactions of the
    calibration set, over the combinations that the grid has. `eta_sq` is the factor's share of the
    total sum of squares; in an unbalanced grid shares overlap. `omega_sq` takes away what a factor
    of as many levels explains by chance (Hays 1963; not below 0). Seeds are what differs between
    cells alike in all else. A factor of one level, or one that others determine, has NaN and a
    `note`; so has everything where nothing varies.
    """
    levels = {factor: cells[factor].nunique() for factor in FACTORS}
    notes = _left_out(cells)
    varied = [factor for factor in FACTORS if factor not in notes]
    if len(cells) > 1 and np.ptp(cells[response].to_numpy(float)) == 0:
        notes |= dict.fromkeys(varied, "nothing varies")
    elif len(cells) < 3 or len(cells) <= 1 + sum(levels[factor] - 1 for factor in varied):
        notes |= dict.fromkeys(varied, "too few cells")
    shares = _shares(cells, response, varied) if len(notes) < len(FACTORS) else []
    without = [{"factor": FACTORS[f], "levels": levels[f], "note": notes[f]} for f in notes]
    return pd.DataFrame([*shares, *without], columns=COLUMNS)


def _left_out(cells: pd.DataFrame) -> dict[str, str]:
    """Return the factors whose effect cannot be estimated, with the reason."""
    notes = {f: "one level, nothing to compare" for f in FACTORS if cells[f].nunique() < 2}
    for factor in [f for f in FACTORS if f not in notes]:
        for other in [f for f in FACTORS if f not in notes and f != factor]:
            if cells.groupby(other)[factor].nunique().max() == 1:
                notes[factor] = f"goes with {FACTORS[other]}, not to be told apart"
                break
    return notes


def _residual(cells: pd.DataFrame, response: str, terms: list[tuple]) -> tuple[float, float]:
    """Return the residual sum of squares of a linear model and its degrees of freedom.

    Combinations without cells leave columns of zeros, which do not count in its rank.
    """
    parts = [":".join(f"C({factor})" for factor in term) for term in terms]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SingularMatrixWarning)
        fit = smf.ols(f"{response} ~ {' + '.join(['1', *parts])}", cells).fit()
    return float(fit.ssr), float(fit.df_resid)


def _shares(cells: pd.DataFrame, response: str, varied: list[str]) -> list[dict]:
    """Return a row for each term, the largest first, and those of seeds and of the rest.

    A term's sum of squares is what it adds to all others but its own interactions.
    """
    terms: list[tuple[str, ...]] = [(factor,) for factor in varied]
    for other in varied[1:] if varied[0] == "calibration_set" else []:
        pair = ("calibration_set", other)
        before, after = (_residual(cells, response, t) for t in (terms, [*terms, pair]))
        terms += [pair] if before[1] > after[1] > 0 else []  # cells enough for the interaction
    rest, free = _residual(cells, response, terms)
    noise = rest / free if free > 0 else float("nan")
    total, rows = _squares(cells[response]), []
    for term in terms:
        others = [other for other in terms if not set(term) <= set(other)]
        without, most = _residual(cells, response, others)
        left, least = _residual(cells, response, [*others, term])
        squares, df = max(0.0, without - left), most - least
        row = {"factor": " × ".join(FACTORS[factor] for factor in term)}
        row |= {"levels": len(cells[list(term)].drop_duplicates()), "df": df, "sum_sq": squares}
        omega = (squares - df * noise) / (total + noise)  # NaN where nothing is left over
        rows.append(row | {"omega_sq": float(np.maximum(0.0, omega))})
    rows.sort(key=lambda row: -row["sum_sq"])
    alike = cells.groupby(list(FACTORS))[response]
    seeds, df = float(alike.apply(_squares).sum()), len(cells) - alike.ngroups
    rows.append({"factor": SEEDS, "df": df, "sum_sq": seeds})
    rows.append({"factor": REST, "df": free - df, "sum_sq": max(0.0, rest - seeds)})
    return [row | {"eta_sq": row["sum_sq"] / total, "note": ""} for row in rows]


def _squares(values: pd.Series) -> float:
    return float(((values - values.mean()) ** 2).sum())
