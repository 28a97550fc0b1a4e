"""What a set of images shows of copying, collapse, labels and realism: measurements alone."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.optimize import linear_sum_assignment

from lib.common.errors import StudyError
from lib.data.samples import SampleSet
from lib.evaluation.copying import NEAR_COPY, copy_ratios
from lib.evaluation.diversity import by_class, distinct_share, nearest_spacing, pairwise_distance
from lib.evaluation.features import FeatureSet, first_per_class
from lib.evaluation.neighbours import precision_recall

MOST = 2000  # images of a set that are examined
TWIN = 0.25  # images of a class nearer than this part of the real images' spacing count as one


@dataclass(frozen=True)
class Examined:
    """Images `(n, 3, 32, 32) uint8` and the features of the same images."""

    images: np.ndarray
    features: FeatureSet

    @staticmethod
    def load(samples: Path, features: Path, per_class: int | None = None) -> "Examined":
        """Read both; `per_class` as the features were taken. Other images are a `StudyError`."""
        found, chosen = FeatureSet.load(features), SampleSet.load(samples)
        chosen = chosen if per_class is None else first_per_class(chosen, per_class)
        if not np.array_equal(chosen.labels, found.labels):
            raise StudyError(f"{features} are not of the images in {samples}: extract them again")
        return Examined(chosen.images, found)

    @property
    def bytes(self) -> np.ndarray:
        """Images as rows `(n, 3072) uint8`."""
        return self.images.reshape(len(self.images), -1)

    @property
    def pixels(self) -> np.ndarray:
        """Images as rows `(n, 3072) float32` in [0, 1]."""
        return np.divide(self.bytes, 255, dtype=np.float32)

    def some(self, most: int = MOST) -> "Examined":
        """Return about `most` images at most, the first of each class."""
        labels, classes = self.features.labels, len(self.features.class_names)
        each = max(2, most // classes)
        index = np.concatenate([np.flatnonzero(labels == k)[:each] for k in range(classes)])
        return Examined(self.images[np.sort(index)], self.features.at(np.sort(index)))


@dataclass(frozen=True)
class Evidence:
    """Measurements of one set; arrays `(classes,)` are NaN for classes of fewer than 2 images."""

    n: int
    near_copies: float  # share of images with a training image at half its usual spacing or less
    pixel_ratio: float  # median of `copy_ratios` of pixels
    feature_ratio: float  # median of `copy_ratios` of features
    precision: float  # over all classes, against 10,000 training images at most
    agreement: np.ndarray  # share of images in which the evaluator sees the wanted class
    renamed: np.ndarray  # for each class the one to rename it to, so that agreement is highest
    renamed_agreement: float
    diversity: np.ndarray  # mean distance of features within a class
    pixel_diversity: np.ndarray  # mean distance of pixels
    distinct: np.ndarray  # share of images without an earlier near twin in their class

    @property
    def label_agreement(self) -> float:
        """Mean over the classes."""
        return float(np.nanmean(self.agreement))


def real_spacing(real: Examined) -> np.ndarray:
    """Return, for each class, how far a real image's pixels are from its nearest, `(classes,)`."""
    labels, classes = real.features.labels, len(real.features.class_names)
    return by_class(nearest_spacing, real.pixels, labels, classes)


def gather(examined: Examined, train: Examined, spacing: np.ndarray, neighbours: int) -> Evidence:
    """Measure a set against the training images; `spacing` is `real_spacing` of test images."""
    features, pixels, labels = examined.features, examined.pixels, examined.features.labels
    classes = len(features.class_names)
    reference = train.some(5 * MOST).features.features
    ratios = [copy_ratios(examined.bytes, train.bytes, "copies, pixels")]
    ratios.append(copy_ratios(features.features, train.features.features, "copies, features"))
    matrix = confusion(labels, features.predicted, classes)
    share = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    renamed = linear_sum_assignment(-share)[1]
    twins = [
        distinct_share(pixels[labels == k], TWIN * spacing[k])
        if (labels == k).sum() > 1 and np.isfinite(spacing[k])
        else np.nan
        for k in range(classes)
    ]
    absent = matrix.sum(axis=1) == 0
    return Evidence(
        n=len(labels),
        near_copies=float(np.mean((ratios[0] < NEAR_COPY) | (ratios[1] < NEAR_COPY))),
        pixel_ratio=float(np.median(ratios[0])),
        feature_ratio=float(np.median(ratios[1])),
        precision=precision_recall(features.features, reference, neighbours=neighbours)[0],
        agreement=np.where(absent, np.nan, np.diagonal(share)),
        renamed=renamed,
        renamed_agreement=float(share[np.arange(classes), renamed][~absent].mean()),
        diversity=by_class(pairwise_distance, features.features, labels, classes),
        pixel_diversity=by_class(pairwise_distance, pixels, labels, classes),
        distinct=np.array(twins),
    )


def confusion(wanted: np.ndarray, predicted: np.ndarray, classes: int) -> np.ndarray:
    """Return how many images of each wanted class (rows) are seen as each class (columns)."""
    counts = np.zeros((classes, classes), dtype=np.int64)
    np.add.at(counts, (wanted, predicted), 1)
    return counts
