"""The figures of 06 and A2: what a reader sees."""

import pandas as pd
import pytest

from lib.calibration.kinds import KINDS
from lib.comparison.answer import answers, of_way
from lib.comparison.figures import dose_figure, panel_figure, ranked_figure
from lib.comparison.service import service_table
from tests.comparison.conftest import EQUAL, study


def ranked(changed=EQUAL, **options):
    services = of_way(service_table(*study(changed, **options), resamples=300))
    return ranked_figure(services, of_way(answers(services)))


def rows(axis):
    return [label.get_text() for label in axis.get_yticklabels()]


def test_sets_are_ranked_and_controls_have_an_axis_of_their_own():
    figure = ranked(EQUAL | {"fractal": 400, "noise": 4000})
    near, far = figure.axes
    assert rows(near) == ["teacher", "student", "fractals"] and rows(far) == ["noise"]
    assert near.get_xlim()[0] > -4 and far.get_xlim()[0] < -35
    assert near.get_xscale() == far.get_xscale() == "linear"
    assert figure.get_suptitle() == "These serve every network: teacher, student"
    assert "points" in far.get_xlabel()


def test_every_network_is_a_mark_that_says_what_was_decided():
    near = ranked(own={("student", "vgg11_bn"): 340}).axes[0]
    own = [line for line in near.lines if line.get_color() == KINDS["student"].colour]
    marks = {line.get_marker(): sorted(line.get_xdata()) for line in own if len(line.get_xdata())}
    assert marks["o"] == pytest.approx([-0.05, -0.05]) and marks["X"] == pytest.approx([-1.4])
    assert "VGG11-BN" in [text.get_text() for text in near.texts]


def test_a_set_with_a_network_far_off_does_not_flatten_the_others():
    near, far = ranked(own={("fractal", "vgg11_bn"): 4000}).axes
    assert rows(near) == ["teacher", "student"] and rows(far) == ["noise", "fractals"]


def test_no_set_serves_every_network():
    own = {(kind, "vgg11_bn"): 400 for kind in EQUAL if kind != "real"}
    assert ranked(own=own).get_suptitle() == "No set is sure to serve every network"
    own |= {(kind, "vgg11_bn"): 248 for kind in ("teacher", "noise")}  # not decided
    title = "No set is sure to serve every network; these fail none: teacher"
    assert ranked(own=own).get_suptitle() == title


def test_panels_have_a_line_for_each_set():
    table = pd.DataFrame(
        [(m, k, b, 90.0) for m in "abcd" for k in ("real", "student") for b in ("8", "4")],
        columns=["model", "calibration_set", "bits", "agreement"],
    )
    figure = panel_figure(table, "Title", x="bits", x_label="bits of the activations")
    assert len(figure.axes) == 4 and all(len(axis.lines) == 2 for axis in figure.axes)
    assert [text.get_text() for text in figure.axes[0].get_xticklabels()] == ["8", "4"]
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["real", "student"]


def said(figure):
    return " ".join(figure.get_suptitle().split())


def test_doses_are_in_their_order_with_the_whole_last():
    changed = {"real": 200, "student": 205, "student_8": 230, "student_1": 400}
    changed |= {"real_blurred": 210, "real_flat": 220, "real_dark": 500}
    services = of_way(service_table(*study(changed), resamples=300))
    figure = dose_figure(services)
    first, second = figure.axes
    assert [text.get_text() for text in first.get_xticklabels()] == ["0.44 %", "28 %", "100 %"]
    assert list(first.lines[0].get_ydata()) == pytest.approx([-2.0, -0.3, -0.05])
    shown = [text.get_text() for text in second.get_xticklabels()]
    assert shown == ["real, blurred", "real, low contrast", "real, dark"]
    title = said(figure)
    assert "-2.0 points (training of the student: 0.44 %)" in title
    assert "-3.0 points (spoilt images: real, dark)" in title
    assert dose_figure(of_way(service_table(*study(EQUAL), resamples=300))) is None


def test_numbers_of_real_images_are_doses_with_nothing_lost_at_the_usual_number():
    table, predictions = study(EQUAL)
    few = table[(table["calibration_set"] == "student")].assign(
        calibration_set="real", calibration_size=10
    )
    predictions |= {
        name.replace("/student/300/", "/real/10/"): found
        for name, found in predictions.items()
        if "/student/" in name
    }
    services = of_way(service_table(pd.concat([table, few]), predictions, resamples=300))
    [axis] = dose_figure(services).axes
    assert [text.get_text() for text in axis.get_xticklabels()] == ["10", "300"]
    assert list(axis.lines[0].get_ydata()) == pytest.approx([-0.05, 0])
    lost = services["calibration_size"] == 10
    services.loc[lost, "answer"], services.loc[lost, "difference_pp"] = "not measured", float("nan")
    assert pd.isna(dose_figure(services).axes[0].lines[0].get_ydata()[0])
