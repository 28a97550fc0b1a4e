"""Activation ranges: what a calibration set decides, layer by layer, against real images.

Too narrow a range clips activations, too wide a one spreads the levels thin. Both are read from
the quantizers of the INT8 networks that the grid kept.
"""

from pathlib import Path

import numpy as np
import pandas as pd
from scipy.stats import spearmanr

from lib.common.errors import StudyError
from lib.common.openvino import read_ir
from lib.quantization.fake_quantize import Quantizer, activation_quantizers

REAL = "real"
NARROWEST = 2.0**-8  # of the real range: narrower ones all count as this, a range of one level


def range_table(networks: dict[str, Path]) -> pd.DataFrame:
    """Compare the ranges of INT8 networks `{calibration set: .xml}` of one FP32 network.

    One row for each set but real and each quantizer of activations, in the network's order:
    `low`, `high`, `real_low`, `real_high` (the outermost ends where channels have their own),
    `log2_width`, the base-2 logarithm of its width over that by real images (1: twice as wide,
    one bit lost; negative: narrower), and `uncovered`, the share of the real range outside;
    these two are means over the channels in which real images have a range, NaN where none has.
    """
    if REAL not in networks:
        raise StudyError("ranges are compared with those by real images: give their network, too")
    quantizers = {name: activation_quantizers(read_ir(xml)) for name, xml in networks.items()}
    rows = []
    for name, found in quantizers.items():
        if [q.name for q in found] != [q.name for q in quantizers[REAL]]:
            raise StudyError(f"{networks[name]} and {networks[REAL]} have other quantizers")
        for layer, pair in enumerate(zip(found, quantizers[REAL], strict=True)):
            if name != REAL:
                row = {"calibration_set": name, "layer": layer, "name": pair[0].name}
                rows.append(row | compare_ranges(*pair))
    return pd.DataFrame(rows)


def compare_ranges(quantizer: Quantizer, real: Quantizer) -> dict[str, float]:
    """Return one row of `range_table`, of a quantizer and its counterpart by real images."""
    width, real_width, common = np.broadcast_arrays(
        quantizer.high - quantizer.low,
        real.high - real.low,
        np.minimum(quantizer.high, real.high) - np.maximum(quantizer.low, real.low),
    )
    alive = real_width > 0
    width = np.maximum(width[alive], NARROWEST * real_width[alive])
    real_width, common = real_width[alive], np.maximum(common[alive], 0)
    return {
        "low": float(quantizer.low.min()),
        "high": float(quantizer.high.max()),
        "real_low": float(real.low.min()),
        "real_high": float(real.high.max()),
        "log2_width": _mean(np.log2(width.astype(float) / real_width)),
        "uncovered": _mean(1 - common / real_width),
    }


def _mean(values: np.ndarray) -> float:
    return float(values.mean()) if values.size else float("nan")


def range_errors(ranges: pd.DataFrame, results: pd.DataFrame, method: str, size: int):
    """Join the mean range error of each model and set with what the set did to the network.

    `ranges` is `range_table` with a column `model`, `results` that of the grid, of which nncf's
    rows count. Columns:
    `range_error`, the mean of |log2_width| over layers (0 for real images), `uncovered`, and the
    means over seeds of `disagreement_pp` (percent of images classified otherwise than in FP32)
    and `drop_pp`.
    """
    errors = ranges.assign(range_error=ranges["log2_width"].abs())
    errors = errors.groupby(["model", "calibration_set"])[["range_error", "uncovered"]].mean()
    chosen = results["method"].eq(method) & results["calibration_size"].eq(size)
    done = results[chosen & results["status"].eq("ok") & results["engine"].eq("nncf")]
    done = done[done["model"].isin(ranges["model"].unique())]
    done = done.assign(disagreement_pp=100 * (1 - done["agreement"]))
    effects = done.groupby(["model", "calibration_set"], sort=False)[["disagreement_pp", "drop_pp"]]
    table = effects.mean().join(errors).reset_index()
    real = table["calibration_set"] == REAL
    table.loc[real, ["range_error", "uncovered"]] = 0.0
    return table.dropna()


def rank_correlation(table: pd.DataFrame, first: str, second: str) -> float:
    """Spearman's rank correlation of two columns; NaN where one is constant or rows are few."""
    if len(table) < 3 or table[first].nunique() < 2 or table[second].nunique() < 2:
        return float("nan")
    return float(spearmanr(table[first], table[second]).statistic)
