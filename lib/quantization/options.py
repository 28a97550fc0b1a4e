"""What can be set of quantization, for NNCF and POT alike."""

from typing import Annotated, Literal

from pydantic import Field

from lib.common.errors import StudyError
from lib.common.options import Count, Float, option, options


@options
class QuantizationOptions:
    """Default and accuracy-aware quantization to INT8."""

    preset: Literal["performance", "mixed"] = option(
        "mixed", "performance: symmetric activations; mixed: asymmetric where it helps"
    )
    subset_size: Count = option(300, "images that are read of a calibration set")
    bias_correction: Literal["fast", "full", "none", "best"] = option(
        "fast",
        "fast (NNCF's default: the input of each layer by its channel means), full (slow), none, "
        "or best (fast or none, whichever keeps more accuracy on the validation images)",
    )
    overflow_fix: Literal["disable", "enable", "first_layer"] = option(
        "first_layer",
        "weights in half their range in no, all or the first layers, for processors without "
        "VNNI, which add products in 16 bits",
    )
    max_drop: Annotated[Float, Field(gt=0, lt=1)] = option(
        0.01, "accuracy-aware: largest drop in accuracy that is accepted, as a share"
    )
    max_iterations: Count = option(30, "accuracy-aware: most operations returned to floating point")

    def check_decided(self) -> None:
        """Refuse to quantize while the bias correction is open."""
        if self.bias_correction == "best":
            raise StudyError(
                "bias_correction best is a choice by validation images: call "
                "choose_bias_correction, or name fast, full or none"
            )
