"""The benchmarks' references make the same as the study; their tables hold what they promise."""

import dataclasses

import numpy as np
import pandas as pd
import pytest
import torch

from benchmarks import (
    classifier_training,
    evaluation,
    fractals,
    report,
    teacher,
    teacher_training,
)
from benchmarks.grouped_generator import grouped_images
from lib.classifiers.build import (
    CIFAR10_MEAN,
    CIFAR10_STD,
    NormalizedClassifier,
    build_classifier,
)
from lib.common.errors import StudyError
from lib.common.openvino import read_ir, save_ir
from lib.gan.generator import Generator
from lib.quantization.models import export_ir, predict_ir
from lib.teacher.sampling import BACKENDS

SMALL = {"num_layers": 2}, {"channel_base": 512, "channel_max": 16, "conv_clamp": 0.5}


@pytest.fixture(autouse=True)
def as_many_threads_as_before():
    """Benchmarks take all processors; what other tests compute may depend on the number."""
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.fixture
def small(monkeypatch):
    mapping, synthesis = SMALL
    monkeypatch.setitem(teacher.OFFICIAL, "synthesis_kwargs", synthesis)
    monkeypatch.setattr(teacher, "MATRIX", 64)
    return teacher.official_generator()


def test_grouped_convolutions_make_the_same_images(small):
    z, c = torch.randn(4, 512), torch.eye(10)[:4]
    found, expected = grouped_images(small, z, c), small(z, c, noise_mode="const")
    assert expected.std() > 0.1
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)


def test_operations_of_the_official_network():
    with torch.device("meta"):
        generator = Generator(**teacher.OFFICIAL)
    assert sum(weight.numel() for weight in generator.parameters()) == 20_215_315
    assert teacher.multiply_adds(generator) / 1e9 == pytest.approx(4.0, abs=0.05)


def test_the_table_compares_every_backend(small, monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(teacher, "ROOT", tmp_path)
    teacher.main(["--batch-size", "4", "--turns", "1"])
    table = pd.read_csv(tmp_path / "outputs" / "bench" / "teacher.csv").set_index("implementation")
    assert set(table.index) == {*BACKENDS, teacher.REFERENCE, teacher.PRODUCT}
    measured = table.drop(index=teacher.PRODUCT)
    assert (measured["images_per_s"] > 0).all() and (measured["largest_difference"] < 1e-3).all()
    assert table.loc[teacher.REFERENCE, "times_reference"] == 1
    assert (table["threads"] >= 1).all() and "openvino" in capsys.readouterr().out


def test_the_plain_loop_draws_fractals_too(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(fractals, "ROOT", tmp_path)
    plain = fractals.plain_images(3, seed=1)
    assert plain.shape == (3, 3, 32, 32) and (plain.std(axis=(1, 2, 3)) > 10).all()
    fractals.main(["--turns", "1", "--chunks", "1", "--plain", "1"])
    table = pd.read_csv(tmp_path / "outputs/bench/fractals.csv").set_index("implementation")
    assert table.loc[fractals.PLAIN, "times_plain"] == 1
    assert (table["images_per_s"] > 0).all() and "vectorised" in capsys.readouterr().out


def test_every_way_of_evaluation_gives_the_same_logits_and_a_rate(tmp_path):
    images = np.random.default_rng(0).integers(0, 256, (5, 3, 32, 32), dtype=np.uint8)
    network = NormalizedClassifier(build_classifier("resnet20_x0_5")).eval()
    xml = tmp_path / "net.xml"
    export_ir(xml, network, images)
    expected = predict_ir(xml, images)
    files = evaluation.encode(images)
    for call in (evaluation.int8_call(xml), evaluation.torch_call(network)):
        found = np.concatenate([call(evaluation.decode(png)) for png in files])
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-4 * np.abs(expected).max())
        assert evaluation.one_by_one_rate(call, files)() > 0
    assert evaluation.predictor_rate(xml, images)() > 0
    with pytest.raises(StudyError, match="benchmark_app failed"):
        evaluation.app_rate(tmp_path / "none.xml", 1)()
    model = read_ir(xml)
    model.reshape([2, 3, 32, 32])
    save_ir(tmp_path / "fixed.xml", model)
    assert evaluation.app_rate(tmp_path / "fixed.xml", 1)() > 0


def test_the_ratios_are_medians_over_the_turns():
    turns = {
        evaluation.OURS: [90, 100, 300],
        evaluation.APP: [100, 100, 100],
        evaluation.ORIGINAL: [45, 20, 100],
        evaluation.TORCH: [5, 50, 20],
    }
    table = evaluation.summarise(pd.DataFrame(turns)).set_index("way")
    assert table["predictor_times"].tolist() == [1, 1, 3, 15]
    assert table["reached"].tolist() == [True, True, True, True]
    slow = pd.DataFrame(turns | {evaluation.OURS: [80, 80, 80]})
    assert evaluation.summarise(slow)["reached"].tolist() == [True, False, False, False]


def test_training_is_timed_in_both_precisions(tmp_path, monkeypatch, capsys):
    sizes = {"channel_max": 8, "batch_size": 4, "r1_interval": 2}
    small = dataclasses.replace(teacher_training.settings(), **sizes)
    monkeypatch.setattr(report, "ROOT", tmp_path)
    monkeypatch.setattr(teacher_training, "settings", lambda: small)
    steps, step = [], teacher_training.TeacherTraining.step

    def noted(trainer, number):
        steps.append((trainer.options.precision, number))
        return step(trainer, number)

    monkeypatch.setattr(teacher_training.TeacherTraining, "step", noted)
    teacher_training.main(["--turns", "1"])
    names = teacher_training.PRECISIONS
    assert steps == [(name, n) for pair in ((0, 1), (2, 3)) for name in names for n in pair]
    assert "bfloat16" in capsys.readouterr().out
    table = pd.read_csv(tmp_path / "outputs" / "bench" / "teacher_training.csv")
    assert table["precision"].tolist() == ["float32", "bfloat16"]
    assert table["times_float32"][0] == 1 and (table["images_per_s"] > 0).all()


def test_the_plain_loop_of_a_classifier_sees_the_same_images(monkeypatch):
    table = classifier_training.compare(1, "resnet20_x0_25", 4, 2)
    assert table["loop"].tolist() == ["plain loop", "study, float32", "study, bfloat16"]
    assert table["times_plain"][0] == 1 and (table["images_per_s"] > 0).all()
    samples = teacher_training.random_images(4)
    shifted, label = classifier_training.Pictures(samples)[3]
    assert label == samples.labels[3] and shifted.shape == (3, 32, 32)
    monkeypatch.setattr(classifier_training, "SHIFT", 0)
    whole, _ = classifier_training.Pictures(samples)[3]
    std = torch.tensor(CIFAR10_STD).view(3, 1, 1)
    pixels = (whole * std + torch.tensor(CIFAR10_MEAN).view(3, 1, 1)) * 255
    expected = torch.from_numpy(samples.images[3]).float()
    assert any(torch.allclose(pixels, x, atol=1e-2) for x in (expected, expected.flip(2)))
