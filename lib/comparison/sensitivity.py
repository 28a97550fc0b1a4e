"""Where calibration sets differ: by size, by scales of weights, by bits of activations.

From the results of a second grid, whose default quantization runs at several sizes and whose
variants (`lib.quantization.nncf.VARIANTS`) run at one.
"""

import numpy as np
import pandas as pd

from lib.common.errors import StudyError
from lib.common.seeds import numpy_generator
from lib.comparison.tables import named_cells

GROUP = ["model", "method", "calibration_set", "calibration_size"]


def sensitivity_table(
    table: pd.DataFrame,
    predictions: dict[str, np.ndarray],
    labels: np.ndarray,
    *,
    confidence: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
) -> pd.DataFrame:
    """Return accuracy and agreement with FP32 in percent, with intervals over images and seeds.

    A row for each model, method, set and size: `accuracy`, `agreement`, their `_low` and `_high`,
    `fp32_accuracy`, `seeds`, and the means over seeds of `images_read` and `classes_read`, which
    say what a size below the number of classes holds.
    """
    int8, names = named_cells(table)
    rows = []
    for key, group in int8[int8["status"] == "ok"].groupby(GROUP, sort=False):
        found, fp32 = [predictions[name] for name in group["name"]], predictions[names[key[0]]]
        row = dict(zip(GROUP, key, strict=True)) | {"seeds": len(group)}
        row |= group[["images_read", "classes_read"]].astype(float).mean().to_dict()
        row["fp32_accuracy"] = 100 * float((fp32 == labels).mean())
        for name, truth in (("accuracy", labels), ("agreement", fp32)):
            hits = 100.0 * (np.stack(found) == truth)
            low, high = crossed_interval(hits, confidence, resamples, seed)
            row |= {name: float(hits.mean()), f"{name}_low": low, f"{name}_high": high}
        rows.append(row)
    if not rows:
        raise StudyError("no cell of the sensitivity grid succeeded: there is nothing to show")
    return pd.DataFrame(rows)


def crossed_interval(
    values: np.ndarray, confidence: float, resamples: int, seed: int
) -> tuple[float, float]:
    """Percentile bootstrap interval for the mean of `(seeds, images)`, both resampled.

    Owen 2007, "The pigeonhole bootstrap": rows and columns are drawn independently. One row, or
    few, understate how much seeds differ.
    """
    rows, columns = values.shape
    rng = numpy_generator(seed, "crossed bootstrap")
    means = np.empty(resamples)
    for i in range(resamples):
        drawn = rng.multinomial(rows, np.full(rows, 1 / rows)) / rows
        means[i] = (drawn @ values)[rng.integers(0, columns, columns)].mean()
    return tuple(np.quantile(means, [(1 - confidence) / 2, (1 + confidence) / 2]).tolist())


def enough_images(table: pd.DataFrame, tolerance_pp: float) -> pd.DataFrame:
    """Return the size from which on agreement stays within a tolerance of that at the most images.

    A row for each model and set of default quantization: agreement in percent at the `fewest`
    and the `most` images, and `enough`.
    """
    rows, default = [], table[table["method"] == "default"].sort_values("calibration_size")
    for key, part in default.groupby(["model", "calibration_set"], sort=False):
        fewest, most = part["agreement"].iloc[[0, -1]]
        within = (part["agreement"] >= most - tolerance_pp)[::-1].cummin()
        rows.append((*key, fewest, most, part["calibration_size"][within].min()))
    return pd.DataFrame(rows, columns=["model", "calibration_set", "fewest", "most", "enough"])
