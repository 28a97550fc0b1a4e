"""Fréchet distance (FID) and kernel distance (KID) of features, with jackknife intervals.

FID = |m₁ - m₂|² + tr Σ₁ + tr Σ₂ - 2 tr (Σ₁ Σ₂)^½ (Heusel et al. 2017), all in float64. No matrix
square root is taken and no covariance formed: with factors Σ = RᵀR from QR decompositions, the
covariance part is the squared distance of R₁ and R₂ after the rotation that brings them closest
(orthogonal Procrustes), a sum of squares: real, never negative, and exact where fewer images than
features leave Σ singular.

KID is the squared maximum mean discrepancy with the kernel (x·y / d + 1)³ (Bińkowski et al. 2018).
Its estimate is unbiased at any n, so that sets of different size may be compared; near 0 it may
be negative.

The intervals leave out groups of images in turn. A bootstrap would not do: its resamples repeat
images, so that each has fewer distinct ones and the bias c/n of FID comes in a second time.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
import torch
from scipy import stats
from sklearn.metrics.pairwise import polynomial_kernel
from sklearn.utils import gen_batches
from torch_fidelity.metric_kid import kid_features_to_metric

from lib.common.progress import progress
from lib.common.seeds import numpy_generator
from lib.evaluation.matrices import Matrix, as_pair

FACTOR_ROWS = 4096  # rows that are decomposed at once
KERNEL_ROWS = 1500  # rows of the kernel matrix that are held at once
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
        for rows in gen_batches(len(features), FACTOR_ROWS):
            factor = _reduced([factor, features[rows] - mean])
        return Moments(len(features), mean, factor)

    @staticmethod
    def merged(parts: Sequence["Moments"]) -> "Moments":
        """Return the moments of the union of disjoint sets."""
        n = sum(part.n for part in parts)
        mean = sum(part.n / n * part.mean for part in parts)
        rows = [np.sqrt(part.n) * (part.mean - mean)[None] for part in parts]
        return Moments(n, mean, _reduced([part.factor for part in parts] + rows))

    def distance(self, other: "Moments") -> float:
        """Return the Fréchet distance of two normal distributions with these moments."""
        a, b = (part.factor / np.sqrt(part.n - 1) for part in (self, other))
        shared = np.linalg.svd(a @ b.T, compute_uv=False).sum()  # the trace of (Σ₁ Σ₂)^½
        apart = np.sum((self.mean - other.mean) ** 2) + np.sum(a**2) + np.sum(b**2)
        return float(max(apart - 2 * shared, 0.0))


def _reduced(rows: list[np.ndarray]) -> np.ndarray:
    """Return R `(min(n, d), d)` of the QR decomposition of the stacked rows `(n, d)`."""
    return np.linalg.qr(np.concatenate(rows), mode="r")


def frechet_distance(features: Matrix, reference: Matrix) -> float:
    """Return the Fréchet distance of features `(n, d)` and `(m, d)`; n, m ≥ 2."""
    first, second = as_pair(features, reference, dtype=np.float64)
    return Moments.of(first).distance(Moments.of(second))


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
    too. It needs three such sizes with more images than features, and is NaN otherwise. The
    interval of FID is one for sets of this size.
    """
    pair = as_pair(features, reference, dtype=np.float64)
    n, d = min(map(len, pair)), pair[0].shape[1]
    groups = max(1, min(groups, n // 2))
    splits = [k for k in SPLITS if 2 * k <= groups and n // k > d]
    parts = [[Moments.of(p) for p in side] for side in _split(pair, groups, seed, "frechet groups")]

    @cache
    def distance(chosen: tuple[int, ...]) -> float:
        first, second = (Moments.merged([side[group] for group in chosen]) for side in parts)
        return first.distance(second)

    def estimates(kept: list[int]) -> tuple[float, float]:
        """Return FID of these groups, and the intercept of mean FID against 1/size."""
        whole, inverse, means = distance(tuple(kept)), [], []
        if len(splits) < 3:
            return whole, np.nan
        for k in splits:
            chosen = [tuple(group for group in kept if group % k == part) for part in range(k)]
            inverse.append(np.mean([1 / len(part) for part in chosen]))
            means.append(np.mean([distance(part) for part in chosen]))
        return whole, float(np.polyfit(inverse, means, 1)[1])

    fid, infinite = jackknife(estimates, groups, confidence)
    fid[1] = max(fid[1], 0.0)
    names = ("fid", "fid_low", "fid_high", "fid_infinite", "fid_infinite_low", "fid_infinite_high")
    return dict(zip(names, [*fid, *infinite], strict=True))


def kernel_estimate(
    features: Matrix,
    reference: Matrix,
    *,
    subset_size: int = 1000,
    subsets: int = 100,
    groups: int = 20,
    confidence: float = 0.95,
    seed: int = 0,
) -> dict[str, float]:
    """Return KID of features `(n, d)` and `(m, d)`; n, m ≥ 4.

    `kid_mean` and `kid_std` are those over random subsets, of `subset_size` images or n or m if
    that is less, by torch-fidelity in the precision of the features. `kid` is over all images, in
    float64, with an interval `kid_low`, `kid_high`: the kernel is summed once for each pair of
    groups, in O((n + m)²·d) time.
    """
    pair = as_pair(features, reference, 4)
    found = kid_features_to_metric(
        *map(torch.from_numpy, pair),
        kid_subset_size=min(subset_size, *map(len, pair)),
        kid_subsets=subsets,
        rng_seed=seed % 2**32,
        verbose=False,
    )
    groups = max(2, min(groups, min(map(len, pair)) // 2))
    pair = [matrix.astype(np.float64, copy=False) for matrix in pair]
    first, second = map(list, _split(pair, groups, seed, "kernel groups"))
    sizes = np.array([[len(part) for part in side] for side in (first, second)])
    sums = _kernel_sums(first + second).reshape(2, groups, 2, groups)

    def unbiased(kept: list[int]) -> tuple[float]:
        """Return the unbiased estimate of MMD² from these groups."""
        n, m = sizes[:, kept].sum(axis=1)
        kernels = sums[:, kept][:, :, :, kept].sum(axis=(1, 3))
        within = kernels[0, 0] / (n * (n - 1)) + kernels[1, 1] / (m * (m - 1))
        return (within - 2 * kernels[0, 1] / (n * m),)

    [values] = jackknife(unbiased, groups, confidence)
    return {
        "kid_mean": found["kernel_inception_distance_mean"],
        "kid_std": found["kernel_inception_distance_std"],
    } | dict(zip(("kid", "kid_low", "kid_high"), values, strict=True))


def _kernel_sums(parts: list[np.ndarray]) -> np.ndarray:
    """Return kernel sums `(k, k)` between parts `(n, d)`; no image's kernel with itself counts."""
    sums = np.zeros((len(parts), len(parts)))
    for i, first in enumerate(progress(parts, "KID interval", unit="group")):
        sums[i, i] = -(((first**2).mean(axis=1) + 1) ** 3).sum()
        for j, second in enumerate(parts[: i + 1]):
            for rows in gen_batches(len(first), KERNEL_ROWS):  # the default kernel is KID's
                sums[i, j] += polynomial_kernel(first[rows], second, degree=3, coef0=1).sum()
            sums[j, i] = sums[i, j]
    return sums


def _split(pair: list[np.ndarray], groups: int, seed: int, name: str) -> list[Iterator[np.ndarray]]:
    """Split the rows of each matrix at random into groups whose sizes differ by one at most."""
    rng = numpy_generator(seed, name)
    return [
        map(matrix.__getitem__, map(np.sort, np.array_split(rng.permutation(len(matrix)), groups)))
        for matrix in pair
    ]


def jackknife(
    estimate: Callable[[list[int]], Sequence[float]], groups: int, confidence: float = 0.95
) -> list[list[float]]:
    """Return each of the estimates from all groups, with the ends of its t interval.

    `estimate` takes the numbers of the groups that are kept. The variance is that of leaving each
    out, (g - 1)/g Σ (θ₋ᵢ - mean)² with g - 1 degrees of freedom; the ends are NaN for one group.
    """
    every = list(range(groups))
    whole, reach = np.array(estimate(every)), np.nan
    if groups > 1:
        without = np.array([estimate(every[:i] + every[i + 1 :]) for i in every])
        error = np.sqrt((groups - 1) * without.var(axis=0))
        reach = stats.t.ppf((1 + confidence) / 2, groups - 1) * error
    return np.stack([whole, whole - reach, whole + reach], axis=1).tolist()
