"""Neighbours in a space of features or pixels: precision, recall, copies, diversity, maps."""

import math

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment
from scipy.spatial.distance import cdist, pdist, squareform
from sklearn.manifold import TSNE
from sklearn.metrics import pairwise_distances_argmin_min
from sklearn.neighbors import NearestNeighbors
from torch_fidelity.metric_prc import prc_features_to_metric

from lib.common.errors import StudyError
from lib.evaluation.matrices import Matrix, as_matrix, as_pair

PERPLEXITY = 30.0  # of t-SNE
BLOCK = 1000  # rows whose distances to all others are held at once
NEAR_COPY = 0.5
"""An image is a near copy where its `copy_ratios` is below this; for new images it is about 1."""


def precision_recall(
    features: Matrix, reference: Matrix, *, neighbours: int = 3
) -> tuple[float, float]:
    """Return precision and recall of features `(n, d)` against `(m, d)`, by torch-fidelity.

    Precision is the share of `features` within the ball of some reference row, which reaches to
    its neighbour number `neighbours` in the reference; recall the same with the roles changed
    (Kynkäänniemi et al. 2019). No n × m matrix is held.
    """
    pair = [torch.from_numpy(matrix) for matrix in as_pair(features, reference)]
    fewest = min(map(len, pair))
    if fewest <= neighbours:
        raise StudyError(f"{fewest} images are too few for {neighbours} neighbours: take more")
    options = {"prc_neighborhood": neighbours, "prc_batch_size": BLOCK, "save_cpu_ram": True}
    found = prc_features_to_metric(*pair, **options, verbose=False)
    n, m = map(len, pair)  # shares are rounded to float32 there
    return round(found["precision"] * n) / n, round(found["recall"] * m) / m


def nearest_neighbours(features: Matrix, reference: Matrix) -> tuple[np.ndarray, np.ndarray]:
    """Return, for each row, the index of the nearest reference row and its Euclidean distance."""
    return pairwise_distances_argmin_min(*as_pair(features, reference, least=1))


def copy_ratios(points: Matrix, training: Matrix) -> np.ndarray:
    """Return how much nearer points `(n, d)` lie to a training row than training rows to another.

    The distance to the nearest row of `training (m, d)`, divided by the distance of that row to
    *its* nearest other row: a new image of the same kind has about 1, a copy about 0. Taking the
    spacing of the training images there makes it independent of the unit and of how crowded the
    place is; rows that have a twin count as spaced by a tenth of the median.
    """
    points, training = as_pair(points, as_matrix(training, "training images"), least=1)
    search = NearestNeighbors(algorithm="brute").fit(training)
    distance, index = (found[:, 0] for found in search.kneighbors(points, 1))
    found, where = np.unique(index, return_inverse=True)
    spacing = search.kneighbors(training[found], 2)[0][:, 1]
    floor = max(0.1 * float(np.median(spacing)), np.finfo(np.float64).tiny)
    return distance / np.maximum(spacing[where], floor)


def pairwise_distance(points: Matrix) -> float:
    """Return the mean Euclidean distance over all pairs of different rows of `(n, d)`, n ≥ 2.

    As in LPIPS diversity scores, here between an extractor's features. n²/2 distances are held.
    """
    return float(pdist(as_matrix(points, "points")).mean())


def nearest_spacing(points: Matrix) -> float:
    """Return the median distance of rows `(n, d)` to their nearest other row, n ≥ 2."""
    search = NearestNeighbors(n_neighbors=1).fit(as_matrix(points, "points"))
    return float(np.median(search.kneighbors()[0]))


def distinct_share(points: Matrix, radius: float) -> float:
    """Return the share of rows `(n, d)` that no earlier row lies within `radius` of."""
    near = squareform(pdist(as_matrix(points, "points")) <= radius)
    return 1 - float(np.tril(near).any(axis=1).mean())


def by_class(measure, points: np.ndarray, labels: np.ndarray, classes: int, *options) -> np.ndarray:
    """Return `measure` of the points of each class `(classes,)`; NaN for fewer than two.

    Each of `options (classes,)` holds a further argument of it.
    """
    parts = zip((points[labels == label] for label in range(classes)), *options, strict=True)
    return np.array([measure(*part) if len(part[0]) > 1 else np.nan for part in parts])


def tsne_map(features: Matrix, seed: int = 0) -> np.ndarray:
    """Return positions `(n, 2)` in [0, 1] of features `(n, d)` (van der Maaten & Hinton 2008).

    Any n ≥ 1: the perplexity is lowered for few images, and fewer than 4 lie in a row.
    """
    features = as_matrix(features, "features", least=1).astype(np.float64)
    n = len(features)
    if n < 4:
        return np.column_stack([(np.arange(n) + 0.5) / n, np.full(n, 0.5)])
    varied = features.shape[1] > 1 and np.ptp(features, axis=0).max() > 0
    tsne = TSNE(
        perplexity=min(PERPLEXITY, (n - 1) / 3),
        init="pca" if varied else "random",
        random_state=seed % 2**32,
    )
    positions = tsne.fit_transform(features).astype(np.float64)
    span = np.maximum(np.ptp(positions, axis=0), np.finfo(np.float64).tiny)
    return (positions - positions.min(axis=0)) / span


def grid_cells(positions: np.ndarray, aspect: float = 1.0) -> tuple[np.ndarray, tuple[int, int]]:
    """Return a cell `(n, 2)` (row, column) for each position `(n, 2)`, and the grid's shape.

    Each cell takes one image at most, and the images move as little as possible in all (linear
    assignment of squared distances). `aspect` is columns over rows; cells left over stay empty.
    """
    n = len(positions)
    columns = max(1, math.ceil(math.sqrt(n * aspect)))
    rows = math.ceil(n / columns)
    row, column = np.divmod(np.arange(rows * columns), columns)
    centres = np.column_stack([(column + 0.5) / columns, (row + 0.5) / rows])
    chosen = linear_sum_assignment(cdist(positions, centres, "sqeuclidean"))[1]
    return np.column_stack([row[chosen], column[chosen]]), (rows, columns)
