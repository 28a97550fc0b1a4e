"""What each calibration set costs on other models like these: mixed-effects models of the grid.

Accuracy-aware quantization rescues bad sets and leaves good ones alone, and a bad set harms some
models far more than others. So each way to quantize has fits of its own, and in each every set
stands beside the real images alone: the spread that one set brings widens no other's interval.
"""

import warnings

import numpy as np
import pandas as pd
import statsmodels.formula.api as smf
from scipy.stats import t as student_t

from lib.comparison.models import REAL
from lib.comparison.tables import int8_name
from lib.comparison.words import listed

COLUMNS = ["engine", "method", "calibration_set", "models", "cells", "estimate", "low", "high"]
COLUMNS += ["per_doubling", "models_sd", "models_set_sd", "rest_sd", "trouble"]
EDGE = 0.01  # of the variance between repeats; statsmodels takes the same
SAID = ("The MLE may be on the boundary", "Retrying", "Maximum Likelihood optimization failed")
"""Warnings that `trouble` gives in other words, or that a second optimiser made up for."""
SIZE = "np.log2(calibration_size)"


def mixed_effects(
    cells: pd.DataFrame, response: str = "drop_pp", *, confidence: float = 0.95
) -> pd.DataFrame:
    """Return what each set adds to `response` against `real`, by engine and method.

    A row for each set: a linear mixed-effects model (Laird & Ware 1982) by restricted maximum
    likelihood over the `cells` with it and with real images, of the models that have both.
    `estimate` is the set's fixed effect in the response's unit, its interval t with one degree of
    freedom less than `models`, so that it speaks of other models like these. Models are a random
    intercept, model × set a variance component where there are repeats, with standard deviations
    `models_sd`, `models_set_sd` and `rest_sd`. `per_doubling` is the effect of twice as many
    calibration images, where sizes vary. `trouble` says why there are no numbers, or of what the
    optimiser warned; the interval is unreliable then. NNCF and default quantization come first.
    """
    rows = []
    for (engine, method), part in sorted(
        cells.groupby(["engine", "method"], sort=False),
        key=lambda item: (item[0][0] != "nncf", item[0][1] != "default"),
    ):
        for name in part["calibration_set"].unique():
            if name != REAL:
                pair = _pair(part, name)
                row = {"engine": engine, "method": method, "calibration_set": name}
                row |= {"models": pair["model"].nunique(), "cells": len(pair)}
                rows.append(row | _effect(pair, response, confidence))
    return pd.DataFrame(rows, columns=COLUMNS)


def mixed_words(effects: pd.DataFrame) -> str:
    """Return a line of Markdown a way to quantize, with every reason not to trust its numbers."""
    if effects.empty:
        return "No mixed model: no cells with real images and another set succeeded."
    lines = []
    for way, part in effects.groupby(["engine", "method"], sort=False):
        known = part[part["estimate"].notna()]
        told = [f"{row.calibration_set} {_estimate(row)}" for row in known.itertuples()]
        texts = [", ".join(told) + "." if told else "nothing could be estimated."]
        for trouble, rows in part[part["trouble"] != ""].groupby("trouble", sort=False):
            names = listed(list(rows["calibration_set"]))
            doubt = "the interval is unreliable" if rows["estimate"].notna().any() else "no fit"
            texts.append(f"For {names}, {doubt}: {trouble}.")
        lines.append(f"- {int8_name(*way)}: {' '.join(texts)}")
    return "\n".join(lines)


def _estimate(row: tuple) -> str:
    known = np.isfinite([row.low, row.high]).all()
    interval = f" ({row.low:+.2f} to {row.high:+.2f})" if known else ""
    return f"{row.estimate:+.2f}{interval}"


def _pair(cells: pd.DataFrame, name: str) -> pd.DataFrame:
    """Return the cells with a set and with real images, of the models and sizes that have both."""
    pair = cells[cells["calibration_set"].isin([REAL, name])]
    both = pair.groupby(["model", "calibration_size"])["calibration_set"].transform("nunique") == 2
    return pair[both].reset_index(drop=True)


def _effect(pair: pd.DataFrame, response: str, confidence: float) -> dict:
    models = pair["model"].nunique()
    if models < 2:
        return {"trouble": "it takes two models with this set and real images at least"}
    values = pair[response].to_numpy(float)
    if np.ptp(values) == 0:
        return {"estimate": 0.0, "trouble": "all cells are alike, so that nothing tells of others"}
    unit = _unit(pair, response)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            fit = _fit(pair.assign(value=values / unit))
        except (np.linalg.LinAlgError, ValueError) as error:
            return {"trouble": f"the model could not be fitted ({error})"}
    reach = student_t.ppf((1 + confidence) / 2, models - 1) * fit.bse_fe.iloc[1]
    middle = fit.fe_params.iloc[1]
    row = {"estimate": middle, "low": middle - reach, "high": middle + reach}
    row |= {"per_doubling": fit.fe_params.get(SIZE, float("nan"))}
    row |= {"models_sd": np.sqrt(max(fit.cov_re.iloc[0, 0], 0)), "rest_sd": np.sqrt(fit.scale)}
    row |= {"models_set_sd": np.sqrt(max(fit.vcomp[0], 0)) if len(fit.vcomp) else float("nan")}
    scaled = {key: round(float(unit * value), 4) + 0.0 for key, value in row.items()}  # no -0
    return scaled | {"trouble": _trouble(fit, caught)}


def _unit(pair: pd.DataFrame, response: str) -> float:
    """Return the deviation between repeats, in which statsmodels' checks make sense."""
    repeats = pair.groupby(["model", "calibration_set", "calibration_size"])[response]
    between = float(np.sqrt(repeats.var().mean()))
    return between if between > 0 else float(pair[response].std())


def _fit(pair: pd.DataFrame):
    sizes = f" + {SIZE}" if pair["calibration_size"].nunique() > 1 else ""
    repeated = pair.duplicated(["model", "calibration_set"]).any()
    model = smf.mixedlm(
        f"value ~ C(calibration_set, Treatment('{REAL}')){sizes}",
        pair,
        groups="model",
        re_formula="1",
        vc_formula={"set": "0 + C(calibration_set)"} if repeated else None,
    )
    return model.fit(reml=True, method=["bfgs", "powell"])


def _trouble(fit, caught: list) -> str:
    """Say of what the optimiser warned, in words that do not depend on its messages' numbers."""
    texts = [] if fit.converged else ["the fit did not converge"]
    if min(fit.cov_re.iloc[0, 0], *fit.vcomp, fit.scale) < EDGE:
        texts.append("a variance is estimated as 0, at the edge of what it can be")
    if not np.isfinite(fit.bse_fe).all():
        texts.append("standard errors could not be computed")
    messages = {str(warning.message).partition(".")[0] for warning in caught}
    other = sorted(text for text in messages if not text.startswith(SAID))
    texts += [f"statsmodels warned: {'; '.join(other)}"] if other else []
    return ", ".join(texts)
