"""The classifiers' training, their files, prediction."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from lib.classifiers import training
from lib.classifiers.build import NormalizedClassifier, build_classifier
from lib.classifiers.options import ClassifierOptions
from lib.classifiers.training import (
    accuracy,
    augment,
    load_classifier,
    predict,
    predict_with_features,
    train_classifier,
)
from lib.common.errors import StudyError
from tests.classifiers.conftest import colours, fill

DROPOUT = "vgg11_bn_x0_1"  # a network with dropout: resuming must find the same draws
OPTIONS = ClassifierOptions(epochs=3, batch_size=16, horizontal_flip=True)


@pytest.fixture(scope="module")
def real(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("real")
    colours().save(folder)
    return folder


def train(out: Path, real: Path, name: str = DROPOUT, seed: int = 0, **changes) -> None:
    train_classifier(out, real=real, name=name, seed=seed, options=replace(OPTIONS, **changes))


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_training_learns_and_its_file_predicts(tmp_path, real):
    train(tmp_path / "out", real, "resnet20_x0_5", epochs=6, batch_size=8, learning_rate=0.02)
    model = load_classifier(tmp_path / "out")
    samples = colours()
    assert not model.training
    assert model.mean.flatten().tolist() == [0.5, 0.5, 0.5]
    assert accuracy(predict(model, samples.images), samples.labels) > 0.9
    log = (tmp_path / "out/log.csv").read_text().splitlines()
    assert log[0] == "epoch,step,learning_rate,loss,accuracy"
    assert [line.split(",")[:2] for line in log[1:]] == [[str(e), str(6 * e)] for e in range(1, 7)]
    assert float(log[-1].split(",")[3]) < float(log[1].split(",")[3])


def test_bfloat16_learns_at_a_rate_of_its_own(tmp_path, real):
    name = "resnet20_x0_5"
    how = {"precision": "bfloat16", "learning_rates": {name: 0.02}, "epochs": 6, "batch_size": 8}
    train(tmp_path, real, name, **how)
    samples = colours()
    assert accuracy(predict(load_classifier(tmp_path), samples.images), samples.labels) > 0.9
    rates = [float(line.split(",")[2]) for line in (tmp_path / "log.csv").read_text().split()[1:]]
    assert 0.015 < max(rates) <= 0.02


def test_strided_depthwise_convolutions_stay_in_float32(real):
    options = replace(OPTIONS, precision="bfloat16")
    trainer = training.ClassifierTrainer(real, "mobilenetv2_x0_1", 0, options, "cpu")
    kinds = {}

    def keep(conv, _, output):
        kinds.setdefault((conv.groups > 1, conv.stride[0] > 1), set()).add(output.dtype)

    for module in trainer.model.modules():
        if isinstance(module, nn.Conv2d):
            module.register_forward_hook(keep)
    trainer.step(*(drawn[:16] for drawn in trainer.draw(0)))
    assert kinds.pop((True, True)) == {torch.float32}
    assert set.union(*kinds.values()) == {torch.bfloat16}


def test_resumed_training_ends_in_the_same_bytes(tmp_path, real, monkeypatch):
    train(tmp_path / "whole", real)
    save, saved = training.save_checkpoint, []

    def save_and_die(*args):
        save(*args)
        saved.append(args)
        if len(saved) == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(training, "save_checkpoint", save_and_die)
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path / "killed", real)
    assert list(contents(tmp_path / "killed")) == ["checkpoint.safetensors"]
    torch.manual_seed(99)
    train(tmp_path / "killed", real)
    assert len(saved) == 3
    assert contents(tmp_path / "killed") == contents(tmp_path / "whole")
    assert sorted(contents(tmp_path / "whole")) == ["classifier.safetensors", "log.csv"]


def test_checkpoint_of_other_options_is_not_resumed(tmp_path, real, monkeypatch):
    train(tmp_path / "expected", real, epochs=2)
    with monkeypatch.context() as patch:
        patch.setattr(training, "save_tensors", lambda *args: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            train(tmp_path / "out", real, epochs=1)
    train(tmp_path / "out", real, epochs=2)
    assert contents(tmp_path / "out") == contents(tmp_path / "expected")


def test_seed_matters_and_the_global_generator_is_left_alone(tmp_path, real):
    before = torch.get_rng_state()
    for seed in (0, 1):
        train(tmp_path / str(seed), real, seed=seed, epochs=1)
    assert torch.equal(torch.get_rng_state(), before)
    images = colours().images
    first, second = (predict(load_classifier(tmp_path / s), images) for s in "01")
    assert not np.allclose(first, second, atol=1e-3)


def test_loss_that_explodes_stops_the_training_by_name(tmp_path, real):
    with pytest.raises(StudyError, match=r"resnet20_x0_5: the loss in epoch \d is (nan|inf)"):
        train(tmp_path / "out", real, "resnet20_x0_5", learning_rate=1e30)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("index", "message"),
    [([], "two classes"), ([0, 4, 8], "two classes"), ([0, 1, 2, 3], "class names")],
)
def test_unfit_training_set_is_refused(tmp_path, monkeypatch, index, message):
    samples = colours().subset(np.array(index, dtype=int))
    samples.info["class_names"] = ["a", "b"]
    monkeypatch.setattr(training.SampleSet, "load", staticmethod(lambda folder: samples))
    with pytest.raises(StudyError, match=message):
        train(tmp_path / "out", Path("real"))
    assert not (tmp_path / "out").exists()


def test_augmentation_shifts_and_mirrors():
    images = torch.randint(1, 256, (2, 3, 32, 32), dtype=torch.uint8)
    padded = nn.functional.pad(images, (2, 2, 2, 2))
    order, rows, columns = torch.tensor([[1, 0, 1], [2, 4, 2], [2, 1, 2]])
    got = augment(padded, order, rows, columns, torch.tensor([False, False, True]))
    assert torch.equal(got[0], images[1])
    assert torch.equal(got[1, :, :30, 1:], images[0, :, 2:, :31])
    assert got[1, :, 30:].max() == 0 and got[1, :, :, 0].max() == 0
    assert torch.equal(got[2], images[1].flip(2))


def test_prediction_does_not_depend_on_the_batch_size():
    model = NormalizedClassifier(fill(build_classifier("resnet20_x0_5"))).eval()
    images = colours(5).images
    features, logits = predict_with_features(model, images, batch_size=2)
    assert features.shape == (5, 32) and features.dtype == np.float32
    assert logits.shape == (5, 10) and logits.dtype == np.float32
    np.testing.assert_allclose(predict(model, images), logits, rtol=1e-4, atol=1e-4)


def test_prediction_refuses_no_images_and_training_mode():
    model = NormalizedClassifier(build_classifier("resnet20_x0_5"))
    with pytest.raises(StudyError, match="training mode"):
        predict(model, colours(4).images)
    with pytest.raises(StudyError, match="no images"):
        predict(model.eval(), colours(4).images[:0])


def test_accuracy_counts_the_right_ones():
    logits = np.array([[1.0, 2.0], [3.0, 0.0], [0.0, 1.0], [0.0, 1.0]])
    assert accuracy(logits, np.array([1, 0, 1, 0])) == 0.75
    with pytest.raises(StudyError, match="0 labels"):
        accuracy(logits[:0], np.array([]))
    with pytest.raises(StudyError, match="4 predictions for 3 labels"):
        accuracy(logits, np.array([1, 0, 1]))


def test_file_of_another_kind_is_refused(tmp_path):
    training.save_tensors(tmp_path / "x.safetensors", nn.Linear(1, 1), {"z_dim": 2})
    with pytest.raises(StudyError, match=r"x\.safetensors holds no classifier"):
        load_classifier(tmp_path / "x.safetensors")
