"""Figures: what they show where a panel lacks a row, and within which limits."""

import numpy as np
import pandas as pd
import pytest

from lib.figures.charts import bars, heatmap, intervals


def test_a_row_that_a_panel_lacks_is_left_empty():
    rows = [("default", "noise", -3.0), ("default", "grey", -50.0), ("aware", "noise", -0.2)]
    table = pd.DataFrame(rows, columns=["method", "set", "gain"])
    table["low"], table["high"] = table["gain"] - 0.1, table["gain"] + 0.1
    names = dict(row="set", panel="method", value="gain", low="low", high="high")
    figure = intervals(table, **names, title="Gain", x_label="points", margin=0.5)
    figure.canvas.draw()
    texts = [[text.get_text() for text in axis.texts] for axis in figure.axes]
    assert texts == [["-3.00", "-50.00"], ["-0.20"]]


@pytest.mark.filterwarnings("ignore:The set_:PendingDeprecationWarning")  # seaborn's
def test_a_heat_map_keeps_to_its_limits():
    table = pd.DataFrame([[0.0, 1.0, 7.0]], index=["a"], columns=[1, 2, 3])
    figure = heatmap(table, "Title", "x", "y", "unit", center=1, limits=(0, 2), cell=(0.5, 0.4))
    figure.canvas.draw()
    mesh = figure.axes[0].collections[0]
    assert mesh.norm.vmin == 0 and mesh.norm.vmax == 2
    colours = mesh.get_facecolors()
    assert np.ptp(colours[1, :3]) < 0.1  # the middle has next to no colour
    assert colours[0, 2] > colours[0, 0] and colours[2, 0] > colours[2, 2]


def test_small_bars_are_seen_beside_large_ones():
    table = pd.DataFrame({"set": ["real", "student", "grey"], "loss": [0.1, -0.2, 60.0]})
    figure = bars(table, "set", "loss", "Title", "set", "loss", linear_within=1)
    axis = figure.axes[0]
    height = np.ptp(axis.get_window_extent().intervaly)
    ends = axis.transData.transform([(0, loss) for loss in [0, *table["loss"]]])[:, 1]
    assert abs(ends[1] - ends[0]) > 0.02 * height and ends[2] < ends[0] < ends[3]
    assert {"0", "1", "10"} <= {label.get_text() for label in axis.get_yticklabels()}


def test_long_names_below_bars_do_not_overlap():
    names = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship"]
    table = pd.DataFrame({"class": [*names, "truck"], "fid": np.arange(10.0)})
    figure = bars(table, "class", "fid", "Title", "class", "FID")
    figure.canvas.draw()
    labels = figure.axes[0].get_xticklabels()
    assert {label.get_rotation() for label in labels} == {30}
    short = bars(table.assign(**{"class": list("abcdefghij")}), "class", "fid", "Title", "c", "FID")
    assert {label.get_rotation() for label in short.axes[0].get_xticklabels()} == {0}
