"""Checks of feature and logit matrices before anything is computed from them."""

import numpy as np
import torch

from lib.common.errors import StudyError

Matrix = torch.Tensor | np.ndarray


def as_matrix(values: Matrix, name: str, least: int = 2) -> torch.Tensor:
    """Return `values (n, d)` as a floating-point tensor on the CPU, its precision kept.

    Raises:
        StudyError: it is no matrix, has fewer than `least` rows, or holds NaN or infinity.
    """
    matrix = torch.as_tensor(values).detach().cpu()
    if matrix.ndim != 2 or matrix.shape[1] == 0:
        raise StudyError(f"{name} have shape {tuple(matrix.shape)}: give a matrix (n, d)")
    if len(matrix) < least:
        raise StudyError(f"{name} are of {len(matrix)} images: {least} are needed at least")
    if matrix.dtype not in (torch.float32, torch.float64):
        matrix = matrix.double()
    suspects = (~torch.isfinite(matrix.sum(dim=1))).nonzero().flatten()  # sums may overflow, too
    bad = suspects[~torch.isfinite(matrix[suspects]).all(dim=1)]
    if len(bad):
        raise StudyError(f"{name} hold NaN or infinity, first in row {bad[0].item()}: mend them")
    return matrix


def as_pair(features: Matrix, reference: Matrix, least: int = 2) -> tuple[torch.Tensor, ...]:
    """Return two checked matrices `(n, d)` and `(m, d)` of one precision, the finer of theirs."""
    first = as_matrix(features, "features", least)
    second = as_matrix(reference, "reference features", least)
    if first.shape[1] != second.shape[1]:
        raise StudyError(
            f"features have {first.shape[1]} columns, reference features {second.shape[1]}: "
            "take both from one extractor"
        )
    dtype = torch.promote_types(first.dtype, second.dtype)
    return first.to(dtype), second.to(dtype)


def random_groups(n: int, groups: int, rng: np.random.Generator) -> list[np.ndarray]:
    """Split the indices 0 … n - 1 at random into groups of sizes that differ by one at most."""
    return [np.sort(part) for part in np.array_split(rng.permutation(n), groups)]
