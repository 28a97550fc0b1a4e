"""Can a fresh network tell two sets of images apart? (Lopez-Paz & Oquab 2017, arXiv 1610.06545).

A new classifier, which no generator was trained against, learns from one half of both sets which
set an image is of, and judges the other half. Its AUC is the chance that, of one image of each, it
finds the right one: 0.5 where the sets are alike, 1 where it always knows.
"""

import shutil
from pathlib import Path

import numpy as np
import pandas as pd
from scipy import stats
from sklearn.metrics import roc_auc_score

from lib.classifiers.options import ClassifierOptions
from lib.classifiers.training import WEIGHTS, load_classifier, predict, train_classifier
from lib.common.errors import StudyError
from lib.common.files import write_csv
from lib.common.seeds import numpy_generator
from lib.data.samples import SampleSet
from lib.evaluation.features import first_per_class

TABLE = "telling.csv"


def tell_apart(
    out: Path,
    *,
    samples: dict[str, Path],
    pairs: list[tuple[str, str]],
    per_class: int,
    name: str,
    options: ClassifierOptions,
    seed: int,
    confidence: float = 0.95,
    device: str = "cpu",
) -> None:
    """Write `telling.csv` into `out`: a row for each of the `pairs` of names of `samples`.

    Of each set `per_class` images of a class are taken, or as many as both sets of a pair have.
    The classifier `name` is trained anew for each pair by `options`. The interval is that of the
    judged images alone (Hanley & McNeil 1982), not of the training. An interrupted run keeps the
    classifiers that it has trained.
    """
    rows = []
    for first, second in pairs:
        sets = [SampleSet.load(samples[each]) for each in (first, second)]
        least = min(np.bincount(images.labels).min() for images in sets)
        sets = [first_per_class(images, min(per_class, least)) for images in sets]
        learnt, judged = zip(*(halves(images, seed) for images in sets), strict=True)
        if min(map(len, judged)) < 2:
            raise StudyError("telling apart needs four images of a set: raise the number taken")
        work = out / f"{first} {second}"
        if not (work / WEIGHTS).exists():
            both_sets(learnt, (first, second)).save(work / "images")
            training = {"name": name, "seed": seed, "options": options, "device": device}
            train_classifier(work, real=work / "images", **training)
        network = load_classifier(work, device)
        scores = [np.diff(predict(network, images.images))[:, 0] for images in judged]
        auc, low, high = auc_interval(*scores, confidence)
        row = {"set": first, "against": second, "n": len(scores[0]), "network": name}
        rows.append(row | {"auc": auc, "auc_low": low, "auc_high": high})
    for first, second in pairs:
        shutil.rmtree(out / f"{first} {second}")
    write_csv(out / TABLE, pd.DataFrame(rows))


def halves(images: SampleSet, seed: int) -> list[SampleSet]:
    """Return two disjoint halves, drawn at random."""
    order = numpy_generator(seed, "telling apart").permutation(len(images))
    return [images.subset(np.sort(part)) for part in np.array_split(order, 2)]


def both_sets(sets: tuple[SampleSet, SampleSet], names: tuple[str, str]) -> SampleSet:
    """Return the images of two sets, labelled by their set."""
    images = np.concatenate([part.images for part in sets])
    labels = np.repeat(np.arange(2), [len(part) for part in sets])
    return SampleSet(images, labels, info={"class_names": list(names), "data": "two sets"})


def auc_interval(
    first: np.ndarray, second: np.ndarray, confidence: float = 0.95
) -> tuple[float, float, float]:
    """Return the AUC of scores `(n,)` and `(m,)`, the second's to be higher, and its interval."""
    n, m = len(first), len(second)
    auc = float(roc_auc_score(np.repeat([0, 1], [n, m]), np.concatenate([first, second])))
    spread = (m - 1) * (auc / (2 - auc) - auc**2) + (n - 1) * (2 * auc**2 / (1 + auc) - auc**2)
    error = np.sqrt((auc * (1 - auc) + spread) / (n * m))
    reach = stats.norm.ppf((1 + confidence) / 2) * error
    return auc, max(0.0, auc - reach), min(1.0, auc + reach)
