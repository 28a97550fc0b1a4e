"""The classifiers: five families shaped as in chenyaofo/pytorch-cifar-models, and three more."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from lib.classifiers.imagenet import efficientnet_lite0, enlarged
from lib.classifiers.names import IMAGENET, split_name
from lib.classifiers.residual import RepVGG, ResNet
from lib.common.errors import StudyError

# Channel means and deviations of images in [0, 1] with which the published weights were trained.
CIFAR10_MEAN = (0.4914, 0.4822, 0.4465)
CIFAR10_STD = (0.2023, 0.1994, 0.2010)
REPVGG_WIDTHS = {
    "repvgg_a0": (48, 48, 96, 192, 1280),
    "repvgg_a1": (64, 64, 128, 256, 1280),
    "repvgg_a2": (64, 96, 192, 384, 1408),
}
VGG_LAYERS = {"vgg11_bn": "A", "vgg13_bn": "B", "vgg16_bn": "D", "vgg19_bn": "E"}
MOBILENETV2_STAGES = [  # expansion, channels, blocks, stride (ImageNet's second stage has stride 2)
    [1, 16, 1, 1],
    [6, 24, 2, 1],
    [6, 32, 3, 2],
    [6, 64, 4, 2],
    [6, 96, 3, 1],
    [6, 160, 3, 2],
    [6, 320, 1, 1],
]
EFFICIENTNET_STAGES = [  # expansion, kernel, stride (less than ImageNet's), in, out, blocks
    (1, 3, 1, 32, 16, 1),
    (6, 3, 2, 16, 24, 2),
    (6, 5, 2, 24, 40, 2),
    (6, 3, 1, 40, 80, 3),
    (6, 5, 1, 80, 112, 3),
    (6, 5, 2, 112, 192, 4),
    (6, 3, 1, 192, 320, 1),
]
SHUFFLENETV2_WIDTHS = {  # channels of stages 2 to 4 and of the last convolution
    0.5: (48, 96, 192, 1024),
    1.0: (116, 232, 464, 1024),
    1.5: (176, 352, 704, 1024),
    2.0: (244, 488, 976, 2048),
}


def build_classifier(name: str, num_classes: int = 10) -> nn.Module:
    """Build a classifier of normalised images `(n, 3, 32, 32)` -> logits `(n, num_classes)`.

    `name` is a published size, or one at another width: `resnet20_x0_5`, `mobilenetv2_x0_25`.
    A width multiplies the channels, rounded to multiples of 8. Weights are drawn from torch's
    global generator. Raises `StudyError` for a name it does not know.
    """
    size, width = split_name(name)
    if size == IMAGENET:
        return enlarged(efficientnet_lite0())
    if size in REPVGG_WIDTHS:
        widths = tuple(scaled(c, width) for c in REPVGG_WIDTHS[size])
        return RepVGG((2, 4, 14, 1), widths, num_classes)
    if size.startswith("resnet"):
        blocks = (int(size.removeprefix("resnet")) - 2) // 6
        return ResNet(blocks, tuple(scaled(c, width) for c in (16, 32, 64)), num_classes)
    return _build_from_torchvision(size, width, num_classes)


def _build_from_torchvision(size: str, width: float, num_classes: int) -> nn.Module:
    """Build one of torchvision's networks with small changes for 32×32 images."""
    from torchvision import models  # takes seconds: not before it is needed
    from torchvision.models.vgg import cfgs, make_layers

    if size == "mobilenetv2":
        model = models.MobileNetV2(num_classes, width, MOBILENETV2_STAGES)
        model.features[0][0].stride = (1, 1)
        return model
    if size == "shufflenetv2":
        stage2 = scaled(116, width)  # widths that nobody published scale those of x1_0
        widths = SHUFFLENETV2_WIDTHS.get(width, (stage2, 2 * stage2, 4 * stage2, 1024))
        model = models.ShuffleNetV2([4, 8, 4], [24, *widths], num_classes)
        model.conv1[0].stride, model.maxpool = (1, 1), nn.Identity()
        return model
    if size == "efficientnet_b0":  # SiLU, squeeze and excitation
        from torchvision.models.efficientnet import EfficientNet, MBConvConfig

        stages = [MBConvConfig(*stage, width_mult=width) for stage in EFFICIENTNET_STAGES]
        last = scaled(1280, width)
        model = EfficientNet(stages, dropout=0.2, num_classes=num_classes, last_channel=last)
        model.features[0][0].stride = (1, 1)
        return model
    if size == "vit_p4":  # Dosovitskiy et al. 2021; no batch normalisation
        hidden = scaled(192, width)
        shape = {"image_size": 32, "patch_size": 4, "num_layers": 6, "num_heads": 4}
        shape |= {"hidden_dim": hidden, "mlp_dim": 2 * hidden, "num_classes": num_classes}
        return models.VisionTransformer(**shape)
    with torch.device("meta"):  # its own classifier has 120 million weights
        model = models.VGG(nn.Identity(), init_weights=False)
    config = [c if c == "M" else scaled(c, width) for c in cfgs[VGG_LAYERS[size]]]
    hidden = scaled(512, width)
    model.features, model.avgpool = make_layers(config, batch_norm=True), nn.Identity()
    dense = [nn.Linear(hidden, hidden), nn.ReLU(inplace=True), nn.Dropout()]
    dense += [nn.Linear(hidden, hidden), nn.ReLU(inplace=True), nn.Dropout()]
    model.classifier = nn.Sequential(*dense, nn.Linear(hidden, num_classes))
    for module in model.features:
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
            nn.init.zeros_(module.bias)
    return model


def scaled(channels: int, width: float) -> int:
    """Multiply channels by a width, to the nearest multiple of 8 and at least 8."""
    return max(8, 8 * round(channels * width / 8))


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
    with last.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0])):
        logits = model(x)
    return seen[-1], logits
