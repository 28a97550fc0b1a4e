"""The evaluation's tables: each set of images against the real ones, over all and per class."""

from pathlib import Path

import numpy as np
import pandas as pd

from lib.common.errors import StudyError
from lib.common.files import write_text
from lib.common.statistics import wilson_interval
from lib.evaluation.features import FeatureSet
from lib.evaluation.measures import fidelity

REAL = ("real train", "real test")
METRICS, PER_CLASS = "metrics.csv", "per_class.csv"
FEW = 3


def evaluate(
    out: Path,
    *,
    features: dict[str, Path],
    kid_subset_size: int,
    kid_subsets: int,
    neighbours: int,
    groups: int,
    confidence: float,
    seed: int,
) -> None:
    """Compare sets of images with the real ones; write `metrics.csv` and `per_class.csv` in `out`.

    `features` maps names to folders of `extract_features`: `real train`, `real test` and the sets
    to judge, such as `teacher` and `student`. All must come from one extractor. The real test
    images are measured against the real training images, as the figure that a perfect generator
    would reach, each set against both, and each later set against the first, its teacher. Every
    row states set, class, what it is compared with, both numbers of images, extractor and
    resizing. Raises `StudyError` where a real set is missing or extractors differ.
    """
    sets = {name: FeatureSet.load(folder) for name, folder in features.items()}
    options = {"kid_subset_size": kid_subset_size, "kid_subsets": kid_subsets}
    options |= {"neighbours": neighbours, "groups": groups, "confidence": confidence, "seed": seed}
    _check(sets)
    pairs = comparisons(list(sets))
    rows = [compare(name, sets[name], other, sets[other], **options) for name, other in pairs]
    write_text(out / METRICS, pd.DataFrame(rows).to_csv(index=False, float_format="%.6g"))
    rows = [
        compare(name, sets[name], other, sets[other], label=label, **options)
        for name, other in pairs
        for label in range(len(sets[name].class_names))
    ]
    write_text(out / PER_CLASS, pd.DataFrame(rows).to_csv(index=False, float_format="%.6g"))


def comparisons(names: list[str]) -> list[tuple[str, str]]:
    """Return which set is compared with which."""
    made = [name for name in names if name not in REAL]
    pairs = [(REAL[1], REAL[0])] + [(name, real) for name in made for real in REAL]
    return pairs + [(name, made[0]) for name in made[1:]]


def compare(
    name: str,
    measured: FeatureSet,
    against: str,
    reference: FeatureSet,
    label: int | None = None,
    *,
    confidence: float,
    **options,
) -> dict:
    """Return one row: `measured` against `reference`, over all classes or within one.

    Within a class there is no inception score, which rewards a variety of classes, and where either
    set has `FEW` images of it or fewer, or not more than `neighbours`, none of the other figures.
    """
    row = {"set": name, "against": against, "class": "all"}
    logits = measured.logits
    if label is not None:
        row["class"] = measured.class_names[label]
        measured, reference = measured.of_class(label), reference.of_class(label)
        logits = None
    row |= {"n": len(measured), "n_against": len(reference)}
    row |= {key: measured.info[key] for key in ("extractor", "resizing")}
    few = min(len(measured), len(reference)) <= max(FEW, options["neighbours"])
    if label is None or not few:
        pair = [part.features.astype(np.float64) for part in (measured, reference)]
        row |= fidelity(*pair, logits, confidence=confidence, **options)
    right = int((measured.predicted == measured.labels).sum())
    low, high = wilson_interval(right, len(measured), confidence=confidence)
    agreement = {"label_agreement": right / max(len(measured), 1)}
    return row | agreement | {"label_agreement_low": low, "label_agreement_high": high}


def _check(sets: dict[str, FeatureSet]) -> None:
    missing = [name for name in REAL if name not in sets]
    if missing or len(sets) < 3:
        raise StudyError(f"features of {' and '.join(missing or ['a set to judge'])} are missing")
    for key in ("extractor", "resizing", "class_names"):
        if any(features.info[key] != sets[REAL[0]].info[key] for features in sets.values()):
            raise StudyError(f"the sets' features differ in {key}: take all from one extractor")
