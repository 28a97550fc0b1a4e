"""FID, IS, KID, precision and recall of sets of images, with intervals; the evaluation's tables.

Such numbers depend on the number of images, the split, the extractor and the resizing: none may
be compared with a number that differs in one of them.
"""

import math
from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from scipy import stats
from torch_fidelity.metric_isc import isc_features_to_metric

from lib.common.errors import StudyError
from lib.common.files import write_csv
from lib.common.seeds import numpy_generator
from lib.common.statistics import wilson_interval
from lib.evaluation.distances import frechet_estimate, kernel_estimate
from lib.evaluation.features import FeatureSet
from lib.evaluation.matrices import Matrix, as_matrix
from lib.evaluation.neighbours import precision_recall

REAL = ("real train", "real test")
METRICS, PER_CLASS = "metrics.csv", "per_class.csv"
FEW = 3  # images of a class, or fewer, have no measures of their own
MOST = 10_000  # rows that KID, precision and recall look at
PARTS = 10  # disjoint parts of the images that the inception score is taken on


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
    `<value>_low` and `<value>_high` are the ends of intervals: for FID and FID at infinite n of an
    infinitesimal jackknife, for KID of a jackknife over `groups` groups, for IS of its ten disjoint
    parts, for precision and recall Wilson's with the neighbourhoods held fixed. These two and KID
    look at at most `MOST` rows of either, drawn at random: their time grows with the square.
    """
    n = len(features)
    near = [_at_most(MOST, rows, seed, k) for k, rows in enumerate((features, reference))]
    shares = precision_recall(*near, neighbours=neighbours)
    options = {"groups": groups, "confidence": confidence, "seed": seed}
    result = frechet_estimate(features, reference, confidence=confidence, seed=seed)
    if logits is not None:
        if len(logits) != n:
            raise StudyError(f"{len(logits)} rows of logits for {n} of features")
        mean, std = inception_score(logits, seed=seed)
        reach = stats.t.ppf((1 + confidence) / 2, PARTS - 1) * std / math.sqrt(PARTS - 1)
        result |= {"is_mean": mean, "is_std": std, "is_low": mean - reach, "is_high": mean + reach}
    result |= kernel_estimate(*near, subset_size=kid_subset_size, subsets=kid_subsets, **options)
    for name, share, rows in zip(("precision", "recall"), shares, near, strict=True):
        result |= _share(name, round(share * len(rows)), len(rows), confidence)
    return result


def _at_most(most: int, rows: Matrix, *seed: int) -> np.ndarray:
    """Return so many rows of a matrix, drawn by the seed and in their order, or all."""
    rows = np.asarray(rows)
    chosen = numpy_generator(seed[0], "rows looked at", *seed[1:]).permutation(len(rows))[:most]
    return rows if len(rows) <= most else rows[np.sort(chosen)]


def inception_score(logits: Matrix, *, seed: int) -> tuple[float, float]:
    """Return mean and standard deviation of IS over `PARTS` disjoint parts of the images.

    `logits (n, classes)`; n ≥ `PARTS`. IS is exp of the mean divergence between an image's
    predicted classes and those of all, 1 … classes (Salimans et al. 2016). `seed` shuffles the
    images. IS grows with the number of images in a part: compare equal n only.
    """
    logits = as_matrix(logits, "logits", least=PARTS)
    result = isc_features_to_metric(torch.from_numpy(logits), splits=PARTS, rng_seed=seed % 2**32)
    return result["inception_score_mean"], result["inception_score_std"]


def evaluate(out: Path, *, features: dict[str, Path], **options) -> None:
    """Compare sets of images with the real ones; write `metrics.csv` and `per_class.csv` in `out`.

    `features` maps names to folders of `extract_features`: `real train`, `real test` and the sets
    to judge, such as `teacher` and `student`. All must come from one extractor. The real test
    images are measured against the real training images, as the figure that a perfect generator
    would reach, each set against both, and each later set against the first, its teacher. Every
    row states set, class, what it is compared with, both numbers of images, extractor and
    resizing. `options` are those of `fidelity`.
    """
    sets = {name: FeatureSet.load(folder) for name, folder in features.items()}
    made = [name for name in sets if name not in REAL]
    missing = [name for name in REAL if name not in sets] or ([] if made else ["a set to judge"])
    if missing:
        raise StudyError(f"features of {' and '.join(missing)} are missing")
    for key in ("extractor", "resizing", "class_names"):
        if any(found.info[key] != sets[REAL[0]].info[key] for found in sets.values()):
            raise StudyError(f"the sets' features differ in {key}: take all from one extractor")
    pairs = [(REAL[1], REAL[0]), *product(made, REAL), *product(made[1:], made[:1])]
    whole, by_class = [], []
    for name, other in pairs:
        pair = name, sets[name], other, sets[other]
        whole.append(compare(*pair, **options))
        labels = range(len(sets[name].class_names))
        by_class += [compare(*pair, label, **options) for label in labels]
    write_csv(out / METRICS, pd.DataFrame(whole))
    write_csv(out / PER_CLASS, pd.DataFrame(by_class))


def compare(
    name: str,
    measured: FeatureSet,
    against: str,
    reference: FeatureSet,
    label: int | None = None,
    *,
    neighbours: int = 3,
    confidence: float = 0.95,
    **options,
) -> dict:
    """Return one row: `measured` against `reference`, over all classes or within one.

    Within a class there is no inception score, which rewards a variety of classes, and no KID over
    subsets, which takes the longest; where either set has `FEW` images of it or fewer, or not more
    than `neighbours`, none of the other figures.
    """
    row = {"set": name, "against": against, "class": "all"}
    pair, logits = [measured, reference], measured.logits
    if label is not None:
        row["class"], logits = measured.class_names[label], None
        options |= {"kid_subsets": 0}
        pair = [part.subset(np.flatnonzero(part.labels == label)) for part in pair]
    measured, (n, m) = pair[0], map(len, pair)
    row |= {"n": n, "n_against": m}
    row |= {key: measured.info[key] for key in ("extractor", "distance", "resizing")}
    if label is None or min(n, m) > max(FEW, neighbours):
        matrices = [part.features.astype(np.float64) for part in pair]
        options |= {"neighbours": neighbours, "confidence": confidence}
        row |= fidelity(*matrices, logits, **options)
    right = int((measured.predicted == measured.labels).sum())
    return row | _share("label_agreement", right, n, confidence)


def _share(name: str, count: int, n: int, confidence: float) -> dict[str, float]:
    low, high = wilson_interval(count, n, confidence=confidence)
    return {name: count / max(n, 1), f"{name}_low": low, f"{name}_high": high}
