"""Published figures beside ours: which of ours, and what makes them differ."""

import numpy as np
import pandas as pd
import pytest

from lib.comparison.literature import FIGURES, published_table

HERE = {"data": "digits", "trained_here": True, "images": 600}


def ours(*rows):
    """Return rows (model, engine, drop) of a degradation table, by the student's images."""
    table = pd.DataFrame(rows, columns=["model", "engine", "drop_pp"])
    common = {"method": "default", "calibration_size": 300, "calibration_set": "student"}
    return table.assign(**common, seeds=3, fp32_accuracy=0.98)


def row_of(table, network):
    return table[table["network"] == network].iloc[0]


def test_published_figures_stand_beside_ours_with_the_differences():
    table = published_table(ours(("resnet20_x0_5", "nncf", 0.7)), **HERE)
    assert len(table) == len(FIGURES)
    fp32 = row_of(table, "ResNet20")
    assert fp32["ours"] == pytest.approx(98) and fp32["our_network"] == "resnet20_x0_5"
    assert (fp32["engine"], fp32["our_data"]) == ("FP32", "digits")
    assert "CIFAR-10 there, digits here (600 test images)" in fp32["differences"]
    assert "another size of network here (resnet20_x0_5)" in fp32["differences"]
    assert "weights trained by this study" in fp32["differences"]
    missing = row_of(table, "VGG16-BN")
    assert np.isnan(missing["ours"])
    assert (missing["our_network"], missing["engine"], missing["our_data"]) == ("none",) * 3
    assert missing["differences"] == "its own training; no figure of ours"


def test_figures_of_the_paper_stand_beside_ours_by_pot():
    rows = [("mobilenetv2_x0_25", "nncf", 0.4), ("resnet20", "nncf", 0.1)]
    rows += [("shufflenetv2_x0_5", "nncf", 3.0), ("mobilenetv2_x0_25", "pot", 0.2)]
    table = published_table(ours(*rows, ("resnet20", "pot", 0.3)), **HERE)
    best = row_of(table, "MobileNetV2 (its best)")
    assert (best["ours"], best["engine"]) == (0.2, "POT")
    assert "by POT with 300 of the student's images, mean over 3 seeds" in best["differences"]
    largest = row_of(table, "the selected models")
    assert (largest["ours"], largest["our_network"]) == (0.3, "resnet20")
    assert "the largest loss of 2 networks" in largest["differences"]
    other = row_of(table, "ResNet-20")  # another paper's, without POT
    assert (other["ours"], other["engine"]) == (0.1, "NNCF")


def test_where_pot_has_nothing_ours_are_by_nncf():
    failed = ours(("mobilenetv2_x0_25", "nncf", 0.4), ("mobilenetv2_x0_25", "pot", np.nan))
    best = row_of(published_table(failed, **HERE), "MobileNetV2 (its best)")
    assert (best["ours"], best["engine"]) == (0.4, "NNCF")
    assert "by NNCF" in best["differences"]


def test_the_same_network_and_data_leave_the_training_alone_to_differ():
    there = {"data": "CIFAR-10", "trained_here": False, "images": 10_000}
    same = published_table(ours(("resnet20", "nncf", 0.7)), **there)
    assert same.iloc[0]["differences"] == "its own training"
    copy = published_table(ours(("resnet20", "nncf", 0.7)), **there | {"data": "CIFAR-10 (JPEG)"})
    assert "CIFAR-10 there, CIFAR-10 (JPEG) here" in copy.iloc[0]["differences"]


def test_a_network_of_no_family_counts_in_the_largest_loss_alone():
    table = published_table(ours(("my_network", "nncf", 0.7)), **HERE)
    assert table["ours"].notna().sum() == 1
