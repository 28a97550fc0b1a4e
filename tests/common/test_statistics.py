"""Statistics against scipy, closed forms and simulation."""

import numpy as np
import pytest
from scipy import stats
from statsmodels.stats.multitest import multipletests

from lib.common.errors import StudyError
from lib.common.statistics import (
    bootstrap_interval,
    holm,
    mcnemar_test,
    resolution,
    sign_flip_test,
    tost_test,
    wilson_interval,
)


@pytest.fixture
def difference():
    """Gains and losses among 1000 images: 40 of the one, 25 of the other."""
    values = np.zeros(1000)
    values[:40], values[40:65] = 1, -1
    return values


def test_bootstrap_matches_scipy(difference):
    ours = bootstrap_interval(difference, resamples=20_000)
    theirs = stats.bootstrap(
        (difference,), np.mean, n_resamples=5_000, method="percentile", rng=0, batch=500
    ).confidence_interval
    np.testing.assert_allclose(ours, (theirs.low, theirs.high), atol=1e-3)


def test_bootstrap_takes_pooled_differences():
    with pytest.raises(StudyError, match="two images"):
        bootstrap_interval([0])
    values = np.random.default_rng(0).integers(-3, 4, 2000) / 15
    low, high = bootstrap_interval(values, confidence=0.9)
    half = stats.norm.ppf(0.95) * values.std() / np.sqrt(2000)
    np.testing.assert_allclose((low, high), (values.mean() - half, values.mean() + half), atol=4e-4)


def test_bootstrap_covers_the_truth_as_often_as_it_says():
    rng = np.random.default_rng(0)
    hits = 0
    for trial in range(300):
        sample = rng.choice([1.0, 0.0, -1.0], 500, p=[0.06, 0.9, 0.04])
        low, high = bootstrap_interval(sample, resamples=1000, seed=trial)
        hits += low <= 0.02 <= high
    assert 0.91 < hits / 300 < 0.99


def test_mcnemar_is_the_exact_binomial_test(difference):
    expected = stats.binomtest(25, 65, 0.5).pvalue
    assert mcnemar_test(difference) == pytest.approx(expected)
    assert mcnemar_test(-difference) == pytest.approx(expected)
    with pytest.raises(StudyError, match="one pair"):
        mcnemar_test(difference / 3)


def test_sign_flips_are_counted_as_scipy_counts_them():
    rng = np.random.default_rng(1)
    for pairs in (1, 2, 6):
        values = np.zeros(30)
        values[:12] = rng.integers(-pairs, pairs + 1, 12) / pairs
        exact = stats.permutation_test(
            (values[:12],), np.mean, permutation_type="samples", n_resamples=np.inf
        )
        assert sign_flip_test(values, pairs=pairs) == pytest.approx(exact.pvalue, rel=1e-9)
        assert sign_flip_test(-values, pairs=pairs) == sign_flip_test(values, pairs=pairs)


def test_sign_flips_of_many_images_are_nearly_a_t_test():
    values = np.random.default_rng(2).integers(-15, 16, 5000) / 15
    for shift in (0, 1 / 15):
        expected = stats.ttest_1samp(values + shift, 0).pvalue
        assert sign_flip_test(values + shift, pairs=15) == pytest.approx(expected, rel=0.1)


def test_sign_flips_of_a_single_pair_are_mcnemars_test(difference):
    assert sign_flip_test(difference) == mcnemar_test(difference)
    assert sign_flip_test(difference / 3, pairs=3) == mcnemar_test(difference)
    with pytest.raises(StudyError, match="number of pairs"):
        sign_flip_test(difference / 3)


def test_resolution_is_the_exact_bound_of_no_event():
    for n in (20, 600, 10_000):
        assert resolution(n) == pytest.approx(1 - 0.05 ** (1 / n))
    assert resolution(600) == pytest.approx(3 / 600, rel=0.01)


def test_tost_is_the_worse_of_two_one_sided_t_tests(difference):
    margin = 0.03
    expected = max(
        stats.ttest_1samp(difference, -margin, alternative="greater").pvalue,
        stats.ttest_1samp(difference, margin, alternative="less").pvalue,
    )
    assert tost_test(difference, margin) == pytest.approx(expected)
    assert tost_test(difference, 0.05) < 0.001 < 0.5 < tost_test(difference, 0.01)


def test_identical_predictions():
    same = np.zeros(50)
    assert bootstrap_interval(same) == (0, 0)
    assert mcnemar_test(same) == sign_flip_test(same, pairs=3) == 1
    assert tost_test(same, 0.5) == 0
    assert tost_test(same + 1, 0.5) == 1


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
