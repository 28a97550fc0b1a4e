"""Feature and logit matrices: their checks."""

import numpy as np
import torch
from sklearn.utils import check_array

from lib.common.errors import StudyError

Matrix = torch.Tensor | np.ndarray


def as_matrix(values: Matrix, name: str, least: int = 2) -> np.ndarray:
    """Return `values (n, d)` as an array, float32 where they are that, else float64.

    Raises `StudyError` where they are no matrix, have fewer than `least` rows, or hold NaN or
    infinity.
    """
    if isinstance(values, torch.Tensor):
        values = values.detach().cpu().numpy()
    try:
        return check_array(values, dtype=[np.float64, np.float32], ensure_min_samples=least)
    except ValueError as error:
        raise StudyError(f"{name}: {str(error).splitlines()[0].rstrip(':')}") from error


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
