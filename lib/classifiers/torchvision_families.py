"""The classifiers that are torchvision's own classes with small changes for 32×32 images."""

from torch import nn
from torchvision.models import MobileNetV2, ShuffleNetV2
from torchvision.models.vgg import VGG, cfgs, make_layers

from lib.classifiers.names import scaled

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
SHUFFLENETV2_WIDTHS = {  # channels of stages 2 to 4 and of the last convolution
    0.5: (48, 96, 192, 1024),
    1.0: (116, 232, 464, 1024),
    1.5: (176, 352, 704, 1024),
    2.0: (244, 488, 976, 2048),
}


def build(size: str, width: float, num_classes: int) -> nn.Module:
    """Build `mobilenetv2`, `shufflenetv2` or a size of VGG with `width` times the channels."""
    if size == "mobilenetv2":
        return mobilenetv2(width, num_classes)
    if size == "shufflenetv2":
        return shufflenetv2(width, num_classes)
    return CifarVGG(VGG_LAYERS[size], width, num_classes)


class CifarVGG(VGG):
    """torchvision's VGG with batch normalisation and a small classifier after a 1x1 map."""

    def __init__(self, layers: str, width: float, num_classes: int) -> None:
        nn.Module.__init__(self)  # VGG's own constructor would draw 120 million unused weights
        config = [c if c == "M" else scaled(c, width) for c in cfgs[layers]]
        hidden = scaled(512, width)
        self.features = make_layers(config, batch_norm=True)
        self.avgpool = nn.Identity()
        self.classifier = nn.Sequential(
            nn.Linear(hidden, hidden),
            nn.ReLU(inplace=True),
            nn.Dropout(),
            nn.Linear(hidden, hidden),
            nn.ReLU(inplace=True),
            nn.Dropout(),
            nn.Linear(hidden, num_classes),
        )
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
                nn.init.zeros_(module.bias)


def mobilenetv2(width: float, num_classes: int) -> MobileNetV2:
    """Build torchvision's network with strides for 32×32 images."""
    model = MobileNetV2(num_classes, width, MOBILENETV2_STAGES)
    model.features[0][0].stride = (1, 1)
    return model


def shufflenetv2(width: float, num_classes: int) -> ShuffleNetV2:
    """Build torchvision's network; widths that nobody published scale those of x1_0."""
    stage2 = scaled(116, width)
    widths = SHUFFLENETV2_WIDTHS.get(width, (stage2, 2 * stage2, 4 * stage2, 1024))
    model = ShuffleNetV2([4, 8, 4], [24, *widths], num_classes)
    model.conv1[0].stride = (1, 1)
    model.maxpool = nn.Identity()
    return model
