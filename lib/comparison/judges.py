"""Accuracy-aware quantization judged on real images and on synthetic ones: does it decide alike?"""

import pandas as pd

from lib.quantization.cell import SYNTHETIC

JUDGES = {"real": "accuracy_aware", "synthetic": SYNTHETIC}


def judges_table(results: pd.DataFrame) -> pd.DataFrame:
    """Return what NNCF's accuracy control did by each judge, a row a network, set and draw.

    `results` are those of `load_results`. Columns: agreement with FP32 in [0, 1] before (`default`)
    and after (`real`, `synthetic`: the images that judged), and how many rounding operations each
    gave back to floating point (`given_real`, `given_synthetic`). Only what both judges have
    finished is listed; none, and the table has no rows.
    """
    keys = ["model", "calibration_set", "calibration_size", "seed"]
    done = results[(results["engine"] == "nncf") & (results["status"] == "ok")]
    joined = done.loc[done["method"] == "default", [*keys, "agreement", "quantizers"]]
    joined = joined.rename(columns={"agreement": "default"})
    for judge, method in JUDGES.items():
        own = done.loc[done["method"] == method, [*keys, "agreement", "quantizers"]]
        names = {"agreement": judge, "quantizers": f"kept_{judge}"}
        joined = joined.merge(own.rename(columns=names), on=keys)
    for judge in JUDGES:
        joined[f"given_{judge}"] = joined["quantizers"] - joined.pop(f"kept_{judge}")
    return joined.drop(columns="quantizers")


def judges_words(table: pd.DataFrame) -> str:
    """Say in how many rows of `judges_table` both judges decide alike: to repair, or to leave."""
    if table.empty:
        return "No network has both: quantization_methods names one judge or none."
    real, synthetic = (table[f"given_{judge}"] > 0 for judge in JUDGES)
    words = f"Both judges decide alike for {(real == synthetic).sum()} of {len(table)} networks"
    gain = 100 * (table["synthetic"] - table["real"])
    return (
        f"{words}: real images have {real.sum()} repaired, synthetic ones {synthetic.sum()}. After "
        f"it, agreement with FP32 differs by {gain.min():+.1f} to {gain.max():+.1f} points."
    )
