"""Feature and logit matrices: their checks, and what is computed from them once."""

from collections.abc import Callable, Hashable
from typing import Any

import numpy as np
import torch
from sklearn.utils import check_array

from lib.common.errors import StudyError


class Points:
    """A checked matrix `(n, d)` of features, and what was computed from it while it lives.

    Measures take it in place of a matrix: one that is compared with several is prepared once.
    """

    def __init__(self, matrix: np.ndarray) -> None:
        self.matrix = matrix
        self._kept: dict[Hashable, Any] = {}

    def __len__(self) -> int:
        return len(self.matrix)

    def kept(self, key: Hashable, compute: Callable[[], Any]) -> Any:
        """Return what `compute` gave when it was first asked for `key`."""
        if key not in self._kept:
            self._kept[key] = compute()
        return self._kept[key]


Matrix = torch.Tensor | np.ndarray | Points


def as_matrix(values: Matrix, name: str, least: int = 2) -> np.ndarray:
    """Return `values (n, d)` as an array, float32 where they are that, else float64.

    Raises `StudyError` where they are no matrix, have fewer than `least` rows, or hold NaN or
    infinity.
    """
    if isinstance(values, Points):
        values = values.matrix
    if isinstance(values, torch.Tensor):
        values = values.detach().cpu().numpy()
    try:
        return check_array(values, dtype=[np.float64, np.float32], ensure_min_samples=least)
    except ValueError as error:
        raise StudyError(f"{name}: {str(error).splitlines()[0].rstrip(':')}") from error


def as_pair(features: Matrix, reference: Matrix, least: int = 2) -> list[np.ndarray]:
    """Return two checked matrices `(n, d)` and `(m, d)` in the finer type of theirs."""
    first = as_matrix(features, "features", least)
    second = as_matrix(reference, "reference features", least)
    if first.shape[1] != second.shape[1]:
        raise StudyError(
            f"features have {first.shape[1]} columns, reference features {second.shape[1]}: "
            "take both from one extractor"
        )
    dtype = np.result_type(first, second)
    return [matrix.astype(dtype, copy=False) for matrix in (first, second)]


def as_points(features: Matrix, reference: Matrix, least: int = 2) -> list[Points]:
    """Return `as_pair` as `Points`: those that were given, where they need no other type."""
    pair = zip((features, reference), as_pair(features, reference, least), strict=True)
    return [
        given
        if isinstance(given, Points) and given.matrix.dtype == matrix.dtype
        else Points(matrix)
        for given, matrix in pair
    ]
