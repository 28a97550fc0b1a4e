"""Paired statistics of classification results: intervals, tests and their correction.

Two networks are compared on the same images. `difference` is, for each image, what one gains over
the other: 1, 0 or -1 for a single pair of networks, a mean of such values where several pairs
(models, seeds) are pooled. The images are the sampling units throughout, so that pooling pairs
does not pretend to more images than there are.
"""

import numpy as np
from statsmodels.stats.contingency_tables import mcnemar
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.proportion import proportion_confint
from statsmodels.stats.weightstats import DescrStatsW

from lib.errors import StudyError
from lib.seeds import numpy_generator


def bootstrap_interval(
    difference: np.ndarray, *, confidence: float = 0.95, resamples: int = 10_000, seed: int = 0
) -> tuple[float, float]:
    """Percentile bootstrap interval for the mean of paired differences `(n,)`.

    Resampling n images with replacement draws how often each distinct difference occurs from a
    multinomial distribution; drawing those counts is the same bootstrap, without n·resamples
    work. Efron & Tibshirani 1993, chapter 13.
    """
    difference = _checked(difference)
    values, counts = np.unique(difference, return_counts=True)
    n = len(difference)
    rng = numpy_generator(seed, "bootstrap")
    means = rng.multinomial(n, counts / n, size=resamples) @ values / n
    tail = (1 - confidence) / 2
    low, high = np.quantile(means, [tail, 1 - tail])
    return float(low), float(high)


def mcnemar_test(difference: np.ndarray) -> float:
    """Exact two-sided p-value that gains and losses are equally likely among the images.

    McNemar's test for a single pair; for pooled differences, which are not whole numbers, the
    sign test of which McNemar's is the special case. Without any difference the value is 1.
    """
    difference = _checked(difference)
    gains, losses = int((difference > 0).sum()), int((difference < 0).sum())
    return float(mcnemar([[0, gains], [losses, 0]], exact=True).pvalue)


def tost_test(difference: np.ndarray, margin: float) -> float:
    """p-value against the hypothesis that the mean difference lies outside ±`margin`.

    Two one-sided paired t-tests (Schuirmann 1987); `margin` is in the unit of `difference`.
    Differences that are all alike leave nothing to estimate: 0 inside the margin, else 1.
    """
    difference = _checked(difference)
    if margin <= 0:
        raise StudyError(f"equivalence margin is {margin}: give one above 0")
    if np.ptp(difference) == 0:
        return 0.0 if abs(difference[0]) < margin else 1.0
    return float(DescrStatsW(difference).ttost_mean(-margin, margin)[0])


def holm(p_values: np.ndarray) -> np.ndarray:
    """Holm's step-down correction of p-values `(m,)`; returns the adjusted ones."""
    p_values = np.asarray(p_values, dtype=float)
    if p_values.size == 0:
        return p_values
    return multipletests(p_values, method="holm")[1]


def wilson_interval(correct: int, n: int, *, confidence: float = 0.95) -> tuple[float, float]:
    """Wilson's score interval for a proportion of `correct` out of `n`."""
    low, high = proportion_confint(correct, n, alpha=1 - confidence, method="wilson")
    return float(low), float(high)


def _checked(difference: np.ndarray) -> np.ndarray:
    difference = np.asarray(difference, dtype=float)
    if difference.ndim != 1 or len(difference) < 2:
        raise StudyError(f"paired differences have shape {difference.shape}: two images at least")
    return difference
