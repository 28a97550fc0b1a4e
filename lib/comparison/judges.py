"""Accuracy-aware quantization judged on real images and on synthetic ones: does it decide alike?"""

import pandas as pd

from lib.quantization.cell import SYNTHETIC

JUDGES = {"real": "accuracy_aware", "synthetic": SYNTHETIC}


def judges_table(results: pd.DataFrame) -> pd.DataFrame:
    """Return what NNCF's accuracy control did by each judge, a row a network, set and draw.

    `results` are those of `load_results`. Columns: agreement with FP32 in [0, 1] before (`default`)
    and after (`real`, `synthetic`: the images that judged), loss of top-1 on test images in points
    (`drop_default`, …), and how many rounding operations each gave back to floating point
    (`given_real`, `given_synthetic`). Only what both judges have finished is listed.
    """
    keys = ["model", "calibration_set", "calibration_size", "seed"]
    done = results[(results["engine"] == "nncf") & (results["status"] == "ok")]
    parts = []
    for name, method in ({"default": "default"} | JUDGES).items():
        own = done[done["method"] == method].set_index(keys)
        names = {"agreement": name, "drop_pp": f"drop_{name}", "quantizers": f"given_{name}"}
        parts.append(own[list(names)].rename(columns=names))
    joined = pd.concat(parts, axis=1, join="inner")
    before = joined.pop("given_default")
    return joined.assign(
        **{f"given_{j}": before - joined[f"given_{j}"] for j in JUDGES}
    ).reset_index()


def judges_words(table: pd.DataFrame) -> str:
    """Say in how many rows of `judges_table` both judges decide alike: to repair, or to leave."""
    if table.empty:
        return "No network was quantized under both judges."
    real, synthetic = (table[f"given_{judge}"] > 0 for judge in JUDGES)
    if not (real | synthetic).any():
        return f"Neither judge finds anything to repair in {len(table)} quantizations."
    words = f"Both judges decide alike in {(real == synthetic).sum()} of {len(table)} quantizations"
    gain = 100 * (table["synthetic"] - table["real"])
    return (
        f"{words}: real images have {real.sum()} repaired, synthetic ones {synthetic.sum()}. "
        f"Agreement with FP32 under the synthetic judge less that under the real one: "
        f"{gain.min():+.1f} to {gain.max():+.1f} points."
    )
