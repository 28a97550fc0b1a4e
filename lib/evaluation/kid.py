"""Kernel distance of features (KID): torch-fidelity's estimate, and an interval.

KID is the squared maximum mean discrepancy with the kernel (x·y / d + 1)³ (Bińkowski et al. 2018).
Its estimate is unbiased at any n, so that sets of different size may be compared; near 0 it may
be negative.
"""

import numpy as np
from torch_fidelity.metric_kid import kid_features_to_metric

from lib.common.errors import StudyError
from lib.common.progress import progress
from lib.common.seeds import numpy_generator
from lib.evaluation.frechet import jackknife_interval
from lib.evaluation.matrices import Matrix, as_pair, random_groups

BLOCK = 1500  # rows and columns of the kernel matrix that are held at once
MOMENT_BYTES = 2**28  # for the third moments of all groups; beyond it kernels are summed singly


def kernel_distance(
    features: Matrix, reference: Matrix, *, subset_size: int = 1000, subsets: int = 100, seed: int
) -> tuple[float, float]:
    """Return mean and standard deviation of KID over random subsets, by torch-fidelity.

    Features `(n, d)` and `(m, d)` are taken in their own precision; `seed` below 2³² is the seed
    of torch-fidelity's draws. Raises `StudyError` where a set is smaller than a subset.
    """
    features, reference = as_pair(features, reference)
    smaller = min(len(features), len(reference))
    if not 2 <= subset_size <= smaller:
        raise StudyError(f"KID subsets of {subset_size} images: choose 2 to {smaller}")
    result = kid_features_to_metric(
        features,
        reference,
        kid_subset_size=subset_size,
        kid_subsets=subsets,
        rng_seed=seed,
        verbose=False,
    )
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
    summed once for each pair of groups, and each group left out in turn. With few features the sums
    come from third moments, in O((n + m)·d³) time; with many, in O((n + m)²·d), block by block.
    """
    pair = [matrix.double().numpy() for matrix in as_pair(features, reference, 4)]
    groups = max(2, min(groups, min(map(len, pair)) // 2))
    rng = numpy_generator(seed, "kernel groups")
    first, second = (
        [matrix[index] for index in random_groups(len(matrix), groups, rng)] for matrix in pair
    )
    sums = _group_sums(first, second)
    sizes = np.array([[len(part) for part in parts] for parts in (first, second)])
    whole = _unbiased(sums, sizes, np.full(groups, True))
    without = [_unbiased(sums, sizes, np.arange(groups) != group) for group in range(groups)]
    low, high = jackknife_interval(np.array([whole]), np.array(without)[:, None], confidence)
    return whole, float(low[0]), float(high[0])


def _group_sums(first: list[np.ndarray], second: list[np.ndarray]) -> np.ndarray:
    """Return kernel sums `(3, groups, groups)`: within first, within second, between them.

    An image's kernel with itself does not count.
    """
    groups, d = len(first), first[0].shape[1]
    by_moments = 2 * groups * (d + 1) ** 3 * 8 <= MOMENT_BYTES
    sums = (_moment_sums if by_moments else _block_sums)(first, second)
    for kind, parts in enumerate((first, second)):
        own = [_kernel(np.einsum("nd,nd->n", part, part), d).sum() for part in parts]
        sums[kind] -= np.diag(own)
    return sums


def _moment_sums(first: list[np.ndarray], second: list[np.ndarray]) -> np.ndarray:
    """Sum the kernel as the product of third moments: (x·y)³ = (x⊗x⊗x)·(y⊗y⊗y)."""
    a, b = (np.stack([_third_moments(part) for part in parts]) for parts in (first, second))
    return np.stack([a @ a.T, b @ b.T, a @ b.T])


def _third_moments(rows: np.ndarray) -> np.ndarray:
    """Return Σ x⊗x⊗x of rows `(n, d)`, to which the kernel's constant is added, flattened."""
    d = rows.shape[1]
    x = np.column_stack([rows / np.sqrt(d), np.ones(len(rows))])
    total = np.zeros(((d + 1) ** 2, d + 1))
    for start in range(0, len(x), BLOCK):
        block = x[start : start + BLOCK]
        total += np.einsum("na,nb->nab", block, block).reshape(len(block), -1).T @ block
    return total.ravel()


def _block_sums(first: list[np.ndarray], second: list[np.ndarray]) -> np.ndarray:
    groups = len(first)
    sums = np.zeros((3, groups, groups))
    for i in progress(range(groups), "KID interval", unit="group"):
        for j in range(groups):
            sums[2, i, j] = _kernel_sum(first[i], second[j])
            for kind, parts in enumerate((first, second)):
                if i <= j:
                    sums[kind, i, j] = sums[kind, j, i] = _kernel_sum(parts[i], parts[j])
    return sums


def _kernel_sum(first: np.ndarray, second: np.ndarray) -> float:
    return sum(
        float(_kernel(first[i : i + BLOCK] @ second[j : j + BLOCK].T, first.shape[1]).sum())
        for i in range(0, len(first), BLOCK)
        for j in range(0, len(second), BLOCK)
    )


def _kernel(products: np.ndarray, d: int) -> np.ndarray:
    base = products / d + 1
    return base * base * base


def _unbiased(sums: np.ndarray, sizes: np.ndarray, kept: np.ndarray) -> float:
    """Return the unbiased estimate of MMD² from the groups that are `kept (groups,) bool`."""
    n, m = sizes[:, kept].sum(axis=1)
    within_first, within_second, between = sums[:, kept][:, :, kept].sum(axis=(1, 2))
    return float(
        within_first / (n * (n - 1)) + within_second / (m * (m - 1)) - 2 * between / (n * m)
    )
