"""Inception score of logits (IS), by torch-fidelity, with an interval."""

import math

from scipy import stats
from torch_fidelity.metric_isc import isc_features_to_metric

from lib.common.errors import StudyError
from lib.evaluation.matrices import Matrix, as_matrix

SPLITS = 10


def inception_score(logits: Matrix, *, seed: int, splits: int = SPLITS) -> tuple[float, float]:
    """Return mean and standard deviation of IS over `splits` disjoint parts of the images.

    `logits (n, classes)`; n ≥ splits. IS is exp of the mean divergence between an image's
    predicted classes and those of all, 1 … classes (Salimans et al. 2016). `seed`, below 2³²,
    shuffles the images. IS grows with the number of images in a part: compare equal n only.
    """
    logits = as_matrix(logits, "logits")
    if len(logits) < splits:
        raise StudyError(f"{len(logits)} images are too few for IS over {splits} parts: take more")
    result = isc_features_to_metric(logits, splits=splits, rng_seed=seed)
    return result["inception_score_mean"], result["inception_score_std"]


def inception_score_interval(
    mean: float, std: float, *, confidence: float = 0.95, splits: int = SPLITS
) -> tuple[float, float]:
    """Return the t interval for the mean of IS over disjoint parts: they are independent.

    `std` is torch-fidelity's, with divisor `splits`.
    """
    quantile = float(stats.t.ppf((1 + confidence) / 2, splits - 1))
    reach = quantile * std / math.sqrt(splits - 1)
    return mean - reach, mean + reach
