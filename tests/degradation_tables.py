"""Tables of what INT8 loses, as `lib.comparison.degradation_table` returns them."""

import pandas as pd


def degradation(drops, agreements, kls, method="default"):
    return pd.DataFrame(
        {
            "model": "resnet20_x0_5",
            "engine": "nncf",
            "method": method,
            "calibration_size": 300,
            "calibration_set": list("abcdefghi")[: len(drops)],
            "drop_pp": drops,
            "agreement": agreements,
            "kl": kls,
            "fp32_accuracy": 0.98,
        }
    )
