"""Holm's correction and Wilson's interval, against other ways to compute them."""

import numpy as np
from scipy import stats
from statsmodels.stats.multitest import multipletests

from lib.common.statistics import holm, wilson_interval


def test_holm_matches_statsmodels_and_a_calculation_by_hand():
    p_values = np.random.default_rng(4).random(40) ** 4
    p_values[7] = p_values[3]
    np.testing.assert_allclose(holm(p_values), multipletests(p_values, method="holm")[1])
    np.testing.assert_allclose(holm([0.01, 0.04, 0.03]), [0.03, 0.06, 0.06])
    assert holm([]).size == 0


def test_wilson_by_its_formula():
    n, p, z = 600, 590 / 600, stats.norm.ppf(0.975)
    middle = (p + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z / (1 + z**2 / n) * np.sqrt(p * (1 - p) / n + z**2 / (4 * n**2))
    np.testing.assert_allclose(wilson_interval(590, 600), (middle - half, middle + half))
