"""Does a generator copy its training images?"""

import numpy as np
import torch

from lib.evaluation.matrices import Matrix, as_pair
from lib.evaluation.neighbours import k_nearest, neighbour_distances

NEAR_COPY = 0.5
"""An image is a near copy where its `copy_ratios` is below this; for new images it is about 1."""


def copy_ratios(points: Matrix, training: Matrix, desc: str = "") -> np.ndarray:
    """Return how much nearer points `(n, d)` lie to a training row than training rows to another.

    The distance to the nearest row of `training (m, d)`, divided by the distance of that row to
    *its* nearest other row: a new image of the same kind has about 1, a copy about 0. Taking the
    spacing of the training images there makes it independent of the unit and of how crowded the
    place is; rows that have a twin count as spaced by a tenth of the median. Pixels are best given
    as bytes, which take a quarter of the memory.
    """
    points, training = _pair(points, training)
    distance, index = (found[:, 0].numpy() for found in k_nearest(points, training, 1, desc))
    found, where = np.unique(index, return_inverse=True)
    some = training[found].to(points.dtype)
    spacing = neighbour_distances(some, training, 1, desc and f"{desc}, spacing").numpy()
    floor = max(0.1 * float(np.median(spacing)), np.finfo(np.float64).tiny)
    return distance / np.maximum(spacing[where], floor)


def _pair(points: Matrix, training: Matrix) -> tuple[torch.Tensor, torch.Tensor]:
    if isinstance(training, np.ndarray) and training.dtype == points.dtype == np.uint8:
        return torch.from_numpy(points).float(), torch.from_numpy(training)
    return as_pair(points, training, least=1)
