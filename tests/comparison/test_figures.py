"""The figures of notebook 06, of grids as large as the profiles have and with cells that failed."""

import numpy as np
import pandas as pd
import pytest

from lib.calibration.kinds import KINDS, set_colours
from lib.comparison.figures import (
    loss_heatmap,
    quality_scatter,
    set_differences,
    uncertainty_bars,
)
from lib.figures.captions import describe

SYNTHETIC = [name for name in KINDS if name != "real"]
WAYS = [("nncf", "default"), ("nncf", "accuracy_aware"), ("pot", "default")]
WAYS += [("pot", "accuracy_aware")]


@pytest.fixture
def pooled():
    """Nine sets, four ways: no grey set by the last, noise failed by the third, one seed there."""
    rng, rows = np.random.default_rng(0), []
    for engine, method in WAYS:
        for name in SYNTHETIC:
            middle = -float(rng.gamma(0.4, 8))
            row = {"engine": engine, "method": method, "calibration_set": name}
            row |= {"difference_pp": middle, "low_pp": middle - 0.4, "high_pp": middle + 0.3}
            rows.append(row | {"image_se_pp": 0.2 + rng.random(), "seed_std_pp": rng.random()})
    table = pd.DataFrame(rows)
    third = (table["engine"] == "pot") & (table["method"] == "default")
    table.loc[third, "seed_std_pp"] = np.nan
    numbers = ["difference_pp", "low_pp", "high_pp", "image_se_pp", "seed_std_pp"]
    table.loc[third & (table["calibration_set"] == "noise"), numbers] = np.nan
    return table[
        ~((table["engine"] == "pot") & third.eq(False) & table["calibration_set"].eq("grey"))
    ]


def texts(axis):
    return [text.get_text() for text in axis.texts]


def test_what_is_not_in_the_grid_is_not_said_to_have_failed(pooled):
    names = {"value": "difference_pp", "low": "low_pp", "high": "high_pp"}
    figure = set_differences(pooled, **names, title="Title", x_label="points", margin=0.5)
    (axis,) = figure.axes
    said = texts(axis)
    assert len(said) == 4 * 8
    assert said.count("not compared") == 1 and said.count("not in the grid") == 1
    assert not any("nan" in text for text in said)
    heights = {text.get_text(): text.xy[1] for text in axis.texts}
    assert round(heights["not compared"]) == SYNTHETIC.index("noise")
    assert round(heights["not in the grid"]) == SYNTHETIC.index("grey")


def test_bars_of_one_seed_are_marked_and_explained(pooled):
    figure = uncertainty_bars(pooled, "Title")
    (legend,) = figure.legends
    labels = [text.get_text() for text in legend.get_texts()]
    assert labels[:2] == ["test images (standard error)", "seeds (deviation)"]
    assert "only one seed" in labels[2] and "only one seed" in describe(figure)
    crosses = [sum(len(line.get_xdata()) for line in axis.lines) for axis in figure.axes]
    assert crosses == [0, 0, 7, 0]  # of eight sets one failed
    assert texts(figure.axes[2]) == ["failed"] and texts(figure.axes[3]) == ["not in the grid"]
    several = uncertainty_bars(pooled[pooled["engine"] == "nncf"], "Title")
    assert "one seed" not in describe(several)


def test_the_legend_of_uncertainty_covers_no_panel(pooled):
    for table in (pooled, pooled[pooled["method"] == "default"], pooled[:8]):
        figure = uncertainty_bars(table, "Title")
        figure.draw_without_rendering()
        legend = figure.legends[0].get_window_extent()
        assert not any(legend.overlaps(axis.get_window_extent()) for axis in figure.axes)
        assert all(axis.get_legend() is None for axis in figure.axes)


def test_a_set_has_one_colour_in_every_panel_and_figure():
    rows = [(*WAYS[0], name, 10.0**i) for i, name in enumerate(["real", "fractal", "grey"])]
    rows += [(*WAYS[1], name, 5.0) for name in ("grey", "zeroq", "real")]
    columns = ["engine", "method", "calibration_set", "fid"]
    joined = pd.DataFrame(rows, columns=columns).assign(disagreement_pp=1.0)
    joined.loc[4, "disagreement_pp"] = 60
    figure = quality_scatter(joined, "Title", "FID")
    assert all(axis.get_ylim()[1] > 60 for axis in figure.axes)
    wanted = set_colours(["zeroq", "grey", "fractal", "real"])
    parts = [part for _, part in joined.groupby(["engine", "method"], sort=False)]
    for axis, part in zip(figure.axes, parts, strict=True):
        shown = [line.get_color() for line in axis.lines]
        assert shown == [wanted[name] for name in part["calibration_set"]]
    legend = figure.legends[0]
    assert [t.get_text() for t in legend.get_texts()] == ["real", "fractal", "grey", "zeroq"]
    assert [line.get_color() for line in legend.get_lines()] == [
        wanted[name] for name in ("real", "fractal", "grey", "zeroq")
    ]


def test_disagreement_spans_the_axis_and_none_at_all_is_shown():
    columns = ["engine", "method", "calibration_set", "fid", "disagreement_pp"]
    rows = [(*WAYS[0], "real", 0.01, 2.5), (*WAYS[0], "grey", 26.0, 80.0)]
    joined = pd.DataFrame(rows, columns=columns)
    low, high = quality_scatter(joined, "Title", "FID").axes[0].get_ylim()
    assert 1 < low < 2.5 and 80 < high < 200
    joined.loc[0, "disagreement_pp"] = 0.0
    low, high = quality_scatter(joined, "Title", "FID").axes[0].get_ylim()
    assert low < 0 and high > 80


def test_a_loss_of_sixty_points_leaves_colour_to_one_of_half_a_point():
    keys = {"engine": "nncf", "method": "default", "model": "a"}
    drops = {"real": 0.0, "student": 0.5, "vgg": -0.5, "grey": 60.0}
    table = pd.DataFrame([keys | {"calibration_set": s, "drop_pp": d} for s, d in drops.items()])
    figure = loss_heatmap(table, "Title")
    figure.canvas.draw()
    none, loss, gain, most = figure.axes[0].collections[0].get_facecolors()[:, :3]
    assert np.ptp(none) < 0.1 and loss[0] - loss[2] > 0.05 and gain[2] - gain[0] > 0.05
    assert most[0] - most[2] > 2 * (loss[0] - loss[2])
    said = [label.get_text() for label in figure.axes[1].get_yticklabels()]
    assert {"-10", "-1", "0", "1", "10"} <= set(said)


def test_known_sets_have_distinct_colours_that_do_not_depend_on_the_others():
    colours = set_colours(KINDS)
    assert len(set(colours.values())) == len(KINDS)
    assert set_colours(["grey"])["grey"] == colours["grey"]


@pytest.mark.filterwarnings("ignore:The set_bad function")  # seaborn calls it
def test_losses_tell_failed_cells_from_those_outside_the_grid():
    keys = {"engine": "nncf", "method": "default"}
    rows = [keys | {"model": m, "calibration_set": s, "drop_pp": 1.0} for m in "ab" for s in "xy"]
    rows[1]["drop_pp"] = np.nan
    rows += [keys | {"method": "accuracy_aware", "model": "a", "calibration_set": "x"}]
    figure = loss_heatmap(pd.DataFrame(rows).fillna({"drop_pp": np.nan}), "Title")
    said = sorted(texts(figure.axes[0]))
    assert said == ["1.00", "1.00", "1.00", "failed", "failed"]  # (a, y) of accuracy-aware: grey
    assert "grey: not in the grid" in describe(figure)
