"""The classifiers: networks against published shapes, training, files, prediction."""

import json
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from lib.classifiers import training as classifier_training
from lib.classifiers.build import (
    CIFAR10_MEAN,
    CIFAR10_STD,
    NormalizedClassifier,
    build_classifier,
    features,
    features_and_logits,
    prepare_for_deployment,
)
from lib.classifiers.names import FAMILIES, family
from lib.classifiers.repvgg import RepVGGBlock, fuse_repvgg
from lib.classifiers.training import (
    Draws,
    accuracy,
    augment,
    load_classifier,
    load_published,
    predict,
    predict_with_features,
    train_classifier,
)
from lib.common.errors import StudyError
from lib.common.files import ROOT
from lib.data.samples import SampleSet

KEYS = json.loads((ROOT / "tests/fixtures/classifiers/keys.json").read_text())
PUBLISHED = [name for names in FAMILIES.values() for name in names]
MILLIONS = {  # parameters, as chenyaofo/pytorch-cifar-models publishes them
    "resnet20": 0.27,
    "resnet32": 0.47,
    "resnet44": 0.66,
    "resnet56": 0.86,
    "vgg11_bn": 9.76,
    "vgg13_bn": 9.94,
    "vgg16_bn": 15.25,
    "vgg19_bn": 20.57,
    "mobilenetv2_x0_5": 0.70,
    "mobilenetv2_x0_75": 1.37,
    "mobilenetv2_x1_0": 2.24,
    "mobilenetv2_x1_4": 4.33,
    "shufflenetv2_x0_5": 0.35,
    "shufflenetv2_x1_0": 1.26,
    "shufflenetv2_x1_5": 2.49,
    "shufflenetv2_x2_0": 5.37,
    "repvgg_a0": 7.84,
    "repvgg_a1": 12.82,
    "repvgg_a2": 26.82,
}
SMALL = {  # one small size of each family
    "resnet": "resnet20_x0_5",
    "vgg": "vgg11_bn_x0_1",
    "mobilenetv2": "mobilenetv2_x0_25",
    "shufflenetv2": "shufflenetv2_x0_25",
    "repvgg": "repvgg_a0_x0_1",
}


def parameters(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def fill(model: nn.Module, prefix: str = "") -> nn.Module:
    """Fill a network by the rule of tests/fixtures/classifiers/README.md."""
    state = {}
    for name, tensor in model.state_dict().items():
        seed = zlib.crc32(f"{prefix}{name}".encode())
        x = np.random.RandomState(seed).standard_normal(tensor.numel()).astype(np.float32)
        x = torch.from_numpy(x).view(tensor.shape)
        if name.endswith("num_batches_tracked"):
            x = torch.zeros_like(tensor)
        elif name.endswith("running_var"):
            x = 1 + 0.1 * x.abs()
        elif name.endswith(("running_mean", "bias")):
            x = 0.1 * x
        else:
            x = x * (2 / tensor[0].numel()) ** 0.5 if x.ndim > 1 else 0.65 * (1 + 0.1 * x)
        state[name] = x
    model.load_state_dict(state)
    return model


# --- networks


@pytest.mark.parametrize("name", [name for name in KEYS if not name.endswith("_fused")])
def test_names_and_shapes_are_the_published_ones(name):
    with torch.device("meta"):
        model = build_classifier(name)
    shapes = {key: list(tensor.shape) for key, tensor in model.state_dict().items()}
    assert shapes == KEYS[name]["shapes"]
    assert parameters(model) == KEYS[name]["params"]


def test_every_published_size_has_the_published_number_of_parameters():
    assert sorted(MILLIONS) == sorted(PUBLISHED)
    for name in PUBLISHED:
        with torch.device("meta"):
            millions = parameters(build_classifier(name)) / 1e6
        assert millions == pytest.approx(MILLIONS[name], abs=0.0051), name


@pytest.mark.parametrize("name", SMALL.values(), ids=SMALL)
def test_small_sizes_classify_and_give_penultimate_features(name):
    torch.manual_seed(0)
    model = build_classifier(name, num_classes=7).eval()
    images = torch.randn(2, 3, 32, 32)
    extracted, logits = features_and_logits(model, images)
    last = [module for module in model.modules() if isinstance(module, nn.Linear)][-1]
    assert logits.shape == (2, 7)
    assert torch.equal(last(extracted), logits)
    assert torch.equal(features(model, images), extracted)


@pytest.mark.parametrize("name", SMALL.values(), ids=SMALL)
def test_last_map_is_as_small_as_published(name):
    """Strides for 32x32: a wrong one changes no parameter but this map."""
    side = {"resnet": 8, "vgg": 1}.get(family(name), 4)
    model, seen = build_classifier(name).eval(), []
    pool = {"resnet": "avgpool", "vgg": "avgpool", "repvgg": "gap"}.get(family(name))
    if pool:
        model.get_submodule(pool).register_forward_pre_hook(lambda _, x: seen.append(x[0]))
    else:
        last = model.conv5 if family(name) == "shufflenetv2" else model.features
        last.register_forward_hook(lambda _, x, y: seen.append(y))
    model(torch.zeros(1, 3, 32, 32))
    assert seen[0].shape[2:] == (side, side)


def test_width_multiplies_the_channels():
    shapes = {n: p.shape for n, p in build_classifier("resnet20_x0_5").state_dict().items()}
    assert shapes["fc.weight"] == (10, 32)
    assert shapes["layer1.0.conv1.weight"] == (8, 8, 3, 3)
    assert build_classifier("vgg11_bn_x0_25").classifier[6].in_features == 128
    assert build_classifier("repvgg_a0_x0_25").linear.in_features == 320
    assert build_classifier("shufflenetv2_x0_25").stage4[0].branch2[0].out_channels == 64
    assert parameters(build_classifier("resnet20_x1_0")) == KEYS["resnet20"]["params"]


@pytest.mark.parametrize("name", PUBLISHED + list(SMALL.values()))
def test_family_is_told_by_the_name(name):
    assert name in FAMILIES[family(name)] + (SMALL[family(name)],)


@pytest.mark.parametrize(
    "name", ["resnet21", "vgg16", "mobilenetv2", "repvgg_a0_x0.5", "resnet20_", "", "x resnet20"]
)
def test_unknown_name_is_refused_with_the_known_ones(name):
    with pytest.raises(StudyError) as error:
        build_classifier(name)
    assert repr(name) in str(error.value)
    assert all(published in str(error.value) for published in PUBLISHED)


@pytest.mark.parametrize("name", ["resnet20_x0_0", "resnet20_x99_0"])
def test_width_out_of_range_is_refused(name):
    with pytest.raises(StudyError, match=f"{name}: its width"):
        build_classifier(name)


# --- RepVGG


@pytest.mark.parametrize("block", ["stage0", "stage1.0", "stage1.1", "stage2.0", "stage2.1"])
def test_fused_kernels_are_those_of_the_original(block):
    shape = KEYS["repvgg_a2"]["shapes"][f"{block}.rbr_dense.conv.weight"]
    module = fill(RepVGGBlock(shape[1], shape[0], stride=1), f"{block}.")
    module.fuse()
    for part, tensor in module.state_dict().items():
        mean, norm = KEYS["repvgg_a2_fused"]["kernel_checks"][f"{block}.{part}"]
        assert tensor.double().mean().item() == pytest.approx(mean, abs=1e-7)
        assert tensor.double().norm().item() == pytest.approx(norm, rel=1e-6)


def test_fused_network_has_the_published_form():
    with torch.device("meta"):
        fused = fuse_repvgg(build_classifier("repvgg_a2"))
    shapes = {key: list(tensor.shape) for key, tensor in fused.state_dict().items()}
    assert shapes == KEYS["repvgg_a2_fused"]["shapes"]
    assert parameters(fused) == KEYS["repvgg_a2_fused"]["params"]


def test_deployed_repvgg_computes_the_same_and_leaves_the_original_alone():
    model = NormalizedClassifier(fill(build_classifier("repvgg_a0_x0_25")))
    keys = list(model.state_dict())
    deployed = prepare_for_deployment(model)
    assert list(model.state_dict()) == keys and model.training and not deployed.training
    assert not any(isinstance(module, nn.BatchNorm2d) for module in deployed.modules())
    images = torch.rand(4, 3, 32, 32, generator=torch.Generator().manual_seed(0)) * 255
    with torch.no_grad():
        expected, got = model.eval()(images), deployed(images)
    assert expected.std() > 0.01
    torch.testing.assert_close(got, expected, atol=1e-4, rtol=0)


# --- normalisation


def test_pixels_are_normalised_inside():
    images = torch.randint(256, (2, 3, 32, 32)).float()
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in (CIFAR10_MEAN, CIFAR10_STD))
    got = NormalizedClassifier(nn.Identity())(images)
    torch.testing.assert_close(got, (images / 255 - mean) / std)


@pytest.mark.parametrize("std", [(0.5, 0.5), (0.5, 0.0, 0.5)])
def test_wrong_normalisation_is_refused(std):
    with pytest.raises(StudyError, match="std"):
        NormalizedClassifier(nn.Identity(), CIFAR10_MEAN, std)


# --- training


def colours(n: int = 48) -> SampleSet:
    """Noise of four classes: reddish, greenish, bluish and grey."""
    images = np.random.default_rng(0).integers(0, 150, (n, 3, 32, 32)).astype(np.uint8)
    labels = np.arange(n) % 4
    for image, label in zip(images, labels, strict=True):
        image[label : label + 1] += 100
    return SampleSet(images, labels, info={"class_names": ["red", "green", "blue", "grey"]})


@pytest.fixture
def real(tmp_path) -> Path:
    colours().save(tmp_path / "real")
    return tmp_path / "real"


def train(out: Path, real: Path, **changes) -> None:
    options = {
        "name": "vgg11_bn_x0_1",  # it has dropout: resuming must find the same draws
        "seed": 0,
        "epochs": 3,
        "batch_size": 16,
        "learning_rate": 0.05,
        "weight_decay": 5e-4,
        "augment_shift": 2,
        "horizontal_flip": True,
        "label_smoothing": 0.1,
        "mean": (0.5, 0.5, 0.5),
        "std": (0.5, 0.5, 0.5),
    }
    train_classifier(out, real=real, **options | changes)


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_training_learns_and_its_file_predicts(tmp_path, real):
    train(tmp_path / "out", real, name="resnet20_x0_5", epochs=6, batch_size=8, learning_rate=0.02)
    model = load_classifier(tmp_path / "out")
    samples = colours()
    assert not model.training
    assert model.mean.flatten().tolist() == [0.5, 0.5, 0.5]
    assert accuracy(predict(model, samples.images), samples.labels) > 0.9
    log = (tmp_path / "out/log.csv").read_text().splitlines()
    assert log[0] == "epoch,step,learning_rate,loss,accuracy"
    assert [line.split(",")[:2] for line in log[1:]] == [[str(e), str(6 * e)] for e in range(1, 7)]
    assert float(log[-1].split(",")[3]) < float(log[1].split(",")[3])


def test_resumed_training_ends_in_the_same_bytes(tmp_path, real, monkeypatch):
    train(tmp_path / "whole", real)
    save, saved = classifier_training.save_checkpoint, []

    def save_and_die(*args):
        save(*args)
        saved.append(args)
        if len(saved) == 2:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(classifier_training, "save_checkpoint", save_and_die)
        with pytest.raises(KeyboardInterrupt):
            train(tmp_path / "killed", real)
    assert list(contents(tmp_path / "killed")) == ["checkpoint.safetensors"]
    torch.manual_seed(99)
    monkeypatch.setattr(
        classifier_training, "save_checkpoint", lambda *args: saved.append(save(*args))
    )
    train(tmp_path / "killed", real)
    assert len(saved) == 3
    assert contents(tmp_path / "killed") == contents(tmp_path / "whole")
    assert sorted(contents(tmp_path / "whole")) == ["classifier.safetensors", "log.csv"]


def test_checkpoint_of_other_options_is_not_resumed(tmp_path, real, monkeypatch):
    train(tmp_path / "expected", real, epochs=2)
    with monkeypatch.context() as patch:
        patch.setattr(classifier_training, "save_weights", lambda *args: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            train(tmp_path / "out", real, epochs=1)
    train(tmp_path / "out", real, epochs=2)
    assert contents(tmp_path / "out") == contents(tmp_path / "expected")


def test_seed_matters_and_the_global_generator_is_left_alone(tmp_path, real):
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    for seed in (0, 1):
        train(tmp_path / str(seed), real, seed=seed, epochs=1)
    assert torch.equal(torch.rand(1), expected)
    images = colours().images
    first, second = (predict(load_classifier(tmp_path / s), images) for s in "01")
    assert not np.allclose(first, second, atol=1e-3)


def test_loss_that_explodes_stops_the_training_by_name(tmp_path, real):
    with pytest.raises(StudyError, match=r"resnet20_x0_5: the loss at step \d+ is (nan|inf)"):
        train(tmp_path / "out", real, name="resnet20_x0_5", learning_rate=1e30)
    assert not (tmp_path / "out/classifier.safetensors").exists()


@pytest.mark.parametrize(
    ("index", "message"),
    [([], "no images"), ([0, 4, 8], "one class only"), ([0, 1, 2, 3], "class names")],
)
def test_unfit_training_set_is_refused(tmp_path, index, message):
    samples = colours().subset(np.array(index, dtype=int))
    samples.info["class_names"] = ["a", "b"]
    loaded = classifier_training.SampleSet
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loaded, "load", staticmethod(lambda folder: samples))
        with pytest.raises(StudyError, match=message):
            train(tmp_path / "out", Path("real"))
    assert not (tmp_path / "out").exists()


def test_augmentation_shifts_and_mirrors():
    images = torch.randint(1, 256, (2, 3, 32, 32), dtype=torch.uint8)
    padded = nn.functional.pad(images, (2, 2, 2, 2))
    order, rows, columns = torch.tensor([1, 0, 1]), torch.tensor([2, 4, 2]), torch.tensor([2, 1, 2])
    got = augment(padded, Draws(order, rows, columns, torch.tensor([False, False, True])))
    assert torch.equal(got[0], images[1])
    assert torch.equal(got[1, :, :30, 1:], images[0, :, 2:, :31])
    assert got[1, :, 30:].max() == 0 and got[1, :, :, 0].max() == 0
    assert torch.equal(got[2], images[1].flip(2))


# --- files and prediction


def test_prediction_does_not_depend_on_the_batch_size():
    model = NormalizedClassifier(fill(build_classifier("resnet20_x0_5"))).eval()
    images = colours(5).images
    extracted, logits = predict_with_features(model, images, batch_size=2)
    assert extracted.shape == (5, 32) and extracted.dtype == np.float32
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
    classifier_training.save_weights(tmp_path / "x.safetensors", nn.Linear(1, 1), {"z_dim": 2})
    with pytest.raises(StudyError, match=r"x\.safetensors holds no classifier"):
        load_classifier(tmp_path / "x.safetensors")


def test_published_weights_are_read_without_running_what_they_hold(tmp_path):
    model = fill(build_classifier("resnet20"))
    torch.save(model.state_dict(), tmp_path / "good.pt")
    torch.save({"weights": Path("code")}, tmp_path / "code.pt")
    (tmp_path / "short.pt").write_bytes((tmp_path / "good.pt").read_bytes()[:1000])
    loaded = load_published(tmp_path / "good.pt", "resnet20")
    images = colours(4).images
    expected = NormalizedClassifier(model).eval()
    np.testing.assert_array_equal(predict(loaded, images), predict(expected, images))
    with pytest.raises(StudyError, match=r"good\.pt does not fit"):
        load_published(tmp_path / "good.pt", "resnet32")
    for name in ("code", "short"):
        with pytest.raises(StudyError, match=rf"{name}\.pt is no plain state dict"):
            load_published(tmp_path / f"{name}.pt", "resnet20")
    with pytest.raises(StudyError, match=r"none\.pt is missing"):
        load_published(tmp_path / "none.pt", "resnet20")
