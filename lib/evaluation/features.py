"""Sets of features of images, taken once and kept."""

from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
import pandas as pd
import torch

from lib.common.errors import StudyError
from lib.common.tensors import load_tensors, save_tensors
from lib.data.samples import SampleSet
from lib.evaluation.extractors import classifier_extractor, extract, open_extractor

FILE = "features.safetensors"


@dataclass(frozen=True)
class FeatureSet:
    """What an evaluation needs of n images.

    `features (n, d) float32`; `logits (n, classes) float32`, or None where the extractor has none;
    `labels (n,) int64`, wanted; `predicted (n,) int64`, what the evaluator sees; `info` with
    `extractor`, `resizing` and `class_names`.
    """

    features: np.ndarray
    logits: np.ndarray | None
    labels: np.ndarray
    predicted: np.ndarray
    info: dict

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def class_names(self) -> list[str]:
        """Names of the classes, in the order of the labels."""
        return self.info["class_names"]

    def subset(self, index: np.ndarray) -> "FeatureSet":
        """Return the part at these indices."""
        arrays = {k: v if v is None else v[index] for k, v in vars(self).items() if k != "info"}
        return FeatureSet(**arrays, info=self.info)

    def save(self, folder: Path | str) -> None:
        """Write the set into `folder`."""
        arrays = {name: value for name, value in vars(self).items() if name != "info"}
        tensors = {k: torch.tensor(v) for k, v in arrays.items() if v is not None}
        save_tensors(Path(folder) / FILE, tensors, self.info)

    @staticmethod
    def load(folder: Path | str) -> "FeatureSet":
        """Read a set; a missing or damaged file is a `StudyError`."""
        tensors, info = load_tensors(Path(folder) / FILE)
        arrays = {name: tensor.numpy() for name, tensor in tensors.items()}
        return FeatureSet(**({"logits": None} | arrays), info=info)


Samples = TypeVar("Samples", SampleSet, FeatureSet)


def extract_features(
    out: Path,
    *,
    samples: Path,
    evaluator: Path,
    extractor: str = "classifier",
    per_class: int | None = None,
    device: str = "cpu",
) -> None:
    """Write the features of the SampleSet in `samples` into `out`; `FeatureSet.load` reads them.

    `evaluator` is the folder of the classifier that judges the classes. It gives the features,
    too, if `extractor` is `classifier`; else one of `EXTRACTORS` does. `per_class` takes that many
    images of each class, the first.
    """
    chosen = first_per_class(SampleSet.load(samples), per_class)
    judge = classifier_extractor(evaluator, device)
    network = judge if extractor == "classifier" else open_extractor(extractor, device)
    desc = f"features of {Path(samples).name}"
    features, logits = extract(network, chosen.images, desc=desc)
    seen = logits if network is judge else extract(judge, chosen.images, desc=f"{desc}, classes")[1]
    info = {
        "extractor": f"{network.name}, {features.shape[1]} features",
        "distance": network.distance,
        "resizing": network.resizing,
        "class_names": chosen.class_names,
    }
    FeatureSet(features, logits, chosen.labels, seen.argmax(1), info).save(out)


def first_per_class(samples: Samples, per_class: int | None) -> Samples:
    """Return the first `per_class` of each class, None: all; too few are a `StudyError`."""
    if per_class is None:
        return samples
    counts = np.bincount(samples.labels, minlength=len(samples.class_names))
    if counts.min() < per_class:
        raise StudyError(
            f"class {samples.class_names[counts.argmin()]} has {counts.min()} samples, {per_class} "
            "wanted: raise sampling_per_class or lower the number taken"
        )
    earlier = pd.Series(samples.labels).groupby(samples.labels).cumcount()
    return samples.subset(np.flatnonzero(earlier < per_class))
