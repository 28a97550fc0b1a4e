"""Names of classifiers: five families, sized as in chenyaofo/pytorch-cifar-models."""

import re

from lib.common.errors import StudyError

FAMILIES: dict[str, tuple[str, ...]] = {
    "resnet": ("resnet20", "resnet32", "resnet44", "resnet56"),
    "vgg": ("vgg11_bn", "vgg13_bn", "vgg16_bn", "vgg19_bn"),
    "mobilenetv2": (
        "mobilenetv2_x0_5",
        "mobilenetv2_x0_75",
        "mobilenetv2_x1_0",
        "mobilenetv2_x1_4",
    ),
    "shufflenetv2": (
        "shufflenetv2_x0_5",
        "shufflenetv2_x1_0",
        "shufflenetv2_x1_5",
        "shufflenetv2_x2_0",
    ),
    "repvgg": ("repvgg_a0", "repvgg_a1", "repvgg_a2"),
}
"""The published sizes of each family; any may also be had at another width, `<size>_x<width>`."""

NAME = re.compile(
    r"(?P<size>resnet(?:20|32|44|56)|vgg(?:11|13|16|19)_bn|mobilenetv2|shufflenetv2|repvgg_a[0-2])"
    r"(?:_x(?P<width>\d+_\d+))?"
)
MAX_WIDTH = 4.0
UNFUSED = "_unfused"
"""Ends the name of a RepVGG network that is quantized with its branches as they were trained."""


def family(name: str) -> str:
    """Name the family of a classifier: `"repvgg_a0_x0_25"` -> `"repvgg"`."""
    size, _ = split_name(name)
    return next(f for f in FAMILIES if size.startswith(f))


def is_classifier(name: str) -> bool:
    """Tell whether `name` is one of the study's classifiers."""
    try:
        return bool(family(name))
    except StudyError:
        return False


def split_name(name: str) -> tuple[str, float]:
    """Split a name into its size and width: `"vgg11_bn_x0_25"` -> `("vgg11_bn", 0.25)`.

    Raises `StudyError` for a name that is unknown or a width out of range.
    """
    match = NAME.fullmatch(name)
    has_own_width = match is not None and match["size"] in ("mobilenetv2", "shufflenetv2")
    if match is None or (has_own_width and match["width"] is None):
        sizes = "; ".join(f"{f}: {', '.join(names)}" for f, names in FAMILIES.items())
        raise StudyError(
            f"unknown classifier {name!r}; known are {sizes}; "
            "each also at another width, such as resnet20_x0_5 or mobilenetv2_x0_25"
        )
    width = float((match["width"] or "1_0").replace("_", "."))
    if not 0 < width <= MAX_WIDTH:
        raise StudyError(f"{name}: its width must be above 0 and at most {MAX_WIDTH:g}")
    return match["size"], width


def scaled(channels: int, width: float) -> int:
    """Multiply channels by a width, to the nearest multiple of 8 and at least 8."""
    return max(8, 8 * round(channels * width / 8))
