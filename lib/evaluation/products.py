"""Inner products of all rows of two sets, taken once for KID, precision and recall alike."""

from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from sklearn.utils import gen_batches
from torch import Tensor

from lib.common.progress import progress
from lib.evaluation.matrices import Points

TILE = 1500  # rows and columns of the matrix of inner products that are held at once


@dataclass(frozen=True)
class Products:
    """Of two sets `(n, d)` and `(m, d)`, whose marks `(n, p)` and `(m, p)` are 0 or 1.

    `within` and `between` hold sums `(p, p)` of the kernel over the marked pairs, of different rows
    in each set and of one row from each. `inside` holds, for each set, which rows lie within the
    ball of some row of the other set, `(n,)` and `(m,) bool`.
    """

    within: list[np.ndarray]
    between: np.ndarray
    inside: list[np.ndarray]


def products(
    pair: list[Points], marks: Sequence[np.ndarray], neighbours: int, keys: Sequence[Hashable]
) -> Products:
    """Return sums of kernels, in float64, and who lies within whose balls.

    The ball of a row reaches to its neighbour number `neighbours` in its own set. What concerns one
    set alone is kept there under the key of its marks. Products are taken in the type of the
    features.
    """
    marks = [torch.from_numpy(mark) for mark in marks]
    own = [
        points.kept((key, neighbours), lambda p=points, m=mark: _own(p.matrix, m, neighbours))
        for points, mark, key in zip(pair, marks, keys, strict=True)
    ]
    (within, radii), d, sums = zip(*own, strict=True), pair[0].matrix.shape[1], 0
    inside = [torch.zeros(len(points), dtype=torch.bool) for points in pair]
    for rows, columns, inner, squares in _tiles(pair[0].matrix, pair[1].matrix):
        inside[0][rows] |= (squares - radii[1][columns]).amin(1) <= 0
        inside[1][columns] |= (squares - radii[0][rows, None]).amin(0) <= 0
        sums = sums + _marked(inner, marks[0][rows], marks[1][columns], d)
    return Products(list(within), sums.numpy(), [part.numpy() for part in inside])


def kernel(inner: Tensor, d: int) -> Tensor:
    """Return KID's kernel (x·y / d + 1)³ of inner products."""
    return (inner / d).add_(1).pow_(3)


def _own(matrix: np.ndarray, marks: Tensor, neighbours: int) -> tuple[np.ndarray, Tensor]:
    """Return a set's sums `(p, p)` and squared radii `(n,)`; each pair of tiles is taken once."""
    norms, d = _norms(matrix), matrix.shape[1]
    nearest = torch.full((len(matrix), neighbours + 1), torch.inf, dtype=norms.dtype)
    sums = -(marks.double() * kernel(norms.double(), d)[:, None]).T @ marks.double()
    for rows, columns, inner, squares in _tiles(matrix, matrix, once=True):
        part = _marked(inner, marks[rows], marks[columns], d)
        _update(nearest[rows], squares)
        sums += part
        if rows != columns:
            _update(nearest[columns], squares.T)
            sums += part.T
    return sums.numpy(), nearest.amax(1)


def _tiles(
    first: np.ndarray, second: np.ndarray, once: bool = False
) -> Iterator[tuple[slice, slice, Tensor, Tensor]]:
    """Yield rows, columns, their inner products and squared distances.

    `once` leaves out those that are others' transposes, where both matrices are the same.
    """
    norms = [_norms(matrix) for matrix in (first, second)]
    for rows in progress(list(gen_batches(len(first), TILE)), "KID, precision", unit="tile"):
        for columns in gen_batches(len(second), TILE):
            if not (once and columns.start < rows.start):
                inner = torch.from_numpy(first[rows] @ second[columns].T)
                squares = torch.add(norms[1][columns], inner, alpha=-2).add_(norms[0][rows, None])
                yield rows, columns, inner, squares


def _norms(matrix: np.ndarray) -> Tensor:
    """Return the squared lengths of rows `(n,)`."""
    return torch.from_numpy(np.einsum("ij,ij->i", matrix, matrix))


def _marked(inner: Tensor, first: Tensor, second: Tensor, d: int) -> Tensor:
    """Return the sums `(p, p)` of the kernel of one tile in float64."""
    return first.T.double() @ (kernel(inner, d) @ second).double()


def _update(nearest: Tensor, squares: Tensor) -> None:
    """Keep in `nearest (n, k)` the smallest of it and `squares (n, m)` in each row."""
    found = torch.nonzero(squares.amin(1) < nearest.amax(1))[:, 0]
    both = torch.cat([nearest[found], squares[found]], dim=1)
    nearest[found] = both.topk(nearest.shape[1], dim=1, largest=False, sorted=False).values
