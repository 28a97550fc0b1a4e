"""RepVGG with its branches: its export, and the comparison of two grids' results."""

import numpy as np
import pandas as pd
import pytest
import torch

from lib.classifiers.build import build_classifier
from lib.classifiers.training import WEIGHTS
from lib.common.openvino import read_ir
from lib.common.tensors import save_tensors
from lib.data.samples import SampleSet
from lib.quantization.cell import model_family
from lib.quantization.models import export_classifiers, export_unfused, predict_ir
from lib.quantization.tables import unfused_table, unfused_verdict

NAME = "repvgg_a0_x0_1"


def kinds(xml):
    return [operation.get_type_name() for operation in read_ir(xml).get_ops()]


def test_unfused_export_keeps_the_branches_and_computes_the_same(tmp_path):
    torch.manual_seed(0)
    images = np.random.default_rng(0).integers(0, 256, (8, 3, 32, 32), dtype=np.uint8)
    SampleSet(images, np.arange(8), info={"class_names": list("abcdefgh")}).save(tmp_path / "set")
    config = {"name": NAME, "num_classes": 8, "mean": [0.5] * 3, "std": [0.5] * 3}
    save_tensors(tmp_path / "trained" / WEIGHTS, build_classifier(NAME, 8), config)
    for export in (export_classifiers, export_unfused):
        export(tmp_path, classifiers={NAME: tmp_path / "trained"}, check=tmp_path / "set")
    fused, unfused = tmp_path / f"{NAME}.xml", tmp_path / f"{NAME}_unfused.xml"
    assert kinds(fused).count("Convolution") == 22
    assert kinds(unfused).count("Convolution") == 44
    expected = predict_ir(fused, images)
    tolerance = 1e-4 * np.abs(expected).max()
    np.testing.assert_allclose(predict_ir(unfused, images), expected, rtol=0, atol=tolerance)


def test_families_of_the_grid():
    assert model_family("repvgg_a0_unfused") == model_family("repvgg_a0") == "repvgg"
    assert model_family("resnet50") == model_family("mine") == "own"


def results(model, drops, status="ok"):
    rows = [{"method": "fp32", "calibration_set": "none", "drop_pp": 0.0, "quantizers": 0}]
    rows += [{"method": "default", "calibration_set": "real", "drop_pp": drop} for drop in drops]
    rows += [{"method": "default", "calibration_set": "noise", "drop_pp": 50.0}]
    rows += [{"method": "accuracy_aware", "calibration_set": "real", "drop_pp": 50.0}]
    base = {"model": model, "engine": "nncf", "status": status, "fp32_accuracy": 0.9}
    base |= {"accuracy": 0.8, "agreement": 0.95, "quantizers": 7, "size_bytes": 100}
    return pd.DataFrame([base | row for row in rows])


def test_the_table_pairs_the_two_forms():
    fused = pd.concat([results(NAME, [1.0, 2.0]), results("resnet20", [9.0])])
    table = unfused_table(fused, results(f"{NAME}_unfused", [0.2, 0.4]))
    assert table["form"].tolist() == ["fused", "unfused"]
    assert table["drop_pp"].tolist() == pytest.approx([1.5, 0.3])
    assert table["int8_networks"].tolist() == [2, 2]
    words = unfused_verdict(table)
    assert "fused -1.50 points of accuracy" in words and "unfused -0.30 points" in words


def test_the_verdict_says_when_a_form_failed():
    table = unfused_table(results(NAME, [1.0]), results(f"{NAME}_unfused", [1.0], "error"))
    assert "nothing to compare" in unfused_verdict(table)
