"""Effect sizes: known answers, and grids that leave little to estimate."""

import itertools

import numpy as np
import pandas as pd
import pytest
import statsmodels.formula.api as smf
from statsmodels.stats.anova import anova_lm

from lib.comparison.factors import REST, SEEDS, effect_sizes, usable_cells

MODELS = {"resnet20": 0.0, "vgg11_bn": 0.2, "repvgg_a0": 0.9, "mobilenetv2_x0_5": 0.4}
SETS = {"real": 0.0, "student": 0.1, "fractal": 3.0, "noise": 9.0}


def grid(noise=0.05, models=MODELS, sets=SETS, methods=("default",), seeds=3):
    rng = np.random.default_rng(0)
    same = {"engine": "nncf", "calibration_size": 300, "status": "ok"}
    rows = [
        same
        | {"model": m, "method": w, "calibration_set": s, "seed": seed}
        | {"drop_pp": MODELS[m] + SETS[s] + noise * rng.normal()}
        for m, w, s, seed in itertools.product(models, methods, sets, range(seeds))
    ]
    table = pd.DataFrame(rows)
    return usable_cells(table.assign(agreement=1 - table["drop_pp"] / 100))


def by_factor(cells, **options):
    return effect_sizes(cells, **options).set_index("factor")


def test_the_set_is_found_to_matter_most():
    effects = by_factor(grid())
    assert effects.loc["calibration set", "eta_sq"] > 0.95
    assert effects.loc["model", "eta_sq"] == pytest.approx(0.009, abs=0.003)
    assert effects["eta_sq"].sum() == pytest.approx(1)  # a balanced grid
    assert effects.loc[SEEDS, "df"] == 32 and effects.loc[REST, "df"] == 0
    agreement = by_factor(grid(), response="agreement_pp")["eta_sq"]
    np.testing.assert_allclose(agreement, effects["eta_sq"], atol=1e-12)


def test_omega_squared_is_that_of_its_formula():
    cells = grid(noise=1.0)
    formula = "drop_pp ~ C(calibration_set) + C(model) + C(calibration_set):C(model)"
    table = anova_lm(smf.ols(formula, cells).fit(), typ=2)
    error = table.loc["Residual", "sum_sq"] / table.loc["Residual", "df"]
    total = table["sum_sq"].sum()
    line = table.loc["C(model)"]
    expected = (line["sum_sq"] - line["df"] * error) / (total + error)
    assert by_factor(cells).loc["model", "omega_sq"] == pytest.approx(max(expected, 0))


def test_controls_are_left_out_where_asked():
    assert set(usable_cells(grid(), controls=False)["calibration_set"]) == set(SETS) - {"noise"}


def test_factors_of_one_level_have_a_note():
    effects = by_factor(grid(models=["resnet20"], sets=["real", "student"]))
    assert effects.loc["model", "note"] == "one level, nothing to compare"
    assert np.isnan(effects.loc["model", "eta_sq"])
    assert effects.loc["calibration set", "eta_sq"] > 0
    alone = grid(models=["resnet20"], sets=["real"])
    assert by_factor(alone)["eta_sq"].isna().all()


def test_factors_that_go_together_are_not_told_apart():
    cells = grid(methods=("default", "accuracy_aware"))
    cells["engine"] = cells["method"].map({"default": "pot", "accuracy_aware": "nncf"})
    effects = by_factor(cells)
    assert effects.loc["engine", "note"] == "goes with method, not to be told apart"
    assert np.isfinite(effects.loc["method", "eta_sq"])


def test_grids_with_gaps_and_without_repeats():
    cells = grid()
    gap = cells[~((cells["model"] == "vgg11_bn") & (cells["calibration_set"] == "noise"))]
    row = by_factor(gap).loc["calibration set × model"]
    assert row["df"] == 3 * 3 - 1 and row["levels"] == 15
    once = by_factor(grid(seeds=1))
    assert once.loc[SEEDS, "sum_sq"] == 0 and once.loc["model", "eta_sq"] > 0


@pytest.mark.parametrize("spread, note", [(1.0, "too few cells"), (0.0, "nothing varies")])
def test_what_cannot_be_divided_has_a_note(spread, note):
    cells = grid().drop_duplicates("calibration_set")
    cells = cells.assign(drop_pp=spread * np.arange(len(cells), dtype=float) ** 2)
    effects = effect_sizes(cells)
    assert effects["omega_sq"].isna().all() and note in set(effects["note"])
    two = grid(models=["resnet20"], sets=["real", "student"], seeds=1)
    assert "too few cells" in set(effect_sizes(two)["note"])
    assert effect_sizes(cells[:0])["eta_sq"].isna().all()


def test_rescue_by_a_method_is_an_interaction_also_where_it_met_few_sets():
    """Accuracy-aware quantization takes the harm of a bad set, and was not tried with noise."""
    cells = grid(methods=("default", "accuracy_aware"), noise=0.02)
    aware = cells["method"] == "accuracy_aware"
    cells.loc[aware & (cells["calibration_set"] == "fractal"), "drop_pp"] -= SETS["fractal"]
    cells = cells[~(aware & (cells["calibration_set"] == "noise"))]
    effects = by_factor(cells)
    row = effects.loc["calibration set × method"]
    assert row["df"] == 2 and row["levels"] == 7
    # two of three sets common to both methods lose nothing by it: 3² × 24 × 2/3 × 1/4 points²
    assert row["sum_sq"] == pytest.approx(9 * 36 * 2 / 9 / 4 * 2, rel=0.05)
    assert row["omega_sq"] > 1.5 * effects.loc["method", "omega_sq"] > 0
    by_model = cells["calibration_set"] + cells["model"]
    apart = residual(cells, by_model, cells["method"])
    together = residual(cells, by_model, cells["calibration_set"] + cells["method"])
    assert row["sum_sq"] == pytest.approx(apart - together)


def residual(cells, *groups):
    """The sum of squares that a least-squares fit of means of groups leaves."""
    design = pd.concat([pd.get_dummies(group) for group in groups], axis=1).to_numpy(float)
    values = cells["drop_pp"].to_numpy()
    return ((values - design @ np.linalg.lstsq(design, values)[0]) ** 2).sum()
