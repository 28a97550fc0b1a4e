"""Feature and logit matrices: their checks, and the jackknife over random groups of rows."""

import numpy as np
import torch
from scipy import stats

from lib.common.errors import StudyError

Matrix = torch.Tensor | np.ndarray


def as_matrix(values: Matrix, name: str, least: int = 2) -> np.ndarray:
    """Return `values (n, d)` as an array, float32 where they are that, else float64.

    Raises `StudyError` where they are no matrix, have fewer than `least` rows, or hold NaN or
    infinity.
    """
    matrix = torch.as_tensor(values).detach().cpu()
    if matrix.ndim != 2 or matrix.shape[1] == 0:
        raise StudyError(f"{name} have shape {tuple(matrix.shape)}: give a matrix (n, d)")
    if len(matrix) < least:
        raise StudyError(f"{name} are of {len(matrix)} images: {least} are needed at least")
    matrix = matrix.numpy() if matrix.dtype == torch.float32 else matrix.double().numpy()
    finite = np.isfinite(matrix).all(axis=1)
    if not finite.all():
        raise StudyError(f"{name} hold NaN or infinity, first in row {finite.argmin()}: mend them")
    return matrix


def as_pair(
    features: Matrix, reference: Matrix, least: int = 2, dtype: type | None = None
) -> list[np.ndarray]:
    """Return two checked matrices `(n, d)` and `(m, d)` as `dtype`, or the finer type of theirs."""
    first = as_matrix(features, "features", least)
    second = as_matrix(reference, "reference features", least)
    if first.shape[1] != second.shape[1]:
        raise StudyError(
            f"features have {first.shape[1]} columns, reference features {second.shape[1]}: "
            "take both from one extractor"
        )
    dtype = dtype or np.result_type(first, second)
    return [matrix.astype(dtype, copy=False) for matrix in (first, second)]


def random_groups(n: int, groups: int, rng: np.random.Generator) -> list[np.ndarray]:
    """Split the indices 0 … n - 1 at random into groups of sizes that differ by one at most."""
    return [np.sort(part) for part in np.array_split(rng.permutation(n), groups)]


def jackknife_interval(
    whole: np.ndarray, without: np.ndarray, confidence: float = 0.95
) -> tuple[np.ndarray, np.ndarray]:
    """Return the t interval around estimates `(k,)` from those without each group `(groups, k)`.

    Variance: (g - 1)/g Σ (θ₋ᵢ - mean)², g - 1 degrees of freedom. One group or none: NaN.
    """
    groups = len(without)
    if groups < 2:
        return np.full_like(whole, np.nan), np.full_like(whole, np.nan)
    error = np.sqrt((groups - 1) * without.var(axis=0))
    reach = stats.t.ppf((1 + confidence) / 2, groups - 1) * error
    return whole - reach, whole + reach
