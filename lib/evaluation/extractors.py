"""Feature extractors: the study's classifier, Inception v3 as FID uses it, or any torch module."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
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
from lib.common.tensors import load_weights

INCEPTION_SHA256 = "6726825d0af5f729cebd5821db510b11b1cfad8faad88a03f1befd49fb9129b2"
NAMES = ("classifier", "inception-v3-compat")


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


def open_extractor(name: str, evaluator: Path | str, device: str = "cpu") -> Extractor:
    """Return the extractor `classifier` (of the study's `evaluator`) or `inception-v3-compat`."""
    if name == "classifier":
        return classifier_extractor(evaluator, device)
    if name == "inception-v3-compat":
        return inception_extractor(device)
    raise StudyError(f"extractor {name!r} is unknown: choose one of {', '.join(NAMES)}")


def classifier_extractor(evaluator: Path | str, device: str = "cpu") -> Extractor:
    """Return the extractor of the classifier that `train_classifier` wrote into `evaluator`.

    Features are what enters its last linear layer.
    """
    network = load_classifier(evaluator, device)
    name = load_weights(Path(evaluator) / WEIGHTS)[1]["name"]
    return Extractor(f"{name} trained on real train", "none (32×32)", _ClassifierFeatures(network))


def inception_extractor(device: str = "cpu", weights: Path | str | None = None) -> Extractor:
    """Return torch-fidelity's `inception-v3-compat`: 2048 features, as in published FIDs.

    `weights` is their file, as `inception_weights` gives it.
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
        parts.append(_checked(extractor, extractor.module(batch), len(batch)))
    features, logits = zip(*parts, strict=True)
    return np.concatenate(features), None if logits[0] is None else np.concatenate(logits)


def _checked(extractor: Extractor, given: Tensor | tuple, n: int) -> tuple:
    """Return a batch's features and logits as arrays; anything unfit is a `StudyError`."""
    found = [given] if isinstance(given, Tensor) else list(given)
    for matrix in found:
        if not isinstance(matrix, Tensor) or matrix.ndim != 2 or len(matrix) != n:
            raise StudyError(
                f"extractor {extractor.name}: its module must give features (n, d), or these and "
                f"logits (n, classes), for n images"
            )
        if not torch.isfinite(matrix).all():
            raise StudyError(f"extractor {extractor.name} gives NaN or infinity: mend its weights")
    arrays = [matrix.float().cpu().numpy() for matrix in found[:2]]
    return arrays[0], arrays[1] if len(arrays) > 1 else None


class _ClassifierFeatures(nn.Module):
    """A classifier's penultimate features and its logits."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network
        self.eval()

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        batch = images.float().contiguous(memory_format=torch.channels_last)
        return features_and_logits(self.network, batch)
