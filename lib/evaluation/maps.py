"""t-SNE of features, and its map laid onto a grid of images."""

import math

import numpy as np
from scipy.optimize import linear_sum_assignment
from scipy.spatial.distance import cdist
from sklearn.manifold import TSNE

from lib.evaluation.matrices import Matrix, as_matrix

PERPLEXITY = 30.0


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
    cost = cdist(positions, centres, "sqeuclidean")
    chosen = linear_sum_assignment(cost)[1]
    return np.column_stack([row[chosen], column[chosen]]), (rows, columns)
