"""Where calibration sets differ: by size and variant, with intervals over images and seeds."""

import itertools

import numpy as np
import pandas as pd
import pytest

from lib.comparison.sensitivity import crossed_interval, enough_images, sensitivity_table
from lib.quantization.cell import CELL_KEYS


def planted(n=1000):
    """At size 1 INT8 errs on 200 images that FP32 has right, then on none; noise always on 300."""
    labels = np.arange(n) % 10
    cells = [("m", "openvino", "fp32", "none", 0, 0)]
    cells += itertools.product(["m"], ["nncf"], ["default"], ["real", "noise"], [1, 10, 30], [0, 1])
    cells += itertools.product(["m"], ["nncf"], ["default_a4"], ["real", "noise"], [30], [0, 1])
    predictions, rows = {}, []
    for cell in cells:
        errors = {"noise": 300, "real": 200 if cell[4] == 1 else 0, "none": 0}[cell[3]]
        wrong = np.arange(n) < errors
        predictions["/".join(map(str, cell))] = np.where(wrong, (labels + 1) % 10, labels)
        row = {"status": "ok", "images_read": cell[4], "classes_read": 1}
        rows.append(dict(zip(CELL_KEYS, cell, strict=True)) | row)
    return pd.DataFrame(rows), predictions, labels


def test_table_of_sizes_by_hand():
    table = sensitivity_table(*planted(), resamples=200)
    first = table[(table["calibration_set"] == "real") & (table["calibration_size"] == 1)].iloc[0]
    assert first["accuracy"] == first["agreement"] == pytest.approx(80)
    assert first["accuracy_low"] == pytest.approx(80 - 2.5, abs=0.6)
    assert first["seeds"] == 2 and first["fp32_accuracy"] == 100 and first["images_read"] == 1
    assert set(table["method"]) == {"default", "default_a4"}


@pytest.mark.parametrize("tolerance, enough", [(0.5, 10), (25, 1)])
def test_enough_images_are_those_from_which_agreement_is_level(tolerance, enough):
    table = enough_images(sensitivity_table(*planted(), resamples=20), tolerance)
    table = table.set_index("calibration_set")
    assert list(table.loc["real", ["fewest", "most", "enough"]]) == [80, 100, enough]
    assert list(table.loc["noise", ["fewest", "most", "enough"]]) == [70, 70, 1]


def test_agreement_that_falls_again_was_not_enough():
    sizes, agreement = [1, 10, 100, 300], [90.0, 99.0, 90.0, 99.0]
    rows = {"model": "m", "method": "default", "calibration_set": "real"}
    table = pd.DataFrame(rows | {"calibration_size": sizes, "agreement": agreement})
    assert enough_images(table, 0.5)["enough"].tolist() == [300]


def test_interval_widens_with_the_spread_of_seeds():
    alike = np.tile(np.repeat([0.0, 100.0], 50), (4, 1))
    spread = alike.copy()
    spread[:2] = 0
    same, wider = (crossed_interval(values, 0.95, 400, 0) for values in (alike, spread))
    assert same[0] == pytest.approx(50 - 9.8, abs=2) and same[1] == pytest.approx(50 + 9.8, abs=2)
    assert wider[1] - wider[0] > 1.5 * (same[1] - same[0]) / 2
