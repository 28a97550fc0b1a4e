"""The figures of 06 and A2: what a reader sees, of grids with cells that failed."""

import pandas as pd
import pytest

from lib.calibration.kinds import KINDS
from lib.comparison.figures import sensitivity_figure, set_figure
from lib.comparison.tables import versus_real
from tests.comparison.conftest import EQUAL, FEW, spoil, study


def versus(**options):
    data = study(EQUAL | {"fractal": 130, "noise": 900, "teacher": 108}, **options)
    return versus_real(*spoil(data, "student", "vgg11_bn", 113), **FEW)


def rows(axis):
    return [label.get_text() for label in axis.get_yticklabels()]


def test_sets_are_ranked_and_controls_have_an_axis_of_their_own():
    figure = set_figure(versus(), "nncf", "default")
    near, far = figure.axes
    assert rows(near) == ["teacher", "student", "fractal"] and rows(far) == ["noise"]
    assert near.get_xlim()[0] > -2 and far.get_xlim()[0] < -35
    assert near.get_xscale() == far.get_xscale() == "linear"
    title = "against real images with: teacher, student"
    assert figure.get_suptitle().endswith(title)
    assert "percentage points" in far.get_xlabel() and far.get_title().startswith("Controls")


def test_every_network_is_a_dot_in_its_sets_colour_and_the_worst_is_named():
    near = set_figure(versus(), "nncf", "default").axes[0]
    dots = {line.get_color(): line.get_xdata() for line in near.lines if line.get_marker() == "o"}
    assert sorted(dots[KINDS["student"].colour]) == pytest.approx([-0.45, 0])
    assert [text.get_text() for text in near.texts][1] == "vgg11_bn"


def test_a_set_with_a_network_far_off_does_not_flatten_the_others():
    data = spoil(study(EQUAL), "fractal", "vgg11_bn", 900)
    near, far = set_figure(versus_real(*data, **FEW), "nncf", "default").axes
    assert rows(near) == ["teacher", "student"] and rows(far) == ["noise", "fractal"]


def test_agreement_is_drawn_alike_and_what_failed_is_left_out():
    table = versus(failed=("fractal",))
    figure = set_figure(table, "nncf", "default", agreement=True)
    assert rows(figure.axes[0]) == ["teacher", "student"]
    assert "Agreement with FP32" in figure.axes[-1].get_xlabel()
    empty = set_figure(versus(failed=("real",)), "nncf", "default")
    assert empty.get_suptitle().startswith("Each set costs a network") and rows(empty.axes[0]) == []


def levels(by):
    kinds, values = ["real", "student", "grey"], [1, 300] if by != "method" else ["default"]
    values = [*values, "default_per_tensor", "default_a4"] if by == "method" else values
    frame = pd.DataFrame([(m, k, v) for m in "ab" for k in kinds for v in values])
    frame.columns = ["model", "calibration_set", by]
    return frame.assign(agreement=90.0, agreement_low=89.0, agreement_high=92.0)


def test_sizes_and_bits_are_drawn_with_controls_apart():
    figure = sensitivity_figure(levels("calibration_size"), "Title")
    assert len(figure.axes) == 4 and figure.get_suptitle() == "Title"
    assert [len(axis.containers) for axis in figure.axes] == [2, 1, 2, 1]
    names = [text.get_text() for text in figure.legends[0].get_texts()]
    assert names == ["real", "student", "grey"]
    figure = sensitivity_figure(levels("method"), "Title", by="method")
    ticks = [label.get_text() for label in figure.axes[0].get_xticklabels()]
    assert ticks == ["8", "8\none scale a layer", "4"]
    assert "bits" in figure.axes[0].get_xlabel()
