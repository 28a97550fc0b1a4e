"""The answer follows the tables, names the worst network and hides none behind a mean."""

import pytest

from lib.common.errors import StudyError
from lib.comparison.answer import (
    answers,
    decide,
    limits,
    main_answer,
    pooled_rows,
    reader_table,
    sentence,
    verdict,
)
from lib.comparison.tables import degradation_table, versus_real
from tests.comparison.conftest import EQUAL, FEW, SETS, spoil, study

THREE = ["resnet20", "vgg11_bn", "repvgg_a0"]


def tables(data, margin_pp=0.5):
    return degradation_table(*data, **FEW), versus_real(*data, margin_pp=margin_pp, **FEW)


def answer_to(data):
    return answers(*tables(data)).set_index("calibration_set")


def said(data, kind="student"):
    table = answers(*tables(data))
    return sentence(table[table["calibration_set"] == kind].iloc[0])


@pytest.mark.parametrize(
    "errors, shift, expected",
    [
        (104, 0, "equivalent"),
        (200, 0, "worse"),
        (60, 0, "better"),
        (104, 700, "not decided"),  # as many images gained as lost, but many
    ],
)
def test_a_set_is_called_what_the_tests_allow(errors, shift, expected):
    table = answer_to(study({"real": 104, "student": errors}, shift={"student": shift}))
    assert table["answer"].to_dict() == {"real": "reference", "student": expected}


def test_worse_needs_the_corrected_test():
    row = {"pairs": 1, "tost_holm_p": 0.4, "low_pp": -2.0, "high_pp": -0.1, "margin_pp": 0.5}
    assert decide(row | {"permutation_holm_p": 0.04}) == "worse"
    assert decide(row | {"permutation_holm_p": 0.06}) == "not decided"
    assert decide(row | {"permutation_holm_p": 0.06}, confidence=0.9) == "worse"


def test_few_images_show_no_equivalence():
    """Twenty images without a difference do not exclude a rate of one in seven."""
    table, predictions, labels = study(EQUAL)
    few = {name: found[:20] for name, found in predictions.items()}
    degradation, versus = tables((table, few, labels[:20]))
    assert versus["resolution_pp"].iloc[0] == pytest.approx(100 * (1 - 0.05 ** (1 / 20)))
    assert set(answers(degradation, versus)["answer"]) == {"reference", "not decided"}
    assert "13.9 points could go unseen: too much to call anything equiv" in limits(
        degradation, versus
    )


def test_the_sentence_counts_networks_and_names_the_worst():
    text = said(spoil(study(EQUAL, models=THREE), "student", "vgg11_bn", 112))
    assert text.startswith("Calibrated with the student's images, 3 of 3 INT8 networks lose at ")
    assert "most 0.5 points against real images (largest loss 0.40 points, vgg11_bn)" in text
    assert "on average their accuracy is 0.13 points lower (95 % interval: 0." in text
    assert text.endswith(" lower): equivalent.")
    assert "(none loses); on average their accuracy is the same" in said(study(EQUAL))
    assert said(study(EQUAL), "noise").startswith("Calibrated with the set *noise*, 2 of 2 INT8")


def test_a_mean_hides_no_failing_network():
    """One network of twelve loses 1.4 points: the mean is equivalent, the set is not."""
    models = [f"model{k}" for k in range(12)]
    data = spoil(study({"real": 104, "student": 104}, models=models), "student", "model7", 132)
    means = pooled_rows(tables(data)[1]).iloc[0]
    assert (means["way"], means["answer"]) == ("NNCF, default quantization", "equivalent")
    row = answer_to(data).loc["student"]
    assert row["answer"] == "worse" and row["served"] == 11
    assert row["worst"] == "model7" and row["worst_pp"] == pytest.approx(1.4)
    assert "11 of 12 INT8 networks lose" in said(data)
    table, predictions, labels = spoil(data, "student", "model7", 104)
    moved = {n: found for n, found in predictions.items() if n.startswith("model7/nncf/default/st")}
    for name, found in moved.items():  # 40 images lost, 28 won: too few to say that it is worse
        found[:28], found[1000:1040] = labels[:28], (labels[1000:1040] + 1) % 10
        predictions[name] = found
    assert answer_to((table, predictions, labels)).loc["student", "answer"] == "not decided"


def test_networks_that_failed_are_not_served():
    data = study(EQUAL, failed=[("student", "repvgg_a0")], models=THREE)
    row = answer_to(data).loc["student"]
    assert row["models"] == row["served"] == 2 and row["real_models"] == 3
    assert "points against real images (none loses; 1 not measured)" in said(data)
    most = [("student", "repvgg_a0"), ("student", "vgg11_bn")]
    few = answer_to(study(EQUAL, failed=most, models=THREE))
    assert few.loc["student", "answer"] == "not decided"


def test_sets_that_were_not_compared_are_not_measured():
    data = study(EQUAL, failed=("fractal",))
    assert answer_to(data).loc["fractal", "answer"] == "not measured"
    assert said(data, "fractal").endswith("no INT8 network could be compared: not measured.")
    text = verdict(*tables(data))
    assert "4 cells (NNCF, default quantization; fractal; resnet20, vgg11_bn): RuntimeErr" in text
    for failed in (["real"], SETS):
        text = verdict(*tables(study(EQUAL, failed=failed)))
        assert (
            "not measured" in text
            and "nan" not in text
            and "with real images: not measured" in text
        )
    with pytest.raises(StudyError, match="no calibration set beside real images"):
        answers(*tables(study({"real": 104})))


def test_the_table_ranks_sets_and_rounds():
    table = answers(*tables(study({"real": 104, "noise": 904, "student": 114, "teacher": 104})))
    shown = reader_table(table)
    assert shown["calibration set"].tolist() == ["real", "teacher", "student", "noise"]
    real, _, student, noise = shown.to_dict("records")
    assert real["loss of top-1 (points)"] == "0.20" and real["serves"] == ""
    assert student["against real (points, 95 %)"].startswith("-0.50 (-0.")
    assert noise["serves"] == "0 of 2 networks" and noise["answer"] == "worse"
    assert student["agreement with FP32"] == "99.25 %" and student["networks"] == "2"


def test_the_main_answer_is_the_students_where_there_is_one():
    table = answers(*tables(study(EQUAL)))
    assert main_answer(table)["calibration_set"] == "student"
    assert main_answer(table.query("calibration_set != 'student'"))["calibration_set"] == "teacher"


def test_the_verdict_has_each_way_to_quantize_and_the_limits():
    data = study(EQUAL, methods=("default", "accuracy_aware"))
    text = verdict(*tables(spoil(data, "student", "vgg11_bn", method="accuracy_aware")))
    first, second, rest = text.partition("## NNCF, accuracy-aware quantization, 300 images")
    assert first.startswith("## NNCF, default quantization, 300 images") and second
    assert "| student           | 2          |" in first and ": equivalent." in first
    assert "1 of 2 INT8 networks lose" in rest
    assert "2 networks, 2,000 test images, at most 2 seeds per set" in rest
    assert "loses against FP32 with real images: 0.20 points (" in rest


def test_the_margin_decides():
    data = study({"real": 104, "student": 112})
    wide, narrow = (answers(*tables(data, margin))["answer"].iloc[1] for margin in (2, 0.1))
    assert (wide, narrow) == ("equivalent", "worse")
