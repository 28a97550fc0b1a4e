"""Which cells the study plans, networks with their branches, tables and words on results."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from lib.classifiers.build import build_classifier
from lib.classifiers.training import WEIGHTS
from lib.common.files import ROOT
from lib.common.openvino import read_ir
from lib.common.tensors import save_tensors
from lib.data.samples import SampleSet
from lib.quantization.cell import Cell, measure
from lib.quantization.models import export_classifiers, predict_ir
from lib.quantization.plan import grid_cells, grid_plan
from lib.quantization.tables import (
    accuracy_table,
    engine_words,
    loss_words,
    speed_words,
    unfused_table,
    unfused_verdict,
)
from lib.study.params import read_profile, validate

NAME = "repvgg_a0_x0_1"


@pytest.fixture(scope="module")
def params():
    return validate(read_profile(ROOT / "params" / "digits.yaml"))


def counted(params):
    cells = pd.DataFrame([vars(cell) for cell in grid_cells(params)])
    assert not cells.duplicated().any()
    return cells, cells.groupby(["engine", "method"]).size().to_dict()


def test_the_grid_repeats_what_is_slow_less_often(params):
    cells, counts = counted(params)
    models, sets = len(params.classifiers) + len(params.quantization_unfused), 7
    sizes = len(params.quantization_sizes)
    assert counts == {
        ("nncf", "default"): models * (sets + sizes) * params.quantization_seeds,
        **{("nncf", name): models * sets for name in params.quantization_variants},
        ("nncf", "accuracy_aware"): params.quantization_accuracy_aware_networks
        * len(params.quantization_accuracy_aware_sets),
        ("pot", "default"): params.quantization_pot_classifiers * sets,
    }
    few = cells[cells["calibration_size"] < params.quantization_subset_size]
    assert set(few["calibration_set"]) == {"real"} and set(few["calibration_size"]) == set(
        params.quantization_sizes
    )


@pytest.mark.parametrize("some", [2, 0])
def test_accuracy_aware_quantization_takes_the_first_networks_or_all(params, some):
    one = {"name": "mine", "path": "mine.onnx", "mean": [0.5] * 3, "std": [0.5] * 3}
    changed = {"quantization_accuracy_aware_networks": some, "own_models": [one]}
    cells, _ = counted(validate(params.model_dump() | changed))
    aware = cells[(cells["method"] == "accuracy_aware") & (cells["engine"] == "nncf")]["model"]
    expected = params.classifiers[:2] if some else cells["model"].unique()
    assert set(aware) == set(expected) and ("mine" in set(aware)) == (some == 0)


def test_slow_networks_have_fewer_draws(params):
    slow, *others = params.classifiers
    cells, _ = counted(validate(params.model_dump() | {"quantization_few_draws": {slow: 1}}))
    draws = cells[cells["method"] == "default"].groupby("model")["seed"].nunique()
    assert draws[slow] == 1 and (draws[others] == params.quantization_seeds).all()


def test_doses_estimators_and_synthetic_validation_have_cells_of_their_own(params):
    new = {"calibration_sets": ["real", "student", "student_1", "real_dark"]}
    new |= {"quantization_estimators": ["mse"], "quantization_seeds": 5, "own_models": []}
    new |= {"quantization_methods": ["default", "accuracy_aware_synthetic"]}
    cells, counts = counted(validate(params.model_dump() | new))
    own = cells[(cells["method"] == "default") & (cells["calibration_size"] == 300)]
    draws = own[own["engine"] == "nncf"].groupby("calibration_set")["seed"].nunique()
    assert draws.to_dict() == {"real": 5, "student": 5, "student_1": 2, "real_dark": 2}
    for method in ("mse", "mse_a4", "accuracy_aware_synthetic", "default_a4"):
        assert set(cells[cells["method"] == method]["calibration_set"]) == {"real", "student"}
    plan = grid_plan(params, grid_cells(validate(params.model_dump() | new)), Path("w"))
    assert plan["inputs"]["synthetic"] == "validation-student"


def test_a_plan_names_the_sets_of_its_cells_alone(params):
    cells = [cell for cell in grid_cells(params) if cell.calibration_set == "real"]
    plan = grid_plan(params, cells, Path("w"))
    assert plan["inputs"]["calibration"] == {"real": "calibration-real"}
    assert plan["options"]["options"] == params.options("quantization")
    assert plan["run_options"]["cache"] == Path("w/quantization.cells")


def results():
    rows = [("a", "openvino", "fp32", "none", 0.9, 0.0), ("b", "openvino", "fp32", "none", 0.8, 0)]
    rows += [("a", "nncf", "default", "real", 0.89, 1.0), ("a", "nncf", "default", "grey", 0.4, 50)]
    rows += [("b", "nncf", "default", "real", 0.79, 1.0), ("b", "nncf", "default", "grey", 0.7, 10)]
    columns = ["model", "engine", "method", "calibration_set", "accuracy", "drop_pp"]
    return pd.DataFrame(rows, columns=columns).assign(status="ok", error="")


def test_accuracies_and_losses_by_hand():
    table = accuracy_table(results().query("method != 'fp32'"), results(), ["real", "grey"])
    assert table.columns.tolist() == ["engine", "method", "model", "fp32", "real", "grey"]
    assert table.iloc[0].tolist() == ["nncf", "default", "a", 0.9, 0.89, 0.4]
    int8 = results().query("method != 'fp32'")
    assert "one grey image: mean loss 30.00 points" in loss_words(int8)
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


def kinds(xml):
    return [operation.get_type_name() for operation in read_ir(xml).get_ops()]


def test_unfused_export_keeps_the_branches_and_computes_the_same(tmp_path):
    torch.manual_seed(0)
    images = np.random.default_rng(0).integers(0, 256, (8, 3, 32, 32), dtype=np.uint8)
    SampleSet(images, np.arange(8), info={"class_names": list("abcdefgh")}).save(tmp_path / "set")
    config = {"name": NAME, "num_classes": 8, "mean": [0.5] * 3, "std": [0.5] * 3}
    save_tensors(tmp_path / "trained" / WEIGHTS, build_classifier(NAME, 8), config)
    given = {"classifiers": {NAME: tmp_path / "trained"}, "check": tmp_path / "set"}
    export_classifiers(tmp_path, **given, unfused=[NAME])
    fused, unfused = tmp_path / f"{NAME}.xml", tmp_path / f"{NAME}_unfused.xml"
    assert kinds(fused).count("Convolution") == 22
    assert kinds(unfused).count("Convolution") == 44
    expected = predict_ir(fused, images)
    tolerance = 1e-4 * np.abs(expected).max()
    np.testing.assert_allclose(predict_ir(unfused, images), expected, rtol=0, atol=tolerance)


@pytest.mark.parametrize(
    "name, family", [("repvgg_a0_unfused", "repvgg"), ("repvgg_a0", "repvgg"), ("mine", "own")]
)
def test_families_of_the_grid(name, family):
    row = measure(Cell(name), np.eye(2), np.eye(2), samples(2))
    assert row["family"] == family and row["fp32_accuracy"] == 1


def test_networks_of_other_classes_have_no_accuracy():
    row = measure(Cell("mine"), np.eye(2, 5), np.eye(2, 5), samples(2))
    assert np.isnan(row["accuracy"]) and np.isnan(row["drop_pp"]) and row["agreement"] == 1


def samples(n):
    images = np.zeros((n, 3, 32, 32), np.uint8)
    return SampleSet(images, np.arange(n), info={"class_names": list("abcdefgh")[:n]})


def rows_of(model, drops, status="ok"):
    rows = [{"method": "fp32", "calibration_set": "none", "drop_pp": 0.0, "quantizers": 0}]
    rows += [{"method": "default", "calibration_set": "real", "drop_pp": drop} for drop in drops]
    rows += [{"method": "default", "calibration_set": "noise", "drop_pp": 50.0}]
    rows += [{"method": "accuracy_aware", "calibration_set": "real", "drop_pp": 50.0}]
    base = {"model": model, "engine": "nncf", "status": status, "fp32_accuracy": 0.9}
    base |= {"calibration_size": 300}
    base |= {"accuracy": 0.8, "agreement": 0.95, "quantizers": 7, "size_bytes": 100}
    return pd.DataFrame([base | row for row in rows])


def test_the_table_pairs_the_two_forms():
    fused = pd.concat([rows_of(NAME, [1.0, 2.0]), rows_of("resnet20", [9.0])])
    table = unfused_table(pd.concat([fused, rows_of(f"{NAME}_unfused", [0.2, 0.4])]))
    assert table["form"].tolist() == ["fused", "unfused"]
    assert table["drop_pp"].tolist() == pytest.approx([1.5, 0.3])
    assert table["int8_networks"].tolist() == [2, 2]
    words = unfused_verdict(table)
    assert "fused -1.50 points of accuracy" in words and "unfused -0.30 points" in words


def test_the_verdict_says_when_a_form_failed():
    forms = [rows_of(NAME, [1.0]), rows_of(f"{NAME}_unfused", [1.0], "error")]
    table = unfused_table(pd.concat(forms))
    assert "nothing to compare" in unfused_verdict(table)
