"""Which cells the study plans, and the sentences on their results."""

from pathlib import Path

import pandas as pd
import pytest

from lib.common.files import ROOT
from lib.quantization.plan import grid_cells, grid_plan, sensitivity_cells, unfused_cells
from lib.quantization.tables import accuracy_table, engine_words, loss_words, speed_words
from lib.study.params import read_profile, validate


@pytest.fixture(scope="module")
def params():
    return validate(read_profile(ROOT / "params" / "digits.yaml"))


def test_the_grid_repeats_what_is_slow_less_often(params):
    cells = pd.DataFrame([vars(cell) for cell in grid_cells(params)])
    counts = cells.groupby(["engine", "method"]).size().to_dict()
    models, sets = len(params.classifiers), len(params.calibration_sets)
    assert counts == {
        ("nncf", "default"): models * sets * params.quantization_seeds,
        ("nncf", "accuracy_aware"): models * len(params.quantization_accuracy_aware_sets),
        ("pot", "default"): params.quantization_pot_classifiers * sets,
    }
    assert not cells.duplicated().any()


def test_sensitivity_takes_sets_that_all_share_and_sizes_that_they_hold(params):
    cells = sensitivity_cells(params, images=100)
    assert {cell.calibration_set for cell in cells}.isdisjoint({"zeroq"})
    sizes = {cell.calibration_size for cell in cells if cell.method == "default"}
    assert sizes == {1, 10, 100, params.quantization_subset_size}
    variants = {cell.method for cell in cells} - {"default"}
    assert variants == set(params.sensitivity_methods)


def test_a_plan_names_the_sets_of_its_cells_alone(params):
    cells = unfused_cells(params)
    plan = grid_plan(params, cells, name="unfused", models="models-unfused", work=Path("w"))
    assert plan["inputs"]["calibration"] == {"real": "calibration-real"}
    assert plan["options"]["options"] == params.options("quantization")
    assert plan["run_options"]["cache"] == Path("w/unfused.cells")


def results():
    rows = [("a", "openvino", "fp32", "none", 0.9, 0.0), ("b", "openvino", "fp32", "none", 0.8, 0)]
    rows += [("a", "nncf", "default", "real", 0.89, 1.0), ("a", "nncf", "default", "grey", 0.4, 50)]
    rows += [("b", "nncf", "default", "real", 0.79, 1.0), ("b", "nncf", "default", "grey", 0.7, 10)]
    columns = ["model", "engine", "method", "calibration_set", "accuracy", "drop_pp"]
    return pd.DataFrame(rows, columns=columns).assign(status="ok", error="")


def test_accuracies_and_losses_by_hand():
    table = accuracy_table(results(), ["real", "grey"])
    assert table.columns.tolist() == ["engine", "method", "model", "fp32", "real", "grey"]
    assert table.iloc[0].tolist() == ["nncf", "default", "a", 0.9, 0.89, 0.4]
    int8 = results().query("method != 'fp32'")
    assert "grey: mean loss 30.00 points" in loss_words(int8)
    assert "largest 50.00 (a)" in loss_words(int8)


def test_words_on_engines_and_speed():
    engines = pd.DataFrame({"nncf": [1.0], "pot": [1.5], "alike": [0.95]})
    assert "agrees on 95.0%" in engine_words(engines, results())
    failed = results().assign(engine="pot", error="no network").iloc[:1]
    assert engine_words(engines.iloc[:0], failed) == "No cell has both engines: no network."
    rows = [("a", "openvino", "fp32", 100.0, 400), ("a", "nncf", "default", 300.0, 100)]
    timings = pd.DataFrame(rows, columns=["model", "engine", "method", "throughput", "size_bytes"])
    seconds = pd.DataFrame({"engine": ["nncf"], "method": ["default"], "seconds": [2.0]})
    said = speed_words(timings, seconds)
    assert said.startswith("nncf, default: 3.0 to 3.0 times as fast as FP32 here, weights 4.0")
