"""Features of images: their extractors, and sets of features, taken once and kept.

Extractors are the study's classifier, Inception v3 as FID uses it, or any torch module.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn
from torch_fidelity.feature_extractor_inceptionv3 import (
    URL_INCEPTION_V3,
    FeatureExtractorInceptionV3,
)

from lib.classifiers.build import features_and_logits
from lib.classifiers.training import WEIGHTS, load_classifier
from lib.common.download import cache_folder, download
from lib.common.errors import StudyError
from lib.common.progress import progress
from lib.common.tensors import load_tensors, save_tensors
from lib.data.samples import SampleSet

FILE = "features.safetensors"
EXTRACTORS = ("classifier", "inception-v3-compat")
INCEPTION_SHA256 = "6726825d0af5f729cebd5821db510b11b1cfad8faad88a03f1befd49fb9129b2"


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

    `evaluator` is the folder of the classifier that judges the classes and gives the features,
    unless `extractor` is `inception-v3-compat`; `per_class` takes that many images of each class,
    the first.
    """
    if extractor not in EXTRACTORS:
        raise StudyError(f"extractor {extractor!r} is unknown: choose from {', '.join(EXTRACTORS)}")
    chosen = first_per_class(SampleSet.load(samples), per_class)
    judge = classifier_extractor(evaluator, device)
    network = judge if extractor == "classifier" else inception_extractor(device)
    desc = f"features of {Path(samples).name}"
    features, logits = extract(network, chosen.images, desc=desc)
    seen = logits if network is judge else extract(judge, chosen.images, desc=f"{desc}, classes")[1]
    info = {
        "extractor": f"{network.name}, {features.shape[1]} features",
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


@dataclass(frozen=True)
class Extractor:
    """A network and what must be stated beside every number that is taken from it.

    `module` maps images `(n, 3, 32, 32) uint8` to features `(n, d)`, or to features and logits
    `(n, classes)`, in eval mode. Any `nn.Module` that does so may be given: this is the place to
    hook in another network. Without logits there is no inception score.
    """

    name: str
    resizing: str
    module: nn.Module


def classifier_extractor(evaluator: Path | str, device: str = "cpu") -> Extractor:
    """Return the extractor of the classifier that `train_classifier` wrote into `evaluator`.

    Features are what enters its last linear layer.
    """
    network = load_classifier(evaluator, device)
    name = load_tensors(Path(evaluator) / WEIGHTS)[1]["name"]
    return Extractor(f"{name} trained on real train", "none (32×32)", _ClassifierFeatures(network))


def inception_extractor(device: str = "cpu", weights: Path | str | None = None) -> Extractor:
    """Return torch-fidelity's `inception-v3-compat`: 2048 features, as in published FIDs.

    `weights` is where their file is or goes, as in `inception_weights`.
    """
    network = FeatureExtractorInceptionV3(
        "inception-v3-compat",
        ["2048", "logits_unbiased"],
        feature_extractor_weights_path=str(inception_weights(weights)),
    )
    resizing = "32×32 to 299×299, bilinear as TensorFlow 1"
    return Extractor("inception-v3-compat (ImageNet)", resizing, network.to(device))


def inception_weights(path: Path | str | None = None) -> Path:
    """Return the file of Inception's weights, its SHA-256 checked before anyone opens it.

    It is downloaded once (91 MiB) into the user's cache folder, or to `path`. Offline, a
    `StudyError` names the file and where to put it.
    """
    target = Path(path) if path else cache_folder() / URL_INCEPTION_V3.rsplit("/", 1)[1]
    download(URL_INCEPTION_V3, target, INCEPTION_SHA256)
    return target


@torch.inference_mode()
def extract(
    extractor: Extractor, images: np.ndarray, batch_size: int = 256, desc: str = "features"
) -> tuple[np.ndarray, np.ndarray | None]:
    """Return features `(n, d) float32` and logits `(n, classes) float32`, or None without.

    `images` are `(n, 3, 32, 32) uint8`. Raises `StudyError` where the module gives something else,
    NaN or infinity.
    """
    if len(images) == 0:
        raise StudyError(f"{extractor.name}: there are no images; give at least one")
    if extractor.module.training:
        raise StudyError(f"{extractor.name} is in training mode: call its eval() first")
    tensors = [*extractor.module.parameters(), *extractor.module.buffers()]
    device = tensors[0].device if tensors else "cpu"
    parts = []
    for start in progress(range(0, len(images), batch_size), desc, unit="batch"):
        batch = torch.tensor(images[start : start + batch_size], device=device)
        found = extractor.module(batch)
        found = [found] if isinstance(found, Tensor) else found
        if any(matrix.ndim != 2 or len(matrix) != len(batch) for matrix in found):
            raise StudyError(
                f"extractor {extractor.name}: its module must give features (n, d), or these and "
                "logits (n, classes), for n images"
            )
        if not all(torch.isfinite(matrix).all() for matrix in found):
            raise StudyError(f"extractor {extractor.name} gives NaN or infinity: mend its weights")
        parts.append([matrix.float().cpu().numpy() for matrix in found])
    features, *logits = (np.concatenate(part) for part in zip(*parts, strict=True))
    return features, logits[0] if logits else None


class _ClassifierFeatures(nn.Module):
    """A classifier's penultimate features and its logits."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network
        self.eval()

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        batch = images.float().contiguous(memory_format=torch.channels_last)
        return features_and_logits(self.network, batch)
