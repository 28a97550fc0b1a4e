"""Activation ranges: what a calibration set decides, layer by layer, against real images.

Too narrow a range clips activations, too wide a one spreads the levels thin. Both are read from
the quantizers of the INT8 networks that the grid kept.
"""

from pathlib import Path

import numpy as np
import pandas as pd

from lib.common.errors import StudyError
from lib.common.openvino import read_ir
from lib.comparison.models import REAL
from lib.quantization.fake_quantize import Quantizer, activation_quantizers

NARROWEST = 2.0**-8  # of the real range: narrower ones all count as this, a range of one level


def range_tables(grid: Path, results: pd.DataFrame, size: int) -> pd.DataFrame:
    """Return `range_table` of each `model` that default quantization by NNCF has done.

    `grid` is the grid's folder, with the networks of the first seed; models without real images
    or without another set are left out.
    """
    wanted = "engine == 'nncf' and method == 'default' and status == 'ok' and seed == 0"
    parts = [pd.DataFrame()]
    for model, part in results.query(wanted).groupby("model", sort=False):
        names = {s: f"{model}.nncf.default.{s}.{size}.xml" for s in part["calibration_set"]}
        if REAL in names and len(names) > 1:
            files = {kind: grid / "models" / name for kind, name in names.items()}
            parts.append(range_table(files).assign(model=model))
    return pd.concat(parts)


def range_table(networks: dict[str, Path]) -> pd.DataFrame:
    """Compare the ranges of INT8 networks `{calibration set: .xml}` of one FP32 network.

    One row for each set but real and each quantizer of activations, in the network's order:
    `low`, `high`, `real_low`, `real_high` (the outermost ends of its channels), `log2_width`, the
    base-2 logarithm of its width over that by real images (1: one bit lost; negative: narrower),
    and `uncovered`, the share of the real range outside: means over the channels in which real
    images have a range, NaN where none has.
    """
    if REAL not in networks:
        raise StudyError("ranges are compared with those by real images: give their network, too")
    quantizers = {name: activation_quantizers(read_ir(xml)) for name, xml in networks.items()}
    real, rows = quantizers.pop(REAL), []
    for name, found in quantizers.items():
        if [q.name for q in found] != [q.name for q in real]:
            raise StudyError(f"{networks[name]} and {networks[REAL]} have other quantizers")
        for layer, pair in enumerate(zip(found, real, strict=True)):
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
