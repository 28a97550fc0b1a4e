"""Charts: limits, intervals, labels that can be read."""

import warnings

import numpy as np
import pandas as pd
import pytest

from lib.figures.charts import bars, confusion_matrices, heatmap
from lib.figures.style import noted_glyphs, shortened


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


def test_bars_beyond_the_limit_are_cut_and_labelled():
    table = pd.DataFrame({"set": ["real", "student", "grey"], "loss": [0.1, -0.2, 60.0]})
    axis = bars(table, "set", "loss", "Title", "set", "loss", limit=5).axes[0]
    assert axis.get_ylim() == pytest.approx((-0.21, 5.25))
    assert [text.get_text() for text in axis.texts] == ["60"]
    axis = bars(table, "set", "loss", "Title", "set", "loss").axes[0]
    assert axis.get_ylim()[1] > 60 and not axis.texts


def test_long_names_below_bars_do_not_overlap():
    names = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship"]
    table = pd.DataFrame({"class": [*names, "truck"], "fid": np.arange(10.0)})
    figure = bars(table, "class", "fid", "Title", "class", "FID")
    figure.canvas.draw()
    labels = figure.axes[0].get_xticklabels()
    assert {label.get_rotation() for label in labels} == {30}
    short = bars(table.assign(**{"class": list("abcdefghij")}), "class", "fid", "Title", "c", "FID")
    assert {label.get_rotation() for label in short.axes[0].get_xticklabels()} == {0}


def test_names_are_text_in_figures(tmp_path, capsys):
    names = ["a $b^$ c", "$5 {bill$", "very long " * 30]
    pairs = {"$x_{1": (np.arange(3), np.arange(3))}
    figure = confusion_matrices(pairs, names)
    figure.savefig(tmp_path / "figure.png")
    assert [label.get_text() for label in figure.axes[0].get_xticklabels()] == [
        *names[:2],
        "very long very long ver…",
    ]
    table = pd.DataFrame({"class": names, "fid": np.arange(3.0)})
    bars(table, "class", "fid", "Of $data", "class", "FID").savefig(tmp_path / "figure.png")
    assert shortened("one\ntwo") == "one two"
    with noted_glyphs("figure.png"):
        figure.suptitle("\U00012000").figure.savefig(tmp_path / "figure.png")
    with pytest.warns(UserWarning, match="of another kind"), noted_glyphs("figure.png"):
        warnings.warn("of another kind", stacklevel=1)
    assert "no font here has the letters \U00012000 of figure.png" in capsys.readouterr().out
