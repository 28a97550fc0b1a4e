"""Scores of sets that are made or trained for them: what they teach, what truncation changes."""

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

from lib.classifiers.options import ClassifierOptions
from lib.classifiers.training import WEIGHTS, accuracy, load_classifier, predict, train_classifier
from lib.common.files import write_csv
from lib.common.statistics import wilson_interval
from lib.data.samples import SampleSet
from lib.evaluation.features import FeatureSet, extract_features, first_per_class
from lib.evaluation.measures import compare
from lib.evaluation.neighbours import by_class, pairwise_distance
from lib.teacher.options import SamplingOptions
from lib.teacher.sampling import sample_teacher

SCORES, CURVE = "scores.csv", "truncation.csv"


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


def truncation_curve(
    out: Path,
    *,
    teacher: Path,
    evaluator: Path,
    real: Path,
    psis: list[float],
    sampling: SamplingOptions,
    extractor: str,
    seed: int,
    device: str = "cpu",
    **options,
) -> None:
    """Measure the teacher's images at several truncation psi; write `truncation.csv` into `out`.

    Psi moves each intermediate latent towards their mean, w̄ + psi (w - w̄): below 1 images are
    more typical and less varied (Karras et al. 2019). Every psi takes the same latents and, as
    `sampling` says but for its psi, as many images a class. `real` is the folder of the real
    training images' features, `options` are those of `lib.evaluation.measures.compare`.
    """
    reference, rows = FeatureSet.load(real), []
    classes = len(reference.class_names)
    one_shard = replace(sampling, shard_size=sampling.per_class * classes)
    for psi in psis:
        work, drawing = out / f"psi-{psi:g}", replace(one_shard, truncation=psi)
        sample_teacher(work / "images", teacher=teacher, seed=seed, options=drawing, device=device)
        extract_features(
            work, samples=work / "images", evaluator=evaluator, extractor=extractor, device=device
        )
        found = FeatureSet.load(work)
        row = compare("teacher", found, "real train", reference, seed=seed, **options)
        distances = by_class(pairwise_distance, found.features, found.labels, classes)
        rows.append({"psi": psi} | row | {"diversity": distances.mean()})
    for psi in psis:
        shutil.rmtree(out / f"psi-{psi:g}")
    write_csv(out / CURVE, pd.DataFrame(rows))
