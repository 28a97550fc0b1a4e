"""Kernel distance of features (KID): torch-fidelity's estimate, and an interval.

KID is the squared maximum mean discrepancy with the kernel (x·y / d + 1)³ (Bińkowski et al. 2018).
Its estimate is unbiased at any n, so that sets of different size may be compared; near 0 it may
be negative.
"""

import numpy as np
import torch
from sklearn.metrics.pairwise import polynomial_kernel
from sklearn.utils import gen_batches
from torch_fidelity.metric_kid import kid_features_to_metric

from lib.common.errors import StudyError
from lib.common.progress import progress
from lib.common.seeds import numpy_generator
from lib.evaluation.matrices import Matrix, as_pair, jackknife_interval, random_groups

BLOCK = 1500  # rows of the kernel matrix that are held at once


def kernel_distance(
    features: Matrix, reference: Matrix, *, subset_size: int = 1000, subsets: int = 100, seed: int
) -> tuple[float, float]:
    """Return mean and standard deviation of KID over random subsets, by torch-fidelity.

    Features `(n, d)` and `(m, d)` are taken in their own precision; `seed` below 2³² is the seed
    of torch-fidelity's draws. Raises `StudyError` where a set is smaller than a subset.
    """
    pair = [torch.from_numpy(matrix) for matrix in as_pair(features, reference)]
    smaller = min(map(len, pair))
    if not 2 <= subset_size <= smaller:
        raise StudyError(f"KID subsets of {subset_size} images: choose 2 to {smaller}")
    options = {"kid_subset_size": subset_size, "kid_subsets": subsets, "rng_seed": seed}
    result = kid_features_to_metric(*pair, **options, verbose=False)
    return (
        result["kernel_inception_distance_mean"],
        result["kernel_inception_distance_std"],
    )


def kernel_distance_interval(
    features: Matrix,
    reference: Matrix,
    *,
    groups: int = 20,
    confidence: float = 0.95,
    seed: int = 0,
) -> tuple[float, float, float]:
    """Return KID over all images, without subsets, and the ends of its interval.

    The interval is a delete-one-group jackknife's (see `lib.evaluation.frechet`): the kernel is
    summed once for each pair of groups, in O((n + m)²·d) time, and each group left out in turn.
    """
    pair = as_pair(features, reference, 4, np.float64)
    groups = max(2, min(groups, min(map(len, pair)) // 2))
    rng = numpy_generator(seed, "kernel groups")
    parts = [matrix[index] for matrix in pair for index in random_groups(len(matrix), groups, rng)]
    sums = _kernel_sums(parts).reshape(2, groups, 2, groups)
    sizes = np.array([len(part) for part in parts]).reshape(2, groups)

    def unbiased(kept: np.ndarray) -> float:
        """Return the unbiased estimate of MMD² from the groups that are `kept (groups,) bool`."""
        n, m = sizes[:, kept].sum(axis=1)
        kernels = sums[:, kept][:, :, :, kept].sum(axis=(1, 3))
        within = kernels[0, 0] / (n * (n - 1)) + kernels[1, 1] / (m * (m - 1))
        return float(within - 2 * kernels[0, 1] / (n * m))

    whole = unbiased(np.full(groups, True))
    without = np.array([[unbiased(np.arange(groups) != group)] for group in range(groups)])
    low, high = jackknife_interval(np.array([whole]), without, confidence)
    return whole, float(low[0]), float(high[0])


def _kernel_sums(parts: list[np.ndarray]) -> np.ndarray:
    """Return kernel sums `(k, k)` between parts `(n, d)`; no image's kernel with itself counts."""
    sums = np.zeros((len(parts), len(parts)))
    for i, first in enumerate(progress(parts, "KID interval", unit="group")):
        sums[i, i] = -(((first**2).mean(axis=1) + 1) ** 3).sum()
        for j, second in enumerate(parts[: i + 1]):
            for rows in gen_batches(len(first), BLOCK):  # scikit-learn's default kernel is KID's
                sums[i, j] += polynomial_kernel(first[rows], second, degree=3, coef0=1).sum()
            sums[j, i] = sums[i, j]
    return sums
