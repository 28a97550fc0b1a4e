"""Comparison: numbers by hand, pairing, failures, and a verdict that follows the table."""

import numpy as np
import pandas as pd
import pytest

from lib.cell import reference_cell
from lib.comparison import degradation_table, versus_real
from lib.errors import StudyError
from lib.grid import COLUMNS, cell_name, make_cells
from lib.verdict import claim, verdict

N, CLASSES, MODELS, SEEDS = 2000, 10, ["resnet20", "vgg11_bn"], [0, 1]
SETS = ["real", "teacher", "student", "fractal", "noise"]


def predict(labels, errors, first=0):
    """Predictions that are wrong on `errors` images, from number `first` on."""
    wrong = np.zeros(len(labels), bool)
    wrong[first : first + errors] = True
    return np.where(wrong, (labels + 1) % CLASSES, labels)


def study(errors, failed=(), methods=("default",), shift=None):
    """A results table with predictions, where INT8 of each set errs on `errors[set]` images.

    All err on the first images, or on those after `shift[set]`; each seed moves the errors by one
    image. FP32 errs on 100.
    """
    labels = np.arange(N) % CLASSES
    predictions, rows = {}, []
    fp32 = predict(labels, 100)
    for model in MODELS:
        cell = reference_cell(model)
        predictions[cell_name(cell)] = fp32
        rows.append(cell | {"status": "ok", "accuracy": 0.95, "fp32_accuracy": 0.95})
    cells = make_cells(
        models=MODELS,
        methods=list(methods),
        calibration_sets=list(errors),
        calibration_sizes=[300],
        seeds=SEEDS,
    )
    for cell in cells:
        if cell["calibration_set"] in failed:
            rows.append(cell | {"status": "error", "error": "RuntimeError: no"})
            continue
        name = cell["calibration_set"]
        found = predict(labels, errors[name], (shift or {}).get(name, 0) + cell["seed"])
        predictions[cell_name(cell)] = found
        accuracy = float((found == labels).mean())
        row = {"status": "ok", "fp32_accuracy": 0.95, "accuracy": accuracy}
        row |= {"drop_pp": 100 * (0.95 - accuracy), "kl": 0.01}
        rows.append(cell | row | {"agreement": float((found == fp32).mean())})
    return pd.DataFrame(rows, columns=COLUMNS), predictions, labels


def words(errors, failed=(), **options):
    data = study(errors, failed, **options)
    return verdict(degradation_table(*data, **FEW), versus_real(*data, **FEW))


FEW = {"resamples": 300}
EQUAL = dict.fromkeys(SETS, 104)


def test_degradation_by_hand():
    table = degradation_table(*study({"real": 110, "noise": 300}))
    assert len(table) == 4
    real = table[(table["model"] == "vgg11_bn") & (table["calibration_set"] == "real")].iloc[0]
    assert real["seeds"] == 2 and real["failed"] == 0
    assert real["drop_pp"] == pytest.approx(0.5)
    # images that INT8 misses and FP32 does not: 10 with both seeds, and one each with one only
    difference = np.zeros(N)
    difference[100:110], difference[0], difference[110] = 1, -0.5, 0.5
    half = 1.96 * 100 * difference.std() / np.sqrt(N)
    assert real["low_pp"] == pytest.approx(0.5 - half, abs=0.05)
    assert real["high_pp"] == pytest.approx(0.5 + half, abs=0.05)
    assert real["seed_std_pp"] == pytest.approx(0)
    assert real["agreement"] == pytest.approx(1 - (10 + 12) / 2 / N)


def test_versus_real_by_hand():
    table = versus_real(*study({"real": 110, "student": 130, "noise": 300}))
    assert set(table["model"]) == {"all", *MODELS}
    pooled = table[table["model"] == "all"].set_index("calibration_set")
    assert pooled.loc["student", "pairs"] == 4
    assert pooled.loc["student", "difference_pp"] == pytest.approx(-1)
    assert pooled.loc["student", "agreement_pp"] == pytest.approx(-1)
    assert pooled.loc["noise", "difference_pp"] == pytest.approx(-9.5)
    # 21 images differ in some seed, all of them losses
    assert pooled.loc["student", "permutation_p"] == pytest.approx(2 * 0.5**21)
    assert pooled.loc["student", "permutation_holm_p"] == pytest.approx(2 * 0.5**21)
    assert pooled.loc["noise", "permutation_holm_p"] == pytest.approx(
        2 * pooled.loc["noise", "permutation_p"]
    )


def test_pooling_models_adds_no_images():
    """Equal results of two models are one result, not twice the evidence."""
    table = versus_real(*study({"real": 110, "student": 120}))
    pooled, single = (table[table["model"] == model].iloc[0] for model in ("all", "vgg11_bn"))
    columns = ["difference_pp", "low_pp", "high_pp", "tost_p", "permutation_p"]
    np.testing.assert_allclose(*([float(row[c]) for c in columns] for row in (pooled, single)))


def test_all_equal():
    text = words(EQUAL)
    assert "Teacher, student, fractal and noise are equivalent to real images within ±0.5" in text
    assert "Accuracy does not tell the sets apart" in text
    assert "student's images can replace real calibration images" in text
    assert text.count("+0.00 points against real (95 % interval +0.00 to +0.00)") == 4


def test_synthetic_sets_fail():
    text = words(EQUAL | {"student": 200, "fractal": 400, "noise": 1900})
    assert "Teacher is equivalent to real images" in text
    assert "Student, fractal and noise are worse than real images." in text
    assert "student's images cannot replace real calibration images" in text
    assert "- student: -4.80 points against real" in text
    assert "does not tell the sets apart" not in text


def test_all_synthetic_sets_fail():
    text = words({"real": 104, "teacher": 300, "student": 300, "fractal": 300})
    assert "No set can be said to stand in for real images." in text
    assert "equivalent to real images within" not in text


def test_everything_fails():
    text = words(dict.fromkeys(SETS, 900))
    assert "INT8 loses 40.00 points" in text
    assert "real images themselves do not serve well" in text


def test_a_better_set_is_called_better():
    assert "Student is better than real images." in words({"real": 200, "student": 104})


def test_an_undecided_set_is_called_so():
    """As many images gained as lost, but many: neither equivalence nor a difference is shown."""
    text = words({"real": 104, "student": 104}, shift={"student": 700})
    assert "Student is neither shown to be equivalent to real images nor to differ" in text
    assert "it stays open whether the student's images can replace real calibration images" in text
    assert "+0.00 points against real (95 % interval -1." in text


def test_claims_need_the_corrected_test():
    row = {"pairs": 1, "tost_holm_p": 0.4, "low_pp": -2.0, "high_pp": -0.1}
    assert claim(row | {"permutation_holm_p": 0.04}) == "worse"
    assert claim(row | {"permutation_holm_p": 0.06}) == "inconclusive"
    assert claim(row | {"permutation_holm_p": 0.06}, confidence=0.9) == "worse"


def test_margin_and_words_go_together():
    data = study({"real": 104, "student": 112})
    degradation = degradation_table(*data, **FEW)
    wide, narrow = (
        verdict(degradation, versus_real(*data, margin_pp=margin, **FEW), margin_pp=margin)
        for margin in (2, 0.1)
    )
    assert "equivalent to real images within ±2 points" in wide
    assert "worse than real images" in narrow


def test_agreement_is_spoken_of():
    text = words({"real": 104, "student": 150, "noise": 120})
    assert "Agreement with FP32: real 99.75 %, noise 98.95 %, student 97.45 %" in text
    assert "the same order as by accuracy" in text
    table, predictions, labels = study({"real": 104, "student": 120})
    student = table["calibration_set"] == "student"
    table.loc[student, "agreement"] = 0.9999
    degradation = degradation_table(table, predictions, labels)
    text = verdict(degradation, versus_real(table, predictions, labels))
    assert "student 99.99 %, real 99.75 %; this is another order than by accuracy" in text


def test_failed_cells_are_reported():
    text = words(EQUAL, failed=("fractal",))
    assert "Fractal is not measured, as no cell succeeded." in text
    assert "- fractal: not measured; 4 cells failed" in text
    assert "nan" not in text
    table = degradation_table(*study(EQUAL, failed=("fractal",)))
    fractal = table[table["calibration_set"] == "fractal"]
    assert (fractal["failed"] == 2).all() and fractal["drop_pp"].isna().all()


def test_without_real_images_there_is_no_comparison():
    text = words(EQUAL, failed=("real",))
    assert "No network was calibrated with real images" in text
    assert "Teacher, student, fractal and noise are not measured" in text
    data = study({"real": 104})
    assert versus_real(*data).empty
    assert "INT8 loses 0.20 points" in verdict(degradation_table(*data), versus_real(*data))


def test_each_method_has_its_paragraph():
    text = words(EQUAL, methods=("default", "accuracy_aware"))
    assert "**NNCF, default quantization** (300 images)." in text
    assert "**NNCF, accuracy-aware quantization** (300 images)." in text


def test_missing_predictions_are_named():
    table, predictions, labels = study({"real": 104, "noise": 120})
    del predictions["resnet20/nncf/default/noise/300/1"]
    with pytest.raises(StudyError, match="resnet20/nncf/default/noise/300/1.*run quantization"):
        degradation_table(table, predictions, labels)
