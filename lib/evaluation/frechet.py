"""Fréchet distance of features (FID), its extrapolation to infinite n, and an interval.

FID = |m₁ - m₂|² + tr Σ₁ + tr Σ₂ - 2 tr (Σ₁ Σ₂)^½ (Heusel et al. 2017), all in float64. No matrix
square root is taken and no covariance formed: with factors Σ = RᵀR from QR decompositions, the
covariance part is the squared distance of R₁ and R₂ after the rotation that brings them closest
(orthogonal Procrustes), a sum of squares: real, never negative, and exact where fewer images than
features leave Σ singular.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np

from lib.common.seeds import numpy_generator
from lib.evaluation.matrices import Matrix, as_pair, jackknife_interval, random_groups

BLOCK = 4096  # rows that are decomposed at once
SPLITS = (1, 2, 4, 5)  # into so many disjoint parts both sets are split, to extrapolate


@dataclass(frozen=True)
class Moments:
    """Count, mean `(d,)` and a factor R `(k, d)` with RᵀR = Σ (x - mean)(x - mean)ᵀ."""

    n: int
    mean: np.ndarray
    factor: np.ndarray

    @staticmethod
    def of(features: np.ndarray) -> "Moments":
        """Return the moments of features `(n, d)`, whatever n and d."""
        mean = features.mean(axis=0, dtype=np.float64)
        factor = np.empty((0, features.shape[1]))
        for start in range(0, len(features), BLOCK):
            factor = _reduced([factor, features[start : start + BLOCK] - mean])
        return Moments(len(features), mean, factor)

    @staticmethod
    def merged(parts: Sequence["Moments"]) -> "Moments":
        """Return the moments of the union of disjoint sets."""
        n = sum(part.n for part in parts)
        mean = sum(part.n / n * part.mean for part in parts)
        rows = [np.sqrt(part.n) * (part.mean - mean)[None] for part in parts]
        return Moments(n, mean, _reduced([part.factor for part in parts] + rows))


def frechet_distance(features: Matrix, reference: Matrix) -> float:
    """Return the Fréchet distance of features `(n, d)` and `(m, d)`; n, m ≥ 2.

    Raises `StudyError` for other shapes, fewer rows, NaN or infinity.
    """
    first, second = as_pair(features, reference, dtype=np.float64)
    return moments_distance(Moments.of(first), Moments.of(second))


def moments_distance(first: Moments, second: Moments) -> float:
    """Return the Fréchet distance of two normal distributions with these moments."""
    a = first.factor / np.sqrt(first.n - 1)
    b = second.factor / np.sqrt(second.n - 1)
    left, _, right = np.linalg.svd(a @ b.T)
    a, b = left.T @ a, right @ b
    rows = min(len(a), len(b))
    apart = np.sum((a[:rows] - b[:rows]) ** 2) + np.sum(a[rows:] ** 2) + np.sum(b[rows:] ** 2)
    return float(np.sum((first.mean - second.mean) ** 2) + apart)


def frechet_estimate(
    features: Matrix,
    reference: Matrix,
    *,
    groups: int = 20,
    confidence: float = 0.95,
    seed: int = 0,
) -> dict[str, float]:
    """Return `fid` and, at infinite n, `fid_infinite`, each with an interval `_low`, `_high`.

    FID of finite sets is too large by about c/n. Following Chong & Forsyth 2020, FID is measured
    at several sizes and the line through FID against 1/n is read at 1/n = 0; here the sizes are
    those of 1, 2, 4 and 5 disjoint parts of *both* sets, averaged, because the real set is small,
    too. It needs three such sizes with more images than features, and is NaN otherwise.

    The intervals are of a delete-one-group jackknife: both sets are split at random into `groups`
    groups, and FID is taken without each in turn. A bootstrap would not do: its resamples repeat
    images, so that each has fewer distinct ones and the bias c/n comes in a second time; its
    interval lies above the estimate. The interval of FID is one for sets of this size.
    """
    pair = as_pair(features, reference, dtype=np.float64)
    n, d = min(map(len, pair)), pair[0].shape[1]
    groups = max(1, min(groups, n // 2))
    splits = [k for k in SPLITS if 2 * k <= groups and n // k > d]
    rng = numpy_generator(seed, "frechet groups")
    parts = [
        [Moments.of(matrix[index]) for index in random_groups(len(matrix), groups, rng)]
        for matrix in pair
    ]

    @cache
    def distance(chosen: tuple[int, ...]) -> float:
        first, second = (Moments.merged([side[group] for group in chosen]) for side in parts)
        return moments_distance(first, second)

    def estimates(left_out: int | None) -> tuple[float, float]:
        """Return FID without a group, and the intercept of mean FID against 1/size."""
        kept = [group for group in range(groups) if group != left_out]
        whole = distance(tuple(kept))
        if len(splits) < 3:
            return whole, np.nan
        inverse, means = [], []
        for k in splits:
            chosen = [tuple(group for group in kept if group % k == part) for part in range(k)]
            inverse.append(np.mean([1 / len(part) for part in chosen]))
            means.append(np.mean([distance(part) for part in chosen]))
        return whole, float(np.polyfit(inverse, means, 1)[1])

    whole = np.array(estimates(None))
    without = np.array([estimates(group) for group in range(groups if groups > 1 else 0)])
    low, high = jackknife_interval(whole, without, confidence)
    names = ("fid", "fid_low", "fid_high", "fid_infinite", "fid_infinite_low", "fid_infinite_high")
    values = (whole[0], max(low[0], 0.0), high[0], whole[1], low[1], high[1])
    return dict(zip(names, map(float, values), strict=True))


def _reduced(rows: list[np.ndarray]) -> np.ndarray:
    """Return R `(min(n, d), d)` of the QR decomposition of the stacked rows `(n, d)`."""
    return np.linalg.qr(np.concatenate(rows), mode="r")
