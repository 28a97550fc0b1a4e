"""Classification accuracy score: train on synthetic images, test on real ones."""

import shutil
from pathlib import Path

import numpy as np
import pandas as pd

from lib.classifiers.options import ClassifierOptions
from lib.classifiers.training import (
    WEIGHTS,
    accuracy,
    load_classifier,
    predict,
    train_classifier,
)
from lib.common.files import write_csv
from lib.common.statistics import wilson_interval
from lib.data.samples import SampleSet
from lib.evaluation.features import first_per_class

SCORES = "scores.csv"


def classification_accuracy_scores(
    out: Path,
    *,
    sets: dict[str, Path],
    test: Path,
    per_class: int,
    confidence: float,
    name: str,
    seed: int,
    options: ClassifierOptions,
    device: str = "cpu",
) -> None:
    """Train `name` on each of `sets` and test it on the real images; write `scores.csv`.

    The score says how much of what a classifier needs the images teach (Ravuri & Vinyals 2019);
    name the real training images among the sets to have its yardstick. At most `per_class` images
    a class are taken of each set, the first. An interrupted run keeps the classifiers that it has
    trained.
    """
    real, rows = SampleSet.load(test), []
    for index, (source, folder) in enumerate(sets.items()):
        samples, work = SampleSet.load(folder), out / f"{index}"
        each = min(per_class, np.bincount(samples.labels, minlength=len(samples.class_names)).min())
        if not (work / WEIGHTS).exists():
            first_per_class(samples, each).save(work / "images")
            training = {"name": name, "seed": seed, "options": options, "device": device}
            train_classifier(work, real=work / "images", **training)
        score = accuracy(predict(load_classifier(work, device), real.images), real.labels)
        low, high = wilson_interval(round(score * len(real)), len(real), confidence=confidence)
        row = {"trained on": source, "n": len(samples.class_names) * each, "n_test": len(real)}
        rows.append(row | {"score": score, "low": low, "high": high})
    for index in range(len(sets)):
        shutil.rmtree(out / f"{index}")
    write_csv(out / SCORES, pd.DataFrame(rows))
