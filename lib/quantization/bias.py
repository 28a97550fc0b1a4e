"""Which bias correction serves a network: the fast one or none, judged on validation images."""

from collections.abc import Callable
from dataclasses import replace

import openvino as ov
import pandas as pd

from lib.data.samples import SampleSet
from lib.quantization.nncf import Quantized, accuracy_drop
from lib.quantization.options import QuantizationOptions

TRIED = ("fast", "none")


def choose_bias_correction(
    ir: ov.Model,
    validation: SampleSet,
    options: QuantizationOptions,
    quantize: Callable[[QuantizationOptions], Quantized],
) -> Quantized:
    """Quantize with the fast bias correction and without one; return the more accurate network.

    `quantize` makes an INT8 network of `ir` by the options that it is given. Top-1 accuracy on
    `validation` decides, as in accuracy-aware quantization, and a tie goes to the fast correction.
    The result's `other` is the network that was not chosen.
    """
    made = [quantize(replace(options, bias_correction=kind)) for kind in TRIED]
    drops = [accuracy_drop(ir, quantized.model, validation) for quantized in made]
    chosen = drops.index(min(drops))
    return replace(made[chosen], bias_correction=TRIED[chosen], other=made[1 - chosen])


def bias_words(table: pd.DataFrame, margin: float) -> str:
    """Say how often which correction was chosen, and both losses where they are `margin` apart.

    `table` holds results as `grid.load_results` gives them, `margin` percentage points.
    """
    chosen = table[table["other_drop_pp"].notna()]
    if chosen.empty:
        return ""
    without = int((chosen["bias_correction"] == "none").sum())
    lines = [f"Bias correction: left out in {without} of {len(chosen)} default quantizations."]
    apart = chosen[(chosen["drop_pp"] - chosen["other_drop_pp"]).abs() > margin]
    for row in apart.itertuples():
        losses = [row.drop_pp, row.other_drop_pp]
        fast, none = losses if row.bias_correction == "fast" else losses[::-1]
        lines.append(
            f"{row.model}, {row.engine}, {row.calibration_set}, seed {row.seed}: loses {fast:.2f} "
            f"points with the fast correction, {none:.2f} without"
        )
    return "\n".join(lines)
