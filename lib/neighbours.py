"""Nearest neighbours in feature space: precision, recall, copies. Distances block by block."""

from collections.abc import Iterator

import numpy as np
import torch

from lib.errors import StudyError
from lib.matrices import Matrix, as_pair
from lib.progress import progress

BLOCK_ELEMENTS = 2**24  # distances that are held at once


def precision_recall(
    features: Matrix, reference: Matrix, *, neighbours: int = 3
) -> tuple[float, float]:
    """Return precision and recall of features `(n, d)` against `(m, d)`.

    Precision is the share of `features` within the ball of some reference row, which reaches to
    its neighbour number `neighbours` in the reference; recall the same with the roles changed
    (Kynkäänniemi et al. 2019). The figures are torch-fidelity's; no n × m matrix is held.
    """
    features, reference = as_pair(features, reference)
    precision = _share_within(features, reference, neighbours, "precision")
    return precision, _share_within(reference, features, neighbours, "recall")


def neighbour_distances(
    some: torch.Tensor, rows: torch.Tensor, neighbour: int, desc: str = ""
) -> torch.Tensor:
    """Return, for `some` of the `rows (n, d)`, the distance to their neighbour no. `neighbour`.

    Raises `StudyError` where there are not so many others.
    """
    if len(rows) <= neighbour:
        raise StudyError(f"{len(rows)} images are too few for {neighbour} neighbours: take more")
    blocks = distance_blocks(some, rows, desc)
    return torch.cat([_kth(block, neighbour + 1) for block in blocks])


def nearest_neighbours(features: Matrix, reference: Matrix) -> tuple[np.ndarray, np.ndarray]:
    """Return, for each row, the index of the nearest reference row and its Euclidean distance."""
    features, reference = as_pair(features, reference, least=1)
    found = [block.min(dim=1) for block in distance_blocks(features, reference)]
    index = torch.cat([nearest.indices for nearest in found])
    return index.numpy(), torch.cat([nearest.values for nearest in found]).numpy()


def distance_blocks(
    rows: torch.Tensor, columns: torch.Tensor, desc: str = ""
) -> Iterator[torch.Tensor]:
    """Yield Euclidean distances `(rows of a block, m)`, block by block; `desc` shows progress."""
    blocks = rows.split(max(1, BLOCK_ELEMENTS // len(columns)))
    for block in progress(blocks, desc, unit="block") if desc and len(blocks) > 1 else blocks:
        yield torch.cdist(block, columns)


def _share_within(points: torch.Tensor, centres: torch.Tensor, neighbours: int, desc: str) -> float:
    radius = neighbour_distances(centres, centres, neighbours, f"{desc}, radii")
    blocks = distance_blocks(points, centres, desc)
    return torch.cat([(block <= radius).any(dim=1) for block in blocks]).float().mean().item()


def _kth(block: torch.Tensor, k: int) -> torch.Tensor:
    """Return the k-th smallest value of each row; for small k much faster than `kthvalue`."""
    return block.topk(k, dim=1, largest=False).values[:, -1]
