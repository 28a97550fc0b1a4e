"""The exported formats make torch's images, within what each states."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from lib.app import student_export
from lib.common.errors import StudyError
from lib.common.files import read_json
from lib.common.tensors import save_weights
from lib.student.sampling import build_student, load_student

CONFIG = {"z_dim": 6, "c_dim": 3, "ngf": 16, "project_dim": 8, "nc": 3, "residual": True}
CONFIG |= {"class_names": ["a", "b", "c"], "data": "test"}


@pytest.fixture(scope="module")
def student(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("student") / "student.safetensors"
    torch.manual_seed(0)
    network = build_student(CONFIG)
    with torch.no_grad():  # running statistics of its own, or images would be grey
        for _ in range(20):
            network.train()(torch.randn(64, 6), torch.eye(3)[torch.arange(64) % 3])
    save_weights(path, network, CONFIG)
    return path


@pytest.fixture(scope="module")
def exported(tmp_path_factory, student) -> tuple[Path, pd.DataFrame]:
    out = tmp_path_factory.mktemp("export")
    return out, student_export.export_student(out, student=student)


def test_every_format_is_within_its_tolerance(exported):
    out, table = exported
    assert table["format"].tolist() == ["safetensors", "onnx", "fp32", "fp16", "int8"]
    assert (table["mean_difference"] <= table["tolerance"]).all()
    differences = table.set_index("format")["mean_difference"]
    assert differences["safetensors"] == 0 < differences["fp16"] < differences["int8"]
    sizes = {path.name: path.stat().st_size for path in out.iterdir()}
    assert sizes["student-fp16.bin"] < 0.6 * sizes["student-fp32.bin"]
    assert sizes["student-int8.bin"] < 0.5 * sizes["student-fp32.bin"]
    assert read_json(out / "config.json") == CONFIG
    assert pd.read_csv(out / "check.csv")["file"].tolist() == table["file"].tolist()


@pytest.mark.parametrize("name", ["onnx", "fp32", "int8"])
def test_exported_files_take_any_number_of_images(exported, student, name):
    network = load_student(student)
    for n in (1, 5):
        z, c = student_export.draw_inputs(network, n, 2, "any")
        images = student_export.run_exported(student_export.files(exported[0])[name], z, c)
        assert images.shape == (n, 3, 32, 32)
        assert np.abs(images).max() <= 1.01


def test_a_format_beyond_its_tolerance_is_refused(exported, student, monkeypatch):
    out, _ = exported
    monkeypatch.setattr(student_export, "write_formats", lambda *arguments: None)
    monkeypatch.setitem(student_export.TOLERANCES, "fp16", 0.0)
    with pytest.raises(StudyError, match="student-fp16.xml: its images differ from torch's"):
        student_export.export_student(out, student=student)


def test_command_line_names_a_missing_student(tmp_path, capsys):
    assert student_export.main([str(tmp_path / "none.safetensors"), str(tmp_path)]) == 1
    assert capsys.readouterr().err.startswith("error: ")
