"""The classifiers: five families, shaped as in chenyaofo/pytorch-cifar-models."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from lib.classifiers.names import scaled, split_name
from lib.classifiers.repvgg import RepVGG
from lib.classifiers.resnet import ResNet
from lib.common.errors import StudyError

CIFAR10_MEAN = (0.4914, 0.4822, 0.4465)
"""Channel means of images in [0, 1] with which the published weights were trained."""
CIFAR10_STD = (0.2023, 0.1994, 0.2010)
"""Channel standard deviations of images in [0, 1] with which the published weights were trained."""

REPVGG_WIDTHS = {
    "repvgg_a0": (48, 48, 96, 192, 1280),
    "repvgg_a1": (64, 64, 128, 256, 1280),
    "repvgg_a2": (64, 96, 192, 384, 1408),
}


def build_classifier(name: str, num_classes: int = 10) -> nn.Module:
    """Build a classifier of normalised images `(n, 3, 32, 32)` -> logits `(n, num_classes)`.

    `name` is a published size, or one at another width: `resnet20_x0_5`, `mobilenetv2_x0_25`.
    A width multiplies the channels, rounded to multiples of 8. Weights are drawn from torch's
    global generator. Raises `StudyError` for a name it does not know.
    """
    size, width = split_name(name)
    if size in REPVGG_WIDTHS:
        widths = tuple(scaled(c, width) for c in REPVGG_WIDTHS[size])
        return RepVGG((2, 4, 14, 1), widths, num_classes)
    if not size.startswith("resnet"):
        # torchvision takes seconds to import: not before it is needed
        from lib.classifiers.torchvision_families import build

        return build(size, width, num_classes)
    blocks = (int(size.removeprefix("resnet")) - 2) // 6
    return ResNet(blocks, tuple(scaled(c, width) for c in (16, 32, 64)), num_classes)


class NormalizedClassifier(nn.Module):
    """A classifier that takes pixel values as they are: `(n, 3, 32, 32)` float32 in [0, 255].

    It computes `(x / 255 - mean) / std` by channel, then `model`. Deployed and calibrated
    networks all have this input, so that every calibration set is fed in the same way.
    """

    def __init__(
        self,
        model: nn.Module,
        mean: Sequence[float] = CIFAR10_MEAN,
        std: Sequence[float] = CIFAR10_STD,
    ) -> None:
        super().__init__()
        if len(mean) != 3 or len(std) != 3 or min(std) <= 0:
            raise StudyError(f"mean {mean} and std {std}: give 3 channels each, std above 0")
        self.model = model
        self.register_buffer("mean", torch.tensor(mean).view(1, 3, 1, 1))
        self.register_buffer("std", torch.tensor(std).view(1, 3, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        """Map pixel values `(n, 3, 32, 32)` float32 in [0, 255] to logits `(n, num_classes)`."""
        return self.model((x / 255 - self.mean) / self.std)


def features_and_logits(model: nn.Module, x: Tensor) -> tuple[Tensor, Tensor]:
    """Run `model` and return what enters its last linear layer `(n, d)` with its logits."""
    last = [module for module in model.modules() if isinstance(module, nn.Linear)][-1]
    seen: list[Tensor] = []
    handle = last.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    try:
        logits = model(x)
    finally:
        handle.remove()
    return seen[-1], logits
