"""Which factor matters: analysis of variance and a mixed-effects model of the results table.

The observations are the grid's INT8 cells. Both are descriptions of this grid: cells that share a
model or a set share its images, so no p-values are given here; `lib.comparison` has the tests.
"""

import itertools
import warnings

import numpy as np
import pandas as pd
import statsmodels.formula.api as smf
from statsmodels.stats.anova import anova_lm

from lib.comparison import CONTROLS, REAL

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
    """Return the INT8 cells that succeeded, without `CONTROLS` unless `controls`."""
    cells = table[(table["method"] != "fp32") & (table["status"] == "ok")]
    cells = cells.assign(agreement_pp=100 * cells["agreement"])
    return cells if controls else cells[~cells["calibration_set"].isin(CONTROLS)]


def effect_sizes(cells: pd.DataFrame, response: str = "drop_pp") -> pd.DataFrame:
    """Return the share of the variance of `response` that goes with each factor.

    Analysis of variance with sums of squares of type II, with the two-way interactions of the
    calibration set for which the grid has all combinations. `eta_sq` is the factor's sum of
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
    if not varied or len(values) < 3 or np.ptp(values) == 0:
        reasons |= dict.fromkeys(varied, "nothing varies")
    elif len(cells) <= 1 + sum(levels[factor] - 1 for factor in varied):
        reasons |= dict.fromkeys(varied, "too few cells")
    rows = [{"factor": FACTORS[f], "levels": levels[f], "note": reasons[f]} for f in reasons]
    if len(reasons) == len(FACTORS):
        return pd.DataFrame(rows, columns=COLUMNS)
    table = _anova(cells, response, _estimable(cells, varied))
    shares = _shares(table, values, levels)
    return pd.DataFrame([*shares, *_remainder(cells, response, table), *rows], columns=COLUMNS)


def mixed_effects(cells: pd.DataFrame, response: str = "drop_pp") -> tuple[pd.DataFrame, str]:
    """Return what each set and method adds to `response`, and a sentence on how far to trust it.

    A linear mixed-effects model (Laird & Ware 1982) by restricted maximum likelihood: fixed
    effects of calibration set (against `real`), size, method and engine; models as a random
    intercept, and model × set as a variance component. So the intervals (`low`, `high`, normal,
    95 %) speak of other models like these. The table has fixed `effect` rows and the standard
    deviations of the random ones; it is empty where there is nothing to fit.
    """
    if cells["model"].nunique() < 2 or cells["calibration_set"].nunique() < 2:
        return _no_effects(), "No mixed model: it takes two models and two sets at least."
    if REAL not in set(cells["calibration_set"]):
        return _no_effects(), "No mixed model: no cell with real images to compare with."
    if len(cells) == len(cells[["model", "calibration_set"]].drop_duplicates()):
        return _no_effects(), "No mixed model: each model meets each set but once."
    if np.ptp(cells[response].to_numpy(float)) == 0:
        return _no_effects(), "No mixed model: all cells are alike."
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            fit = _mixed_fit(cells, response)
        except (np.linalg.LinAlgError, ValueError) as error:
            return _no_effects(), f"No mixed model: it could not be fitted ({error})."
    return _effects(fit), _trust(fit, caught)


def effect_words(effects: pd.DataFrame, response: str = "drop_pp") -> str:
    """Return a sentence: the factors with their shares of the variance, the largest first."""
    known = effects[effects["omega_sq"].notna()]
    if known.empty:
        few = effects["note"].eq("too few cells").any()
        why = "there are too few cells" if few else "it is the same in all cells"
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


def _estimable(cells: pd.DataFrame, varied: list[str]) -> list[str]:
    """Return the formula's terms: factors, and the interactions of the set that are complete."""
    terms = [f"C({factor})" for factor in varied]
    for first, second in itertools.combinations(varied, 2):
        full = cells[first].nunique() * cells[second].nunique()
        found = len(cells[[first, second]].drop_duplicates())
        if first == "calibration_set" and found == full and _spare(cells, varied, full):
            terms.append(f"C({first}):C({second})")
    return terms


def _spare(cells: pd.DataFrame, varied: list[str], wanted: int) -> bool:
    """Tell whether there are more cells than an interaction and the factors have parameters."""
    return len(cells) > wanted + sum(cells[factor].nunique() for factor in varied)


def _anova(cells: pd.DataFrame, response: str, terms: list[str]) -> pd.DataFrame:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # F-tests of a perfect fit, which are not used
        fit = smf.ols(f"{response} ~ {' + '.join(terms)}", cells).fit()
        return anova_lm(fit, typ=2)


def _shares(table: pd.DataFrame, values: np.ndarray, levels: dict[str, int]) -> list[dict]:
    total = _squares(values)
    rest = table.loc["Residual"]
    noise = rest["sum_sq"] / rest["df"] if rest["df"] > 0 else float("nan")
    rows = []
    for term, line in table.drop(index="Residual").iterrows():
        parts = [part[2:-1] for part in term.split(":")]
        row = {"factor": " × ".join(FACTORS[part] for part in parts)}
        row |= {"levels": int(np.prod([levels[part] for part in parts])), "df": line["df"]}
        row |= {"sum_sq": line["sum_sq"], "eta_sq": line["sum_sq"] / total}
        omega = (line["sum_sq"] - line["df"] * noise) / (total + noise)
        row["omega_sq"] = float(np.maximum(0.0, omega))  # NaN where nothing is left over
        rows.append(row | {"note": ""})
    return sorted(rows, key=lambda row: -row["eta_sq"])


def _remainder(cells: pd.DataFrame, response: str, table: pd.DataFrame) -> list[dict]:
    """Divide the residual sum of squares into that between seeds and the rest."""
    alike = cells.groupby(list(FACTORS))[response]
    seeds = float(alike.apply(lambda values: _squares(values.to_numpy(float))).sum())
    rest, df = table.loc["Residual"], len(cells) - alike.ngroups
    parts = {SEEDS: (seeds, df), REST: (max(0.0, rest["sum_sq"] - seeds), rest["df"] - df)}
    total = _squares(cells[response].to_numpy(float))
    return [
        {"factor": name, "df": free, "sum_sq": squares, "eta_sq": squares / total, "note": ""}
        for name, (squares, free) in parts.items()
    ]


def _squares(values: np.ndarray) -> float:
    return float(((values - values.mean()) ** 2).sum())


def _mixed_fit(cells: pd.DataFrame, response: str):
    terms = [f"C(calibration_set, Treatment('{REAL}'))"]
    told = [f for f in ("calibration_size", "engine", "method") if f not in _left_out(cells)]
    terms += [f"C({factor})" for factor in told]
    model = smf.mixedlm(
        f"{response} ~ {' + '.join(terms)}",
        cells,
        groups="model",
        re_formula="1",
        vc_formula={"set": "0 + C(calibration_set)"},
    )
    return model.fit(reml=True, method=["lbfgs", "powell"])


def _effects(fit) -> pd.DataFrame:
    bounds = fit.conf_int()
    rows = [
        {"effect": _plain(name), "kind": "fixed", "estimate": value}
        | dict(zip(("low", "high"), bounds.loc[name], strict=True))
        for name, value in fit.fe_params.items()
    ]
    variances = {"models": fit.cov_re.iloc[0, 0], "model × set": fit.vcomp[0], "rest": fit.scale}
    for name, variance in variances.items():
        row = {"effect": name, "kind": "standard deviation"}
        rows.append(row | {"estimate": float(np.sqrt(max(variance, 0)))})
    return pd.DataFrame(rows, columns=["effect", "kind", "estimate", "low", "high"])


def _plain(name: str) -> str:
    """Return `set teacher` of patsy's `C(calibration_set, Treatment('real'))[T.teacher]`."""
    if "[T." not in name:
        return "real images (all else at its first level)"
    factor, _, level = name.partition("[T.")
    factor = next(words for key, words in FACTORS.items() if key in factor)
    return f"{factor}: {level.rstrip(']').replace('_', '-')}"


def _trust(fit, caught: list) -> str:
    texts = []
    if not fit.converged:
        texts.append("The fit did not converge: do not rely on it.")
    if fit.cov_re.iloc[0, 0] < 1e-8 * fit.scale or fit.vcomp[0] < 1e-8 * fit.scale:
        texts.append("A variance is estimated as 0, at the edge of what it can be.")
    if fit.bse_fe.isna().any():
        texts.append("Some standard errors could not be computed.")
    kinds = sorted({warning.category.__name__ for warning in caught})
    if kinds:
        texts.append(f"statsmodels warned: {', '.join(kinds)}.")
    return " ".join(texts) or "The fit converged without warnings."


def _no_effects() -> pd.DataFrame:
    return pd.DataFrame(columns=["effect", "kind", "estimate", "low", "high"])
