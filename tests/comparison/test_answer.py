"""The answer counts networks, names the worst one and hides none behind a mean."""

import pandas as pd
import pytest

from lib.common.errors import StudyError
from lib.comparison.answer import (
    answers,
    best_without_data,
    limits,
    main_answer,
    of_way,
    reader_table,
    rule_table,
    sentence,
    verdict,
    whole_sets,
)
from lib.comparison.service import service_table
from tests.comparison.conftest import EQUAL, study

FEW = {"resamples": 300}


def services(changed=EQUAL, **options):
    return service_table(*study(changed, **options), **FEW)


def answered(*arguments, **options):
    return of_way(answers(services(*arguments, **options)))


def test_one_failing_network_is_enough():
    row = main_answer(answered(own={("student", "vgg11_bn"): 340}))
    assert row["answer"] == "fails" and (row["served"], row["failed"]) == (2, 1)
    assert row["worst"] == "vgg11_bn" and row["difference_pp"] == pytest.approx(-1.4)
    assert row["middle_pp"] == pytest.approx(-0.05)
    assert "2 of 3 INT8 networks agree" in sentence(row)
    assert "1 agree less. Worst is VGG11-BN (-1.40 points, interval -1." in sentence(row)


def test_a_set_that_serves_all_is_said_to():
    row = main_answer(answered())
    assert row["answer"] == "serves all"
    said = sentence(row)
    assert said.startswith("Calibrated with the student's images, 3 of 3 INT8 networks agree with ")
    assert "farthest from it is ResNet20 (-0.05 points" in said


def test_best_comes_first_after_real_images():
    own = {("teacher", "vgg11_bn"): 340, ("teacher", "resnet20"): 340}
    table = answered(own=own | {("fractal", "vgg11_bn"): 340})
    assert table["calibration_set"].tolist()[0] == "real"
    assert table["calibration_set"].tolist()[-2:] == ["fractal", "teacher"]
    assert table["served"].tolist()[1:] == [3, 3, 2, 1]


def test_networks_that_failed_are_counted():
    row = main_answer(answered(failed=[("student", "vgg11_bn")]))
    assert (row["served"], row["missing"], row["answer"]) == (2, 1, "not decided")
    assert "1 were not measured" in sentence(row)
    row = main_answer(answered(failed=["student"]))
    assert row["answer"] == "not measured" and "could be compared" in sentence(row)


def test_readers_see_words():
    table = reader_table(answered(EQUAL | {"grey": 9000}))
    assert table["calibration set"].tolist()[-1] == "one grey image"
    assert table["serves"].tolist()[0] == "" and table["serves"].tolist()[-1] == "0 of 3"
    assert not table.isin(["nan", "inf"]).any(axis=None)


def test_the_rule_goes_by_what_someone_has():
    table = rule_table(answered(EQUAL | {"grey": 200}))
    rows = dict(zip(table["at hand"], table["calibrate with"], strict=False))
    assert (
        rows["300 real images"] == "real" and rows["nothing but the network's file"] == "fractals"
    )
    generators = table[table["at hand"].str.contains("generator")]["calibrate with"].tolist()
    assert generators == ["teacher", "student"]
    assert not table["calibrate with"].isin(["noise", "one grey image"]).any()


def test_the_fewest_real_images_that_serve_most_networks_are_named():
    table = answered(EQUAL)
    few = table[table["calibration_set"] == "teacher"].assign(calibration_set="real")
    sizes = {200: (3, 0), 100: (2, 0), 30: (2, 0), 10: (1, 0), 3: (2, 1)}  # served, failed of 3
    more = [
        few.assign(calibration_size=size, served=served, failed=failed)
        for size, (served, failed) in sizes.items()
    ]
    for some, expected in ((more, ["100", "30"]), (more[3:], ["10", "3"])):
        rows = rule_table(pd.concat([table, *some], ignore_index=True))
        chosen = rows[rows["at hand"] == "a few real images"]["calibrate with"]
        assert chosen.tolist() == [f"{size} real images" for size in expected]


def test_limits_name_margins_and_failures():
    text = limits(services(failed=["fractal"]))
    assert "3 networks, 10,000 test images, 5 draws" in text and "margin is 0.5 points" in text
    assert "Not measured: 3 (NNCF, default quantization; fractals): RuntimeError: no." in text
    assert "ResNet20 0.9" in limits(services(spread=20))
    few = services()
    few.loc[few["model"] == "repvgg_a0", "images"] = 2000
    assert "10,000 test images (RepVGG-A0 2,000), 5 draws" in limits(few)


def test_the_verdict_holds_all_ways():
    text = verdict(services(methods=("default", "default_a4")))
    for words in ("What to calibrate with", "## NNCF, default", "## NNCF, activations of 4 bits"):
        assert words in text
    assert "nan" not in text


def test_nothing_to_compare_is_an_error():
    with pytest.raises(StudyError, match="no calibration set beside real images"):
        main_answer(answered({"real": 200}))
    with pytest.raises(StudyError, match="POT, default quantization"):
        of_way(answers(services()), "pot")


def test_what_is_best_without_data_is_no_dose():
    changed = {"real": 200, "one_class": 190, "teacher_60": 195, "fractal": 200, "student": 205}
    table = answered(changed)
    assert set(table["calibration_set"]) - set(whole_sets(table)["calibration_set"]) == {
        "teacher_60"
    }
    assert best_without_data(table) == "fractal"
    with pytest.raises(StudyError, match="no set that can be had without data"):
        best_without_data(answered({"real": 200, "real_dark": 205, "noise": 900}))
