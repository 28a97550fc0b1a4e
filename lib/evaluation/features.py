"""Features of a sample set, taken once and kept: evaluations read these, not the images."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
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

    def of_class(self, label: int) -> "FeatureSet":
        """Return the part with this wanted label."""
        return self.at(np.flatnonzero(self.labels == label))

    def at(self, index: np.ndarray) -> "FeatureSet":
        """Return the part at these indices."""
        logits = None if self.logits is None else self.logits[index]
        return FeatureSet(
            self.features[index], logits, self.labels[index], self.predicted[index], self.info
        )

    def first(self, per_class: int) -> "FeatureSet":
        """Return the first `per_class` of each class, as `first_per_class` does of images."""
        return self.at(first_of_each(self.labels, self.class_names, per_class))

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

    `evaluator` is the folder of the classifier that judges the classes and, as the extractor
    `classifier`, gives the features; `per_class` takes that many images of each class, the first.
    """
    chosen = SampleSet.load(samples)
    chosen = chosen if per_class is None else first_per_class(chosen, per_class)
    judge = classifier_extractor(evaluator, device)
    network = judge if extractor == "classifier" else open_extractor(extractor, evaluator, device)
    desc = f"features of {Path(samples).name}"
    features, logits = extract(network, chosen.images, desc=desc)
    seen = logits if network is judge else extract(judge, chosen.images, desc=f"{desc}, classes")[1]
    info = {
        "extractor": f"{network.name}, {features.shape[1]} features",
        "resizing": network.resizing,
        "class_names": chosen.class_names,
    }
    FeatureSet(features, logits, chosen.labels, seen.argmax(1), info).save(out)


def first_per_class(samples: SampleSet, per_class: int) -> SampleSet:
    """Return the first `per_class` samples of each class; too few are a `StudyError`."""
    return samples.subset(first_of_each(samples.labels, samples.class_names, per_class))


def first_of_each(labels: np.ndarray, class_names: list[str], per_class: int) -> np.ndarray:
    """Return the sorted indices of the first `per_class` labels `(n,)` of each class."""
    index = [np.flatnonzero(labels == label)[:per_class] for label in range(len(class_names))]
    for name, found in zip(class_names, index, strict=True):
        if len(found) < per_class:
            raise StudyError(
                f"class {name} has {len(found)} samples, {per_class} wanted: "
                "raise sampling_per_class or lower the number taken"
            )
    return np.sort(np.concatenate(index))
