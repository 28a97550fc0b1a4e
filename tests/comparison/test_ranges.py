"""Ranges of activations against those by real images."""

import numpy as np
import pandas as pd
import pytest

from lib.common.errors import StudyError
from lib.comparison import ranges as module
from lib.comparison.ranges import NARROWEST, compare_ranges, range_table, range_tables
from lib.quantization.fake_quantize import Quantizer


def quantizer(low, high, name="q"):
    return Quantizer(None, np.array(low, float), np.array(high, float), name, 256)


@pytest.fixture
def networks(monkeypatch):
    """Networks by file name: the quantizers of each, for `range_table` to read."""
    known = {
        "real": [quantizer([-2], [2]), quantizer([0], [4], "r")],
        "same": [quantizer([-2], [2]), quantizer([0], [4], "r")],
        "narrow": [quantizer([0], [1]), quantizer([0], [4], "r")],
        "other": [quantizer([0], [1], "x")],
    }
    monkeypatch.setattr(module, "read_ir", lambda path: path.name.split(".")[-3])
    monkeypatch.setattr(module, "activation_quantizers", known.__getitem__)
    return known


def test_ranges_by_hand(networks, tmp_path):
    files = {name: tmp_path / f"m.nncf.default.{name}.300.xml" for name in networks}
    other = files.pop("other")
    table = range_table(files).set_index(["calibration_set", "layer"])
    assert table.loc[("same", 0), ["log2_width", "uncovered"]].tolist() == [0, 0]
    assert table.loc[("narrow", 0), ["log2_width", "uncovered"]].tolist() == [-2, 0.75]
    assert table.loc[("narrow", 0), ["low", "high", "real_low", "real_high"]].tolist() == [
        0,
        1,
        -2,
        2,
    ]
    assert table.loc[("narrow", 1), "name"] == "r"
    with pytest.raises(StudyError, match="give their network, too"):
        range_table({"noise": files["same"]})
    with pytest.raises(StudyError, match="have other quantizers"):
        range_table(files | {"other": other})


def test_tables_are_of_the_kept_networks_of_default_quantization(networks, tmp_path):
    rows = [("m", "real", "ok"), ("m", "narrow", "ok"), ("m", "same", "error"), ("n", "real", "ok")]
    results = pd.DataFrame(rows, columns=["model", "calibration_set", "status"])
    results = results.assign(engine="nncf", method="default", seed=0)
    results = pd.concat([results, results.assign(engine="pot"), results.assign(seed=1)])
    table = range_tables(tmp_path, results, 300)
    assert set(table["model"]) == {"m"} and set(table["calibration_set"]) == {"narrow"}
    assert range_tables(tmp_path, results[:1], 300).empty


def test_channels_without_a_range_do_not_count():
    real, wide = quantizer([0, 0], [0, 2]), quantizer([0, 0], [5, 1])
    assert compare_ranges(real, real)["uncovered"] == compare_ranges(real, real)["log2_width"] == 0
    found = compare_ranges(wide, real)
    assert (found["log2_width"], found["uncovered"]) == (-1, 0.5)
    dead = quantizer([0, 0], [0, 0])
    assert np.isnan(compare_ranges(wide, dead)["log2_width"])
    assert compare_ranges(dead, wide)["log2_width"] == np.log2(NARROWEST)
