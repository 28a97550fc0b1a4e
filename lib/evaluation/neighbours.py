"""Nearest neighbours in feature space: precision, recall, copies. Distances block by block."""

from collections.abc import Iterator

import numpy as np
import torch

from lib.common.errors import StudyError
from lib.common.progress import progress
from lib.evaluation.matrices import Matrix, as_pair

BLOCK_ELEMENTS = 2**24  # distances that are held at once
BLOCK_COLUMNS = 2**13  # columns that distances are taken to at once


def precision_recall(
    features: Matrix, reference: Matrix, *, neighbours: int = 3
) -> tuple[float, float]:
    """Return precision and recall of features `(n, d)` against `(m, d)`.

    Precision is the share of `features` within the ball of some reference row, which reaches to
    its neighbour number `neighbours` in the reference; recall the same with the roles changed
    (Kynkäänniemi et al. 2019). The figures are torch-fidelity's; no n × m matrix is held.
    """
    features, reference = as_pair(features, reference)
    of_features = neighbour_distances(features, features, neighbours, "radii")
    of_reference = neighbour_distances(reference, reference, neighbours, "radii")
    precise, recalled, start = 0, torch.zeros(len(reference), dtype=torch.bool), 0
    for block in distance_blocks(features, reference, "precision, recall"):
        precise += (block <= of_reference).any(dim=1).sum().item()
        recalled |= (block <= of_features[start : start + len(block), None]).any(dim=0)
        start += len(block)
    return precise / len(features), recalled.double().mean().item()


def neighbour_distances(
    some: torch.Tensor, rows: torch.Tensor, neighbour: int, desc: str = ""
) -> torch.Tensor:
    """Return, for `some` of the `rows (n, d)`, the distance to their neighbour no. `neighbour`.

    Raises `StudyError` where there are not so many others.
    """
    if len(rows) <= neighbour:
        raise StudyError(f"{len(rows)} images are too few for {neighbour} neighbours: take more")
    return k_nearest(some, rows, neighbour + 1, desc)[0][:, -1]


def nearest_neighbours(features: Matrix, reference: Matrix) -> tuple[np.ndarray, np.ndarray]:
    """Return, for each row, the index of the nearest reference row and its Euclidean distance."""
    distances, index = k_nearest(*as_pair(features, reference, least=1), 1)
    return index[:, 0].numpy(), distances[:, 0].numpy()


def k_nearest(
    rows: torch.Tensor, columns: torch.Tensor, k: int, desc: str = ""
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the distances `(n, k)` of `rows` to their k nearest `columns (m, d)`, and the indices.

    Columns of bytes are converted to the rows' type block by block, never whole.
    """
    width = max(k, min(len(columns), BLOCK_COLUMNS))
    parts = [columns[start : start + width] for start in range(0, len(columns), width)]
    best = torch.full((len(rows), k), torch.inf, dtype=rows.dtype)
    index = torch.zeros((len(rows), k), dtype=torch.int64)
    for number, part in enumerate(progress(parts, desc, unit="block") if desc else parts):
        start = 0
        for block in distance_blocks(rows, part.to(rows.dtype)):
            near = block.topk(min(k, len(part)), dim=1, largest=False)
            there = slice(start, start + len(block))
            distances = torch.cat([best[there], near.values], dim=1)
            found = torch.cat([index[there], near.indices + number * width], dim=1)
            best[there], chosen = distances.topk(k, dim=1, largest=False)
            index[there] = found.gather(1, chosen)
            start += len(block)
    return best, index


def distance_blocks(
    rows: torch.Tensor, columns: torch.Tensor, desc: str = ""
) -> Iterator[torch.Tensor]:
    """Yield Euclidean distances `(rows of a block, m)`, block by block; `desc` shows progress."""
    blocks = rows.split(max(1, BLOCK_ELEMENTS // len(columns)))
    for block in progress(blocks, desc, unit="block") if desc and len(blocks) > 1 else blocks:
        yield torch.cdist(block, columns)
