"""What FID cannot say, said by name: copies, collapse, wrong labels, images that look unreal.

Every threshold is relative to what the real test images show in the same measurement.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.optimize import linear_sum_assignment
from sklearn.metrics import confusion_matrix

from lib.common.errors import StudyError
from lib.common.files import read_json, write_csv, write_json
from lib.data.samples import SampleSet
from lib.evaluation.features import FeatureSet, first_per_class
from lib.evaluation.neighbours import (
    NEAR_COPY,
    by_class,
    copy_ratios,
    distinct_share,
    nearest_spacing,
    pairwise_distance,
    precision_recall,
)
from lib.evaluation.telling import TABLE

MOST = 2000  # images of a set that are examined
TWIN = 0.25  # images of a class nearer than this part of the real images' spacing count as one
COPIES = 0.05  # share of near copies, beyond twice that among the real test images
COLLAPSED = 0.25  # of the test images' share of distinct images, or of their features' diversity
NARROW = 0.5  # of the test images' recall
UNREAL, REAL = 0.5, 0.75  # of the test images' precision: below, or from where images look real
DISTANT, NEAR = 1.5, 1.2  # times their distance to the nearest training image: above, or up to
WRONG = 0.75  # of the evaluator's accuracy on them
TOLD = 0.9  # AUC of a linear classifier beside the teacher's images
EXCHANGED = 0.1  # gain in agreement by renaming classes
CHECKS, DIVERSITY, FINDINGS = "checks.csv", "diversity.csv", "findings.json"


def examine(
    out: Path,
    *,
    samples: dict[str, Path],
    features: dict[str, Path],
    per_class: int,
    neighbours: int,
    telling: Path | None = None,
) -> None:
    """Examine sets of images; write `checks.csv`, `diversity.csv` and `findings.json` into `out`.

    `samples` and `features` map `real train`, `real test` and the names of the sets to folders of
    a SampleSet and of its `extract_features`, which took `per_class` images of each made set. At
    most 2,000 images of a set are examined, against all training images. `telling` is the folder
    of `tell_apart`, whose verdict joins the findings.
    """
    train = Examined.load(samples["real train"], features["real train"])
    sets = {}
    for name in [name for name in samples if name != "real train"]:
        taken = None if name == "real test" else per_class
        sets[name] = Examined.load(samples[name], features[name], taken).some()
    test, classes = sets["real test"], len(train.features.class_names)
    spacing = by_class(nearest_spacing, test.pixels, test.features.labels, classes)
    evidence = {name: gather(found, train, spacing, neighbours) for name, found in sets.items()}
    real = evidence["real test"]
    checks = pd.DataFrame({"set": name} | vars(found) for name, found in evidence.items())
    write_csv(out / CHECKS, checks.drop(columns="classes"))
    diversity = pd.concat(found.classes.assign(set=name) for name, found in evidence.items())
    usual = np.tile(real.classes["feature_distance"], len(evidence))
    diversity["against_real"] = diversity["feature_distance"] / usual
    columns = ["set", "class", "feature_distance", "pixel_distance", "against_real", "distinct"]
    write_csv(out / DIVERSITY, diversity[columns])
    made = [name for name in evidence if name != "real test"]
    told = {} if telling is None else told_apart(pd.read_csv(telling / TABLE))
    findings = [
        {"set": name, "faults": diagnose(name, evidence[name], real) + told.get(name, [])}
        for name in made
    ]
    write_json(out / FINDINGS, findings)


def load_findings(folder: Path) -> dict[str, list[str]]:
    """Read what `examine` found: sentences by set, none for a set without fault."""
    return {entry["set"]: entry["faults"] for entry in read_json(folder / FINDINGS)}


@dataclass(frozen=True)
class Examined:
    """Images `(n, 3, 32, 32) uint8` and the features of the same images."""

    images: np.ndarray
    features: FeatureSet

    @staticmethod
    def load(samples: Path, features: Path, per_class: int | None = None) -> "Examined":
        """Read both; `per_class` as the features were taken. Other images are a `StudyError`."""
        found = FeatureSet.load(features)
        chosen = first_per_class(SampleSet.load(samples), per_class)
        if not np.array_equal(chosen.labels, found.labels):
            raise StudyError(f"{features} are not of the images in {samples}: extract them again")
        return Examined(chosen.images, found)

    @property
    def pixels(self) -> np.ndarray:
        """Images as rows `(n, 3072) float32` in [0, 1]."""
        return np.divide(self.images.reshape(len(self.images), -1), 255, dtype=np.float32)

    def some(self, most: int = MOST) -> "Examined":
        """Return about `most` images at most, the first of each class."""
        labels, each = self.features.labels, max(2, most // len(self.features.class_names))
        index = np.flatnonzero(pd.Series(labels).groupby(labels).cumcount() < each)
        return Examined(self.images[index], self.features.subset(index))


@dataclass(frozen=True)
class Evidence:
    """Measurements of one set; those of classes with fewer than 2 images are NaN."""

    n: int
    near_copies: float  # share of images with a training image at half its usual spacing or less
    pixel_ratio: float  # median of `copy_ratios` of pixels
    feature_ratio: float  # median of `copy_ratios` of features
    precision: float  # over all classes, against 10,000 training images at most
    recall: float  # of these training images
    label_agreement: float  # share of images in which the evaluator sees the wanted class
    renamed_agreement: float  # the same if the classes were renamed in the best way
    distinct: float  # share of images without an earlier near twin; these four: means over classes
    diversity: float  # mean distance of features within a class
    classes: pd.DataFrame
    """A row a class: class, feature_distance, pixel_distance, distinct, renamed (true or false)."""


def gather(examined: Examined, train: Examined, spacing: np.ndarray, neighbours: int) -> Evidence:
    """Measure a set against the training images.

    `spacing (classes,)` is how far a real image's pixels are from its nearest in each class.
    """
    found, pixels = examined.features, examined.pixels
    labels, k = found.labels, len(spacing)
    in_pixels = copy_ratios(pixels, train.pixels)
    in_features = copy_ratios(found.features, train.features.features)
    reference = train.some(5 * MOST).features.features
    precision, recall = precision_recall(found.features, reference, neighbours=neighbours)
    share = confusion_matrix(labels, found.predicted, labels=range(k), normalize="true")
    renamed, present = linear_sum_assignment(-share)[1], np.isin(range(k), labels)
    classes = pd.DataFrame(
        {
            "class": found.class_names,
            "feature_distance": by_class(pairwise_distance, found.features, labels, k),
            "pixel_distance": by_class(pairwise_distance, pixels, labels, k),
            "distinct": by_class(distinct_share, pixels, labels, k, TWIN * spacing),
            "renamed": renamed != np.arange(k),
        }
    )
    classes.loc[np.isnan(spacing), "distinct"] = np.nan
    return Evidence(
        n=len(labels),
        near_copies=float(np.mean(np.minimum(in_pixels, in_features) < NEAR_COPY)),
        pixel_ratio=float(np.median(in_pixels)),
        feature_ratio=float(np.median(in_features)),
        precision=precision,
        recall=recall,
        label_agreement=float(np.diagonal(share)[present].mean()),
        renamed_agreement=float(share[np.arange(k), renamed][present].mean()),
        distinct=classes["distinct"].mean(),
        diversity=classes["feature_distance"].mean(),
        classes=classes,
    )


def diagnose(name: str, found: Evidence, real: Evidence) -> list[str]:
    """Return a sentence for each fault of the set `name`, beside the real test images' evidence.

    The faults: it "does not look like the real images", "copies training images", "has collapsed"
    in classes or "covers only a part of the real images", its "labels do not match" although the
    images look real or fit after renaming.
    """
    if min(real.pixel_ratio, real.feature_ratio) <= 0:
        raise StudyError("real test images are training images, too: give test images of their own")
    ratios = found.pixel_ratio / real.pixel_ratio, found.feature_ratio / real.feature_ratio
    distance = max(ratios)
    own, usual = found.classes, real.classes
    diversity = own["feature_distance"] / usual["feature_distance"]
    few = (own["distinct"] < COLLAPSED * usual["distinct"]) | (diversity < COLLAPSED)
    faults = []
    if found.precision < UNREAL * real.precision or distance > DISTANT:
        faults.append(
            f"{name} does not look like the real images: precision {found.precision:.0%} (real "
            f"test {real.precision:.0%}), recall {found.recall:.0%} ({real.recall:.0%}), "
            f"{distance:.1f} times as far from the nearest training image"
        )
    elif not few.any() and found.recall < NARROW * real.recall:
        faults.append(
            f"{name} covers only a part of the real images: {found.recall:.0%} of them have one "
            f"of its images nearby in feature space (recall; real test {real.recall:.0%})"
        )
    if found.near_copies > COPIES + 2 * real.near_copies:
        faults.append(
            f"{name} copies training images: {found.near_copies:.0%} of {found.n:,} images are "
            f"near copies of one (real test {real.near_copies:.0%})"
        )
    if few.any():
        faults.append(
            f"{name} has collapsed in {_classes(own[few])}: {own.loc[few, 'distinct'].mean():.0%} "
            f"of its images there are distinct (real test {real.distinct:.0%}), their features "
            f"{diversity[few].mean():.2f} times as diverse as real ones"
        )
    looks_real = found.precision >= REAL * real.precision and distance <= NEAR
    return faults + [f"{name}'s {fault}" for fault in _wrong_labels(found, real, looks_real)]


def _wrong_labels(found: Evidence, real: Evidence, looks_real: bool) -> list[str]:
    seen, renamed = found.label_agreement, found.renamed_agreement
    enough = WRONG * real.label_agreement
    text = (
        f"labels do not match: the evaluator sees the wanted class in {seen:.0%} of its images "
        f"(real test {real.label_agreement:.0%})"
    )
    if renamed - seen > EXCHANGED and renamed > enough:
        classes = _classes(found.classes[found.classes["renamed"]])
        return [f"{text}; with {classes} renamed, in {renamed:.0%}"]
    if seen < enough and looks_real:
        return [f"{text}, while {found.precision:.0%} of them lie among real ones in its features"]
    return []


def told_apart(telling: pd.DataFrame) -> dict[str, list[str]]:
    """Return a sentence, by set, for each set that is told from its teacher's."""
    known = telling[(telling["against"] == "teacher") & (telling["auc_low"] > TOLD)]
    return {
        row.set: [
            f"{row.set} does not pass for its teacher: a linear classifier on features finds "
            f"out which of two images is whose in {row.auc:.0%} of pairs ({row.n:,} new images of "
            "each; chance: 50%), so they are smeared or otherwise unlike"
        ]
        for row in known.itertuples()
    }


def _classes(chosen: pd.DataFrame, most: int = 5) -> str:
    """Name the classes of these rows, or count them where they are many."""
    if len(chosen) > most:
        return f"{len(chosen)} classes"
    return f"class{'es' if len(chosen) > 1 else ''} {', '.join(chosen['class'])}"
