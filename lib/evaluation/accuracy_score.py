"""Classification accuracy score: train on synthetic images, test on real ones."""

import shutil
from pathlib import Path

import pandas as pd

from lib.classifiers.options import ClassifierOptions
from lib.classifiers.training import accuracy, load_classifier, predict, train_classifier
from lib.common.files import write_text
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
    for index, (name, folder) in enumerate(sets.items()):
        samples = SampleSet.load(folder)
        smallest = min((samples.labels == k).sum() for k in range(len(samples.class_names)))
        work = out / f"{index}"
        if not (work / "network").exists():
            first_per_class(samples, min(per_class, smallest)).save(work / "images")
            (work / "training").mkdir(exist_ok=True)
            given = {"name": name, "seed": seed, "options": options, "device": device}
            train_classifier(work / "training", real=work / "images", **given)
            (work / "training").rename(work / "network")
        logits = predict(load_classifier(work / "network", device), real.images)
        score = accuracy(logits, real.labels)
        low, high = wilson_interval(round(score * len(real)), len(real), confidence=confidence)
        row = {"trained on": name, "n": len(samples.class_names) * min(per_class, smallest)}
        rows.append(row | {"n_test": len(real), "score": score, "low": low, "high": high})
    for index in range(len(sets)):
        shutil.rmtree(out / f"{index}")
    write_text(out / SCORES, pd.DataFrame(rows).to_csv(index=False, float_format="%.6g"))
