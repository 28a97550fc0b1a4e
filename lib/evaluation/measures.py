"""FID, IS, KID, precision and recall of features and logits, with intervals.

Such numbers depend on the number of images, the split, the extractor and the resizing: none may
be compared with a number that differs in one of them.
"""

from lib.common.errors import StudyError
from lib.common.statistics import wilson_interval
from lib.evaluation.frechet import frechet_estimate
from lib.evaluation.inception_score import inception_score, inception_score_interval
from lib.evaluation.kid import kernel_distance, kernel_distance_interval
from lib.evaluation.matrices import Matrix, as_matrix, as_pair
from lib.evaluation.neighbours import precision_recall


def fidelity(
    features: Matrix,
    reference: Matrix,
    logits: Matrix | None = None,
    *,
    kid_subset_size: int = 1000,
    kid_subsets: int = 100,
    neighbours: int = 3,
    seed: int = 0,
    groups: int = 20,
    confidence: float = 0.95,
) -> dict[str, float]:
    """Return FID, IS, KID, precision and recall of `features (n, d)` against `reference (m, d)`.

    `logits (n, classes)` give the inception score; without them it is left out. Values are those
    of torch-fidelity on the same matrices, in their precision (FID always in float64); give
    float64 for full digits. `kid_subset_size` is lowered to n or m where these are smaller. Keys
    `<value>_low` and `<value>_high` are the ends of intervals: for FID, FID at infinite n and KID
    of a jackknife over `groups` groups, for IS of its ten disjoint parts, for precision and recall
    Wilson's with the neighbourhoods held fixed.
    """
    features, reference = as_pair(features, reference)
    fewest = min(len(features), len(reference))
    if fewest <= neighbours:
        raise StudyError(f"{fewest} images are too few for {neighbours} neighbours: take more")
    if logits is not None and len(as_matrix(logits, "logits")) != len(features):
        raise StudyError(f"{len(logits)} rows of logits for {len(features)} of features")
    draws = seed % 2**32  # as torch-fidelity's rng_seed
    options = {"groups": groups, "confidence": confidence, "seed": seed}
    result = vars(frechet_estimate(features, reference, **options)).copy()
    if logits is not None:
        result |= _score(logits, draws, confidence)
    mean, std = kernel_distance(
        features,
        reference,
        subset_size=min(kid_subset_size, fewest),
        subsets=kid_subsets,
        seed=draws,
    )
    whole, low, high = kernel_distance_interval(features, reference, **options)
    result |= {"kid_mean": mean, "kid_std": std, "kid": whole, "kid_low": low, "kid_high": high}
    return result | _shares(features, reference, neighbours, confidence)


def _score(logits: Matrix, seed: int, confidence: float) -> dict[str, float]:
    mean, std = inception_score(logits, seed=seed)
    low, high = inception_score_interval(mean, std, confidence=confidence)
    return {"is_mean": mean, "is_std": std, "is_low": low, "is_high": high}


def _shares(features, reference, neighbours: int, confidence: float) -> dict[str, float]:
    values = precision_recall(features, reference, neighbours=neighbours)
    result = {}
    for name, value, n in zip(
        ("precision", "recall"), values, (len(features), len(reference)), strict=True
    ):
        low, high = wilson_interval(round(value * n), n, confidence=confidence)
        result |= {name: value, f"{name}_low": low, f"{name}_high": high}
    return result
