"""What can be set of the classifiers' training."""

from dataclasses import replace
from typing import Annotated, Literal

from pydantic import Field

from lib.common.options import Count, Float, NotNegative, Positive, Share, option, options


@options
class ClassifierOptions:
    """Training by SGD with Nesterov momentum and one cycle of the learning rate."""

    epochs: Count = option(6, "passes over the real training images")
    batch_size: Annotated[int, Field(ge=2)] = option(32, "images per update")
    learning_rate: Positive = option(0.05, "largest learning rate of SGD")
    learning_rates: dict[str, Positive] = option(
        {}, "the same of classifiers that want another, by name, such as {vgg11_bn: 0.03}"
    )
    weight_decay: NotNegative = option(0.0005, "weight decay of SGD")
    augment_shift: Annotated[int, Field(ge=0, le=16)] = option(2, "largest random shift in pixels")
    horizontal_flip: bool = option(False, "mirror at random; digits must not be")
    label_smoothing: Annotated[Float, Field(ge=0, lt=1)] = option(
        0.1, "share of the target given to all classes"
    )
    precision: Literal["float32", "bfloat16"] = option(
        "float32",
        "precision of the feature maps; bfloat16 is faster on a GPU and on a CPU with "
        "AVX512-BF16 or AMX; a CPU that has neither trains in float32",
    )
    mean: Annotated[list[Share], Field(min_length=3, max_length=3)] = option(
        [0.5, 0.5, 0.5], "channel means of images in [0, 1] that the network subtracts"
    )
    std: Annotated[list[Positive], Field(min_length=3, max_length=3)] = option(
        [0.5, 0.5, 0.5], "channel deviations that it divides by"
    )

    def of(self, name: str) -> "ClassifierOptions":
        """Return the options of the classifier `name` alone, with its learning rate."""
        rate = self.learning_rates.get(name, self.learning_rate)
        return replace(self, learning_rate=rate, learning_rates={})
