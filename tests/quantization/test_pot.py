"""The engine pot: its environment, its worker, and what it makes.

The tests that need POT make its environment in the user's cache, or say why they cannot.
"""

import json
import subprocess
import sys
from dataclasses import replace

import numpy as np
import openvino as ov
import pytest
import torch
from onnx import TensorProto
from openvino import opset13 as ops
from torch import nn

from lib.common.errors import Skipped, StudyError, Unavailable
from lib.common.openvino import read_ir, save_ir
from lib.data.samples import SampleSet
from lib.quantization.cell import Cell
from lib.quantization.grid import load_results, run_grid
from lib.quantization.models import export_ir, export_onnx, free_batch, predict_ir
from lib.quantization.nncf import CalibrationImages, accuracy_drop, quantize_default
from lib.quantization.options import QuantizationOptions
from lib.quantization.own.imports import import_network
from lib.quantization.own.parameters import Input, read_input
from lib.quantization.pot import engine as pot
from lib.quantization.pot.engine import quantize_pot, quantize_pot_accuracy_aware
from lib.quantization.tables import compare_engines
from tests.quantization.conftest import NAMES as DIGITS
from tests.quantization.conftest import Shuffled, lights, own, train, write_onnx

FEW = QuantizationOptions(subset_size=20)


@pytest.fixture(scope="module")
def real():
    return lights(60, 0)


@pytest.fixture(scope="module")
def test_set():
    return lights(150, 2)


@pytest.fixture(scope="module")
def models(real, tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    net = train(Shuffled, real)
    export_ir(folder / "resnet20.xml", net, real.images[:8])
    export_onnx(folder / "resnet20.onnx", net, real.images[:8])
    return folder


@pytest.fixture(scope="module")
def environment():
    """Make sure that POT is there, or skip with the reason."""
    try:
        return pot.pot_python()
    except Unavailable as reason:
        pytest.skip(str(reason))


@pytest.fixture(scope="module")
def int8(environment, models, real):
    return quantize_pot(models / "resnet20.onnx", real, FEW, seed=1)


def fake_venv(folder, with_pip):
    (folder / "bin").mkdir(parents=True)
    (folder / "bin" / "python").touch()


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """An empty cache folder, a memory of nothing that failed, and a pip that does nothing."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(pot, "_refused", {})
    monkeypatch.setattr(pot.venv, "create", fake_venv)
    done = subprocess.CompletedProcess([], 0, "", "")
    monkeypatch.setattr(pot.subprocess, "run", lambda *arguments, **options: done)
    return tmp_path / "cache"


def test_onnx_gives_the_logits_of_the_ir_and_equal_bytes(models, test_set, tmp_path):
    onnx = ov.Core().read_model(models / "resnet20.onnx")
    assert list(onnx.input(0).shape) == [1, 3, 32, 32]
    expected = predict_ir(models / "resnet20.xml", test_set.images)
    np.testing.assert_allclose(predict_ir(onnx, test_set.images), expected, atol=1e-3)
    for name in ("first.onnx", "second.onnx"):
        torch.manual_seed(1)
        export_onnx(tmp_path / name, Shuffled().eval(), test_set.images[:2])
    assert (tmp_path / "first.onnx").read_bytes() == (tmp_path / "second.onnx").read_bytes()


def test_failure_to_make_the_environment_is_told_once_and_forgotten_after_a_while(
    cache, monkeypatch
):
    tried, seconds = [], [0.0]

    def offline(command):
        tried.append(command)
        raise Unavailable("POT's environment could not be made: no network")

    monkeypatch.setattr(pot, "_run", offline)
    monkeypatch.setattr(pot.time, "monotonic", lambda: seconds[0])
    for now, again, tries in [(0, False, 1), (9, False, 1), (9, True, 2), (999, False, 3)]:
        seconds[0] = now
        with pytest.raises(Unavailable, match="no network"):
            pot.pot_python(again=again)
        assert len(tried) == tries


def test_an_environment_without_its_interpreter_is_made_again(cache, monkeypatch):
    folder = pot.environment_folder()
    (folder / "bin").mkdir(parents=True)
    (folder / "ready").touch()
    (folder / "bin" / "python").symlink_to(cache / "gone")

    assert pot.pot_python() == folder / "bin" / "python"
    with pytest.raises(Unavailable, match="cannot be started .*: delete .* and run again"):
        pot.Worker(folder / "bin" / "python")  # a file that is no program


def test_another_python_is_named(cache, monkeypatch):
    monkeypatch.setattr(sys, "version_info", (3, 13, 1))
    with pytest.raises(Skipped, match="no release for Python 3.13: run the study with Python 3.11"):
        pot.pot_python()


@pytest.mark.parametrize(
    "stderr, reason",
    [
        ("noise\nERROR: no\n  network here\nmore", "ERROR: no$"),
        ("WARNING: Retrying …\nERROR: No match", "the package index cannot .* .ERROR: No match"),
    ],
)
def test_pip_s_error_is_the_reason(stderr, reason, cache, monkeypatch):
    failing = subprocess.CompletedProcess([], 1, "", stderr)
    monkeypatch.setattr(pot.subprocess, "run", lambda *a, **k: failing)
    with pytest.raises(Unavailable, match=f"POT's environment could not be made: {reason}"):
        pot.pot_python()


def test_a_killed_making_is_done_again(cache, monkeypatch):
    def killed(folder, with_pip):
        (folder / "half").mkdir(parents=True)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(pot.venv, "create", killed)
        pot.pot_python()
    folder = pot.environment_folder()
    assert (folder / "half").is_dir() and folder.is_relative_to(cache)
    assert pot.pot_python() == folder / "bin" / "python"
    assert not (folder / "half").exists() and (folder / "ready").is_file()


def test_a_cache_that_cannot_be_written_is_a_reason(cache, monkeypatch):
    cache.write_text("a file in the way")
    with pytest.raises(Skipped, match="POT's environment could not be made"):
        pot.pot_python()


def test_faulty_calls_are_named_before_pot_starts(models, real, tmp_path, monkeypatch):
    monkeypatch.setattr(pot, "pot_python", None)
    with pytest.raises(Skipped, match="POT takes ONNX .*, and there is no own.onnx"):
        quantize_pot(tmp_path / "own.onnx", real)
    with pytest.raises(StudyError, match="calibration set is empty"):
        quantize_pot(models / "resnet20.onnx", real.subset(np.arange(0)))


def test_a_process_that_dies_is_told_and_replaced(models, real, monkeypatch, tmp_path):
    monkeypatch.setattr(pot, "pot_python", lambda: sys.executable)
    worker = tmp_path / "worker.py"
    worker.write_text("import os\ninput()\nos._exit(7)\n")
    monkeypatch.setattr(pot, "WORKER", worker)
    pot.Worker.close()
    for _ in range(2):
        with pytest.raises(StudyError, match="POT's process ended with code 7"):
            quantize_pot(models / "resnet20.onnx", real)
    worker.write_text('input()\nprint(\'{"error": "ValueError: no"}\', flush=True)\ninput()\n')
    with pytest.raises(StudyError, match="POT failed: ValueError: no"):
        quantize_pot(models / "resnet20.onnx", real)
    pot.Worker.close()


def fixed(tail):
    """Return a network of batch 1 from an image's pixels through `tail` of their mean."""
    x = ops.parameter([1, 3, 32, 32], np.float32)
    mean = ops.reduce_mean(x, ops.constant([2, 3]), keep_dims=False)
    return ov.Model([tail(mean)], [x], "fixed")


def test_batch_1_is_made_free_where_that_changes_nothing(real):
    free = free_batch(fixed(lambda m: ops.reshape(m, [1, 3], False)), real.images)
    assert free.input(0).partial_shape[0].is_dynamic
    logits = predict_ir(free, real.images)
    np.testing.assert_allclose(logits, real.images.mean(axis=(2, 3)), rtol=1e-5)
    mixing = fixed(lambda m: ops.subtract(m, ops.reduce_max(m, ops.constant([0, 1]), True)))
    kept = free_batch(mixing, real.images)
    assert list(kept.input(0).shape) == [1, 3, 32, 32]


def test_pot_quantizes_and_reads_the_images_that_nncf_reads(int8, models, real, test_set):
    expected = quantize_default(read_ir(models / "resnet20.xml"), real, FEW, seed=1)
    assert int8.labels_read == expected.labels_read and int8.images_read == 20
    assert int8.quantizers > 3
    reference = predict_ir(models / "resnet20.xml", test_set.images).argmax(axis=1)
    found = predict_ir(int8.model, test_set.images).argmax(axis=1)
    assert (found == reference).mean() > 0.9
    weights = [op for op in int8.model.get_ops() if op.get_element_type() == ov.Type.i8]
    assert len(weights) >= 3
    assert int8.model.input(0).partial_shape[0].is_dynamic


@pytest.mark.parametrize("kind", ["none", "full"])
def test_bias_correction_is_a_choice(kind, int8, models, real, test_set):
    onnx = models / "resnet20.onnx"
    other = quantize_pot(onnx, real, replace(FEW, bias_correction=kind), seed=1)
    logits = [predict_ir(model, test_set.images) for model in (int8.model, other.model)]
    assert not np.array_equal(*logits)
    assert (logits[0].argmax(axis=1) == logits[1].argmax(axis=1)).mean() > 0.8


def test_neither_order_nor_an_earlier_job_matters(int8, models, real, tmp_path):
    by_class = real.subset(np.argsort(real.labels, kind="stable"))
    again = quantize_pot(models / "resnet20.onnx", by_class, FEW, seed=1)
    assert again.labels_read == int8.labels_read
    for name, quantized in {"first": int8, "again": again}.items():
        save_ir(tmp_path / name / "model.xml", quantized.model)
    for suffix in ("xml", "bin"):
        files = [tmp_path / name / f"model.{suffix}" for name in ("first", "again")]
        assert files[0].read_bytes() == files[1].read_bytes()


@pytest.mark.filterwarnings("ignore")  # of the exporter
def test_a_network_of_normalised_input_takes_pixels_in_the_end(
    environment, real, test_set, tmp_path
):
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 6, 3, 2), nn.ReLU(), nn.Flatten(), nn.Linear(1350, 3)).eval()
    torch.onnx.export(
        net,
        torch.zeros(1, 3, 32, 32),
        tmp_path / "own.onnx",
        dynamo=False,
        opset_version=13,
        input_names=["their name"],
    )
    mean, scale = [120.0, 110.0, 100.0], [60.0, 50.0, 40.0]
    takes = Input(mean=mean, std=scale, input_max=255)
    own = quantize_pot(tmp_path / "own.onnx", real, FEW, takes=takes)
    pixels = torch.from_numpy(test_set.images).float()
    normal = (pixels - torch.tensor(mean).view(3, 1, 1)) / torch.tensor(scale).view(3, 1, 1)
    with torch.inference_mode():
        expected = net(normal).numpy()
    found = predict_ir(own.model, test_set.images)
    assert np.corrcoef(found.ravel(), expected.ravel())[0, 1] > 0.99


@pytest.mark.parametrize(
    "arguments, changes",
    [
        ({"batch": 8, "target": 8}, {"colours": "BGR"}),
        ({"layout": "NHWC"}, {"layout": "NHWC", "colours": "BGR"}),
        ({"kind": TensorProto.FLOAT16}, {"mean": [0.1, 0.2, 0.3]}),
    ],
)
def test_what_own_networks_take_is_put_into_the_graph(environment, arguments, changes, tmp_path):
    model = own(write_onnx(tmp_path / "theirs.onnx", **arguments), **changes)
    rng = np.random.default_rng(0)
    pixels = rng.uniform(0, 256, (60, 3, 1, 1)) * rng.uniform(0.7, 1, (60, 3, 32, 32))
    colourful = SampleSet(pixels.astype(np.uint8), np.arange(60) % 10, info={"class_names": DIGITS})
    import_network(tmp_path, model, colourful.images, 10)
    takes = read_input(tmp_path, "mine")
    found = quantize_pot(tmp_path / "mine.onnx", colourful, FEW, takes=takes)
    expected = quantize_default(read_ir(tmp_path / "mine.xml"), colourful, FEW)
    outputs = [predict_ir(each.model, colourful.images).ravel() for each in (found, expected)]
    assert np.corrcoef(*outputs)[0, 1] > 0.99


def test_accuracy_aware_restores_what_grey_calibration_broke(environment, models, real):
    validation = lights(45, 1)
    grey = SampleSet(np.full_like(real.images, 128), real.labels, info=real.info)
    onnx, ir = models / "resnet20.onnx", read_ir(models / "resnet20.xml")
    options = QuantizationOptions(
        subset_size=3, bias_correction="none", max_drop=0.05, max_iterations=10
    )
    broken = quantize_pot(onnx, grey, options)
    assert accuracy_drop(ir, broken.model, validation) > 0.2
    restored = quantize_pot_accuracy_aware(
        onnx, grey, validation, options, reference=ir, default=broken
    )
    assert accuracy_drop(ir, restored.model, validation) <= 0.05
    assert restored.quantizers < broken.quantizers
    assert restored.images_read == 3


def test_accuracy_aware_ends_with_a_good_default(int8, models, real):
    validation = lights(45, 1)
    onnx, options = models / "resnet20.onnx", replace(FEW, max_drop=0.3, max_iterations=2)
    reference = read_ir(models / "resnet20.xml")
    reused = quantize_pot_accuracy_aware(
        onnx, real, validation, options, reference=reference, seed=1, default=int8
    )
    assert reused is int8
    made = quantize_pot(onnx, real, options, seed=1, validation=validation)
    first, second = (predict_ir(q.model, validation.images) for q in (made, int8))
    assert np.array_equal(first, second) and made.labels_read == int8.labels_read


def test_rows_of_both_engines_stand_side_by_side(environment, models, real, test_set, tmp_path):
    for name, samples in {"real": real, "validation": lights(45, 1), "test": test_set}.items():
        samples.save(tmp_path / name)
    places = {name: tmp_path / name for name in ("validation", "test")}
    run_grid(
        tmp_path / "grid",
        cells=[Cell("resnet20", engine, "default", "real", 20) for engine in ("nncf", "pot")],
        models=models,
        calibration={"real": tmp_path / "real"},
        options=QuantizationOptions(bias_correction="none"),
        jobs=2,
        **places,
    )
    table, predictions, _ = load_results(tmp_path / "grid")
    assert table["engine"].tolist() == ["openvino", "nncf", "pot"]
    assert (table["status"] == "ok").all() and (table["images_read"][1:] == 20).all()
    compared = compare_engines(table, predictions).iloc[0]
    assert compared["pairs"] == 1 and compared["alike"] > 0.9
    about = json.loads((tmp_path / "grid/models/resnet20.pot.default.real.20.json").read_text())
    assert about["versions"]["openvino-dev"] == "2023.3.0"


def test_order_of_images_depends_on_content_and_seed_alone(real):
    shuffled = real.subset(np.random.default_rng(0).permutation(len(real)))
    first, second = (CalibrationImages(samples, 3) for samples in (real, shuffled))
    other = CalibrationImages(real, 4)
    assert all(np.array_equal(first[k], second[k]) for k in range(60))
    assert not all(np.array_equal(first[k], other[k]) for k in range(60))
