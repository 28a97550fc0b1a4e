"""Paired statistics of classification results: intervals, tests and their correction.

Two networks are compared on the same images. `difference` is, for each image, what one gains over
the other: 1, 0 or -1 for a single pair of networks, a mean of such values where several pairs
(models, seeds) are pooled. The images are the sampling units throughout, so that pooling pairs
does not pretend to more images than there are: intervals and p-values speak of other test images,
for these networks and these draws of the calibration images.
"""

import numpy as np
from scipy.stats import binom
from statsmodels.stats.contingency_tables import mcnemar
from statsmodels.stats.proportion import proportion_confint
from statsmodels.stats.weightstats import DescrStatsW

from lib.common.errors import StudyError
from lib.common.seeds import numpy_generator


def bootstrap_interval(
    difference: np.ndarray, *, confidence: float = 0.95, resamples: int = 10_000, seed: int = 0
) -> tuple[float, float]:
    """Percentile bootstrap interval for the mean of paired differences `(n,)`.

    Resampling n images with replacement draws how often each distinct difference occurs from a
    multinomial distribution; drawing those counts is the same bootstrap, without n·resamples
    work. Efron & Tibshirani 1993, chapter 13.
    """
    difference = np.asarray(difference, dtype=float)
    if difference.ndim != 1 or len(difference) < 2:
        raise StudyError(f"paired differences have shape {difference.shape}: two images at least")
    values, counts = np.unique(difference, return_counts=True)
    n = len(difference)
    rng = numpy_generator(seed, "bootstrap")
    means = rng.multinomial(n, counts / n, size=resamples) @ values / n
    tail = (1 - confidence) / 2
    low, high = np.quantile(means, [tail, 1 - tail])
    return float(low), float(high)


def mcnemar_test(difference: np.ndarray) -> float:
    """McNemar's exact two-sided p-value for a single pair of networks.

    `difference` `(n,)` holds 1, 0 and -1. The null hypothesis: gains and losses are equally
    likely. Without a discordant image the value is 1.
    """
    if not np.isin(difference, (-1, 0, 1)).all():
        raise StudyError("McNemar's test is for one pair of networks: use sign_flip_test")
    gains, losses = int((difference > 0).sum()), int((difference < 0).sum())
    return float(mcnemar([[0, gains], [losses, 0]], exact=True).pvalue)


def sign_flip_test(difference: np.ndarray, *, pairs: int = 1) -> float:
    """Exact two-sided p-value of the paired permutation test that the mean difference is 0.

    Under the null hypothesis the two sides could be exchanged at each image, so each of the n
    differences could as well have the other sign (Fisher 1935, Pitman 1937). `difference` `(n,)`
    is a mean over `pairs` pairs of networks, a multiple of 1/pairs. All 2ⁿ changes of sign are
    counted, none is sampled. For a single pair this is McNemar's exact test.
    """
    steps = np.rint(difference * pairs).astype(np.int64)
    if not np.allclose(steps, difference * pairs, atol=1e-6):
        raise StudyError(f"differences are no multiples of 1/{pairs}: give the number of pairs")
    sizes, counts = np.unique(np.abs(steps[steps != 0]), return_counts=True)
    if len(sizes) < 2:
        return mcnemar_test(np.sign(steps))
    unit = np.gcd.reduce(sizes)
    total, observed = int(sizes @ counts) // unit, abs(steps.sum()) // unit
    chances = np.ones(1)  # of each sum 0, 1, … when every number counts by a fair coin
    for size, count in zip(sizes // unit, counts, strict=True):
        before, chances = chances, np.zeros(len(chances) + size * count)
        for times, chance in enumerate(binom.pmf(np.arange(count + 1), count, 0.5)):
            chances[times * size :][: len(before)] += chance * before
    p = 2 * chances[: (total - observed) // 2 + 1].sum()
    return float(np.clip(p, 0.5 ** (counts.sum() - 1), 1))


def tost_test(difference: np.ndarray, margin: float) -> float:
    """p-value against the hypothesis that the mean difference lies outside ±`margin`.

    Two one-sided paired t-tests (Schuirmann 1987); `margin` is in the unit of `difference`. Where
    all differences are alike, their variance is 0 and the value is the t-test's limit: 0 inside
    the margin, else 1. That says nothing of images not seen: ask `resolution`, too.
    """
    if np.ptp(difference) == 0:
        return 0.0 if abs(difference[0]) < margin else 1.0
    return float(DescrStatsW(difference).ttost_mean(-margin, margin)[0])


def resolution(n: int, *, confidence: float = 0.95) -> float:
    """Return the largest share of differing images that `n` images without one do not exclude.

    The exact (Clopper-Pearson) one-sided bound 1 - (1 - confidence)^(1/n), nearly 3/n at 95 %,
    the rule of three. No equivalence within less than that can be shown by `n` images, however
    well two networks agree on them.
    """
    return float(proportion_confint(0, n, alpha=2 * (1 - confidence), method="beta")[1])


def holm(p_values: np.ndarray) -> np.ndarray:
    """Holm's step-down correction (1979) of p-values `(m,)`; returns the adjusted ones.

    Written out because statsmodels' `multipletests` collects garbage at every call, which takes
    half a second in a process with torch.
    """
    p_values = np.asarray(p_values, dtype=float)
    order = np.argsort(p_values)
    steps = p_values[order] * np.arange(len(order), 0, -1)
    adjusted = np.empty_like(p_values)
    adjusted[order] = np.minimum(np.maximum.accumulate(steps), 1)
    return adjusted


def wilson_interval(correct: int, n: int, *, confidence: float = 0.95) -> tuple[float, float]:
    """Wilson's score interval for a proportion of `correct` out of `n`."""
    low, high = proportion_confint(correct, n, alpha=1 - confidence, method="wilson")
    return float(low), float(high)
