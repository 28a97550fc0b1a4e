"""How much do the images of a class differ from each other?

Two measures beside FID, which hardly notices a class of few images: the mean distance of pairs
(as in LPIPS diversity scores, here between an extractor's features), and how many images are
distinct.
"""

import numpy as np
import torch

from lib.evaluation.matrices import Matrix, as_matrix
from lib.evaluation.neighbours import distance_blocks, neighbour_distances


def pairwise_distance(points: Matrix) -> float:
    """Return the mean Euclidean distance over all pairs of different rows of `(n, d)`, n ≥ 2."""
    points = as_matrix(points, "points").double()
    total = sum(block.sum().item() for block in distance_blocks(points, points))
    return total / (len(points) * (len(points) - 1))


def nearest_spacing(points: Matrix) -> float:
    """Return the median distance of rows `(n, d)` to their nearest other row, n ≥ 2."""
    points = as_matrix(points, "points").double()
    return neighbour_distances(points, points, 1).median().item()


def distinct_share(points: Matrix, radius: float) -> float:
    """Return the share of rows `(n, d)` that no earlier row lies within `radius` of."""
    points = as_matrix(points, "points", least=1).double()
    distinct, start = 0, 0
    for block in distance_blocks(points, points):
        rows = torch.arange(start, start + len(block))[:, None]
        earlier = torch.arange(len(points))[None] < rows
        distinct += len(block) - int(((block <= radius) & earlier).any(dim=1).sum())
        start += len(block)
    return distinct / len(points)


def by_class(measure, points: np.ndarray, labels: np.ndarray, classes: int, least: int = 2):
    """Return `measure` of the points of each class `(classes,)`; NaN for fewer than `least`."""
    parts = [points[labels == label] for label in range(classes)]
    return np.array([measure(part) if len(part) >= least else np.nan for part in parts])
