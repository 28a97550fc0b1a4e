"""Mixed-effects models: planted effects, one way to quantize at a time, and fits not to trust."""

import numpy as np
import pandas as pd
import pytest
from scipy.stats import ttest_rel

from lib.comparison import mixed_effects as module
from lib.comparison.mixed_effects import mixed_effects, mixed_words
from tests.comparison.test_factors import MODELS, SETS, grid


def by_set(cells, way=("nncf", "default"), **options):
    effects = mixed_effects(cells, **options)
    chosen = effects[(effects["engine"] == way[0]) & (effects["method"] == way[1])]
    return chosen.set_index("calibration_set")


def spread(cells, seed=0):
    """Every set but `real` costs other models more or less: a tenth of its effect up and down."""
    rng = np.random.default_rng(seed)
    slopes = {(m, s): rng.normal(1, 0.1) for m in MODELS for s in SETS}
    slope = [slopes[key] for key in zip(cells["model"], cells["calibration_set"], strict=True)]
    harm = cells["calibration_set"].map(SETS)
    return cells.assign(drop_pp=cells["drop_pp"] + (np.array(slope) - 1) * harm)


def test_effects_are_those_that_were_planted():
    effects = by_set(spread(grid(noise=0.1)))
    assert list(effects.index) == ["student", "fractal", "noise"]
    for name, row in effects.iterrows():
        assert row["estimate"] == pytest.approx(SETS[name], rel=0.15, abs=0.1)
        assert row["low"] < SETS[name] < row["high"]
    assert effects.loc["noise", "models_set_sd"] == pytest.approx(0.9 / np.sqrt(2), rel=0.7)
    assert effects.loc["noise", "rest_sd"] == pytest.approx(0.1, rel=0.3)
    assert effects.loc["noise", "models_sd"] == pytest.approx(
        np.std(list(MODELS.values())), abs=0.3
    )
    assert (effects["models"] == 4).all() and (effects["cells"] == 24).all()


def test_a_bad_set_does_not_widen_the_interval_of_a_good_one():
    effects = by_set(spread(grid(noise=0.05)))
    width = effects["high"] - effects["low"]
    assert width["student"] < 0.2 < 1 < width["noise"]


def test_balanced_estimate_and_interval_are_those_of_the_paired_t_test():
    cells = spread(grid(noise=0.1))
    row = by_set(cells).loc["fractal"]
    assert row["trouble"] == ""
    means = cells.groupby(["model", "calibration_set"])["drop_pp"].mean().unstack()
    known = ttest_rel(means["fractal"], means["real"]).confidence_interval(0.95)
    assert (row["low"], row["high"]) == pytest.approx((known.low, known.high), rel=1e-2)
    once = by_set(spread(grid(noise=0.1, seeds=1)), confidence=0.9).loc["fractal"]
    assert once["low"] < 3 < once["high"] and np.isnan(once["models_set_sd"])


def test_a_method_that_rescues_bad_sets_has_a_fit_of_its_own():
    cells = spread(grid(noise=0.1, methods=("accuracy_aware", "default")))
    aware = cells["method"] == "accuracy_aware"
    cells.loc[aware, "drop_pp"] = 0.1 * np.random.default_rng(5).normal(size=aware.sum())
    default, rescued = by_set(cells), by_set(cells, ("nncf", "accuracy_aware"))
    assert default.loc["noise", "estimate"] == pytest.approx(9, rel=0.15)
    assert rescued["estimate"].abs().max() < 0.15
    alone = by_set(cells[~aware])
    pd.testing.assert_frame_equal(default, alone)


def test_real_is_the_reference_and_nncf_by_default_comes_first():
    cells = grid(noise=0.1, engines=("pot", "nncf"), methods=("accuracy_aware", "default"))
    cells["calibration_set"] = cells["calibration_set"].replace("student", "aaa")
    effects = mixed_effects(cells)
    assert effects["calibration_set"].tolist()[:3] == ["aaa", "fractal", "noise"]
    ways = list(dict.fromkeys(zip(effects["engine"], effects["method"], strict=True)))
    assert ways == [("nncf", m) for m in ("default", "accuracy_aware")] + [
        ("pot", m) for m in ("default", "accuracy_aware")
    ]
    assert effects["estimate"].iloc[1] == pytest.approx(3, abs=0.3)


def test_more_images_are_an_effect_where_sizes_vary():
    cells = pd.concat([grid(noise=0.02).assign(calibration_size=n) for n in (32, 64, 256)])
    cells["drop_pp"] -= 0.5 * np.log2(cells["calibration_size"])
    effects = by_set(cells)
    np.testing.assert_allclose(effects["per_doubling"], -0.5, atol=0.02)
    assert by_set(grid())["per_doubling"].isna().all()


def test_models_without_real_images_are_not_compared():
    cells = grid(noise=0.1)
    gone = (cells["model"] == "repvgg_a0") & (cells["calibration_set"] == "student")
    effects = by_set(cells[~gone])
    assert effects["models"].to_dict() == {"student": 3, "fractal": 4, "noise": 4}
    alone = mixed_effects(grid(models=["resnet20"]))
    assert alone["estimate"].isna().all() and "two models" in mixed_words(alone)
    assert "No mixed model" in mixed_words(mixed_effects(grid(sets=["real"])))
    assert "No mixed model" in mixed_words(mixed_effects(grid()[:0]))
    assert mixed_effects(grid(sets=["student", "noise"]))["estimate"].isna().all()


def test_equal_cells_tell_nothing_of_others():
    effects = mixed_effects(grid().assign(drop_pp=0.25))
    assert (effects["estimate"] == 0).all() and effects["low"].isna().all()
    assert "nothing tells of others" in mixed_words(effects)


def test_unreliable_fits_are_said_to_be_so(monkeypatch):
    clean = spread(grid(noise=0.1))[lambda cells: cells["calibration_set"] != "student"]
    assert "unreliable" not in mixed_words(mixed_effects(clean))
    perfect = mixed_effects(grid(noise=0.0))  # nothing is left to estimate a variance from
    assert (perfect["trouble"] != "").all()

    def warn(pair):
        import warnings

        warnings.warn("The Hessian is not positive definite.", stacklevel=1)
        return fit(pair)

    fit = module._fit
    monkeypatch.setattr(module, "_fit", warn)
    words = mixed_words(mixed_effects(spread(grid(noise=0.1))))
    assert "noise, the interval is unreliable: statsmodels warned: The Hessian is not" in words


def test_intervals_are_wider_the_fewer_the_models():
    few = by_set(spread(grid(noise=0.1, models=list(MODELS)[:2]))).loc["noise"]
    many = by_set(spread(grid(noise=0.1))).loc["noise"]
    assert few["high"] - few["low"] > many["high"] - many["low"]


def test_an_effect_without_an_interval_is_written_without_one():
    row = {"engine": "nncf", "method": "default", "calibration_set": "student", "estimate": 0.0}
    row |= {"low": np.nan, "high": np.nan, "trouble": "all cells are alike"}
    words = mixed_words(pd.DataFrame([row]))
    assert "student +0.00." in words and "nan" not in words
