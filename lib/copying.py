"""Does a generator copy its training images?"""

import numpy as np

from lib.matrices import Matrix, as_pair
from lib.neighbours import nearest_neighbours, neighbour_distances

NEAR_COPY = 0.5
"""An image is a near copy where its `copy_ratios` is below this; for new images it is about 1."""


def copy_ratios(points: Matrix, training: Matrix) -> np.ndarray:
    """Return how much nearer points `(n, d)` lie to a training row than training rows to another.

    The distance to the nearest row of `training (m, d)`, divided by the distance of that row to
    *its* nearest other row: a new image of the same kind has about 1, a copy about 0. Taking the
    spacing of the training images there makes it independent of the unit and of how crowded the
    place is; rows that have a twin count as spaced by a tenth of the median.
    """
    points, training = as_pair(points, training, least=1)
    index, distance = nearest_neighbours(points, training)
    found, where = np.unique(index, return_inverse=True)
    spacing = neighbour_distances(training[found], training, 1).numpy()
    floor = max(0.1 * float(np.median(spacing)), np.finfo(np.float64).tiny)
    return distance / np.maximum(spacing[where], floor)
