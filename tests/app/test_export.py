"""The exported formats make torch's images, within what each states."""

import re

import numpy as np
import pandas as pd
import pytest
import torch

from lib.app import export
from lib.app.generator import FILES, ImageGenerator, ImagesRequest
from lib.app.truncation import Truncatable
from lib.common.errors import StudyError
from lib.common.files import read_json
from lib.common.tensors import save_tensors
from lib.gan.generator import Generator
from lib.student.sampling import load_student
from tests.app.conftest import CLASSES, MODULATED, SIZES, random_student


@pytest.fixture(scope="module", params=[SIZES, MODULATED], ids=["original", "modulated"])
def student(request, tmp_path_factory):
    path = tmp_path_factory.mktemp("student") / "student.safetensors"
    torch.manual_seed(0)
    save_tensors(path, random_student(request.param), request.param)
    return path


@pytest.fixture(scope="module")
def exported(tmp_path_factory, student):
    out = tmp_path_factory.mktemp("export")
    return out, export.export_student(out, student=student)


def test_every_format_is_within_its_tolerance(exported):
    out, table = exported
    assert table["format"].tolist() == ["safetensors", "onnx", "fp32", "fp16", "int8"]
    for measure in ("mean", "quantile"):
        assert (table[f"{measure}_difference"] <= table[f"{measure}_tolerance"]).all()
    differences = table.set_index("format")["mean_difference"]
    assert differences["safetensors"] == 0 < differences["fp16"] < differences["int8"]
    int8 = table.set_index("format").loc["int8"]
    assert int8.mean_difference < int8.quantile_difference < int8.largest_difference
    sizes = {path.name: path.stat().st_size for path in out.iterdir()}
    assert sizes["student-fp16.bin"] < 0.6 * sizes["student-fp32.bin"]
    assert sizes["student-int8.bin"] < 0.5 * sizes["student-fp32.bin"]
    assert read_json(out / "config.json")["class_names"] == CLASSES
    assert pd.read_csv(out / "check.csv")["file"].tolist() == table["file"].tolist()


@pytest.mark.parametrize("name", ["onnx", "fp32", "int8"])
def test_exported_files_take_any_number_of_images(exported, student, name):
    network = load_student(student)
    for n in (1, 5):
        inputs = export.draw_inputs(network, n, 2, "any")
        images = export.run_exported(export.files(exported[0])[name], *inputs)
        assert images.shape == (n, 3, 32, 32)
        off = 127.5 * np.abs(images - network(*inputs[:2]).detach().numpy()).mean()
        assert off < export.TOLERANCES[name][0]


@pytest.mark.parametrize(
    "share, levels, message",
    [(1, 20, "20 grey levels on average"), (0.002, 200, "2.+ grey levels or more in one pixel")],
)
def test_int8_that_is_off_is_refused(student, tmp_path, monkeypatch, share, levels, message):
    """All pixels a little off, or few of them far: both are seen."""
    network = load_student(student)

    def run(path, z, c, psi):
        with torch.inference_mode():
            images = network(z, c).numpy()
        chosen = np.random.default_rng(0).random(images.shape) < share
        return images + levels / 127.5 * chosen * ("int8" in path.name)

    for path in export.files(tmp_path).values():
        path.touch()
    for writer in ("write_formats", "write_weights_alone"):
        monkeypatch.setattr(export, writer, lambda *arguments: None)
    monkeypatch.setattr(export, "run_exported", run)
    with pytest.raises(StudyError, match=f"int8.xml: its images differ from torch's by {message}"):
        export.export_student(tmp_path, student=student)


def test_weights_alone_are_in_int8_where_activations_cost_too_much(student, tmp_path, monkeypatch):
    run, seen = export.run_exported, []

    def off_at_first(path, *inputs):
        images = run(path, *inputs)
        seen.append(path.name)
        return images + 0.2 * (seen.count("student-int8.xml") == 1 and "int8" in path.name)

    monkeypatch.setattr(export, "run_exported", off_at_first)
    table = export.export_student(tmp_path, student=student).set_index("format")
    expected = r"weights alone are in INT8: .* differ from torch's by 2\d grey levels on average.*"
    assert re.fullmatch(expected, table["note"]["int8"])
    assert not any(table["note"].drop("int8")) and table["mean_difference"]["int8"] < 8
    sizes = [(tmp_path / f"student-{name}.bin").stat().st_size for name in ("int8", "fp32")]
    assert sizes[0] < 0.6 * sizes[1]


def test_the_exported_teacher_makes_torch_s_images(networks, tmp_path):
    sizes = {"w_dim": 8, "img_resolution": 32, "img_channels": 3}
    synthesis = {"channel_base": 64, "channel_max": 8}
    torch.manual_seed(0)
    teacher = Generator(z_dim=6, c_dim=3, **sizes, synthesis_kwargs=synthesis).eval()
    weights = tmp_path / "teacher.safetensors"
    record = {"generator": teacher.config, "class_names": CLASSES, "data": "test"}
    save_tensors(weights, teacher, record)
    export._export_teacher(tmp_path / FILES["teacher"], weights, SIZES)
    for file in networks.iterdir():
        if not file.name.startswith("teacher"):
            (tmp_path / file.name).symlink_to(file)
    generator = ImageGenerator(tmp_path)
    z, labels = ImagesRequest((0, 1, 2), 4, seed=1).inputs(generator)
    with torch.inference_mode():
        images = teacher(torch.from_numpy(z), torch.eye(3)[labels], noise_mode="const").numpy()
    expected = np.clip(np.rint(images * 127.5 + 127.5), 0, 255)
    assert np.abs(generator.images(z, labels, "teacher") - expected).max() <= 1
    typical = generator.images(z, labels, "teacher", 0)
    assert np.abs(typical[:4] - typical[0].astype(int)).max() <= 1
    with pytest.raises(StudyError, match="are not the student's"):
        export._export_teacher(tmp_path / "x.xml", weights, SIZES | {"z_dim": 7})


def test_publishing_leaves_the_teacher_behind(networks, tmp_path):
    artifact = tmp_path / "artifact"
    artifact.mkdir()
    for file in networks.iterdir():
        (artifact / file.name).symlink_to(file)
    for name in ("student.safetensors", "check.csv"):
        (artifact / name).touch()
    names = {path.name for path in export.publish_generator(artifact, tmp_path / "student")}
    assert {"student-int8.bin", "evaluator.xml", "config.json"} <= names
    assert not any(name.startswith("teacher") for name in names)
    assert ImageGenerator(tmp_path / "student").models == ["student", "student INT8"]
    with pytest.raises(StudyError, match="run notebook 07 first"):
        export.publish_generator(tmp_path / "nowhere", tmp_path / "student")


def test_truncation_moves_w_towards_the_mean_of_its_class(student):
    network = load_student(student)
    made, (z, c, _) = Truncatable(network), export.draw_inputs(network, 12, 1, "psi")
    with torch.inference_mode():
        own, half, typical = (made(z, c, torch.full((12, 1), psi)) for psi in (1.0, 0.5, 0.0))
        torch.testing.assert_close(own, network(z, c), rtol=0, atol=1e-4)
        torch.testing.assert_close(typical[:3], typical[3:6], rtol=0, atol=1e-5)
        if hasattr(made, "centres"):
            w = network.mapping(z, c)
            many = network.mapping(torch.randn(4000, 6), c[:1].expand(4000, 3))[:, 0]
            torch.testing.assert_close(made.centres[0], many.mean(0), rtol=0, atol=0.1)
            halfway = (w + (c @ made.centres)[:, None]) / 2
            mixed = network.synthesis(halfway, noise_mode="const", noise_generator=None)
            torch.testing.assert_close(half, mixed, rtol=0, atol=1e-4)
        else:
            torch.testing.assert_close(half, network(z / 2, c), rtol=0, atol=1e-5)
