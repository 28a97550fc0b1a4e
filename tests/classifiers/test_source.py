"""Weights that are not trained here: verified, adopted; clear errors without them."""

import hashlib
from pathlib import Path

import numpy as np
import pytest
import torch

from lib.classifiers import source
from lib.classifiers.build import (
    CIFAR10_MEAN,
    CIFAR10_STD,
    NormalizedClassifier,
    build_classifier,
)
from lib.classifiers.names import PUBLISHED, weights_source
from lib.classifiers.options import ClassifierOptions
from lib.classifiers.source import (
    adopt_published,
    adopt_trained,
    classifier_maker,
    find_weights,
    published_file,
)
from lib.classifiers.training import load_classifier, train_classifier
from lib.common.download import cache_folder
from lib.common.errors import StudyError
from lib.common.files import ROOT
from lib.common.tensors import save_tensors
from lib.data.cifar10 import CLASSES
from lib.data.samples import SampleSet
from lib.study.params import read_profile, validate
from lib.study.preflight import check_networks


@pytest.fixture(autouse=True)
def offline(tmp_path, monkeypatch):
    """Nothing answers where the releases are; the cache is empty."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(source, "RELEASES", "http://127.0.0.1:1")


def put_in_cache(monkeypatch, content: dict) -> Path:
    """Put a file for resnet20 where a download would have, as if its name were its hash."""
    path = cache_folder() / "file"
    path.parent.mkdir(parents=True)
    torch.save(content, path)
    start = hashlib.sha256(path.read_bytes()).hexdigest()[:8]
    monkeypatch.setitem(PUBLISHED, "resnet20", start)
    return path.rename(path.with_name(f"cifar10_resnet20-{start}.pt"))


def real(folder: Path, class_names: list[str] = CLASSES) -> Path:
    images = np.zeros((len(class_names), 3, 32, 32), np.uint8)
    labels = np.arange(len(class_names))
    SampleSet(images, labels, info={"class_names": class_names}).save(folder / "real")
    return folder / "real"


def test_weights_are_adopted_with_their_normalisation(tmp_path, monkeypatch):
    network = build_classifier("resnet20")
    put_in_cache(monkeypatch, network.state_dict())
    adopt_published(tmp_path / "out", real=real(tmp_path), name="resnet20")
    classifier = load_classifier(tmp_path / "out")
    for key, value in network.state_dict().items():
        assert torch.equal(classifier.model.state_dict()[key], value), key
    assert classifier.mean.flatten().tolist() == pytest.approx(CIFAR10_MEAN)
    assert classifier.std.flatten().tolist() == pytest.approx(CIFAR10_STD)


def test_files_are_named_as_they_are_published(monkeypatch):
    asked = []
    monkeypatch.setattr(source, "download", lambda *given: asked.append(given))
    path = published_file("mobilenetv2_x1_4")
    assert path == cache_folder() / "cifar10_mobilenetv2_x1_4-3bbbd6e2.pt"
    assert asked == [(f"http://127.0.0.1:1/mobilenetv2/{path.name}", path, "3bbbd6e2")]
    with pytest.raises(StudyError, match="no weights of resnet20_x0_5 are published, only of"):
        published_file("resnet20_x0_5")


def test_another_file_is_refused_by_its_hash(monkeypatch):
    path = put_in_cache(monkeypatch, {})
    path.write_bytes(path.read_bytes() + b"x")
    with pytest.raises(StudyError, match="has SHA-256 .* expected [0-9a-f]{8}: delete it"):
        published_file("resnet20")


def test_nothing_in_a_file_is_executed(tmp_path, monkeypatch):
    class Trap:
        def __reduce__(self):
            return exec, (f"open({str(tmp_path / 'trapped')!r}, 'w')",)

    put_in_cache(monkeypatch, {"fc.weight": Trap()})
    with pytest.raises(StudyError, match="is no plain state dict"):
        adopt_published(tmp_path / "out", real=real(tmp_path), name="resnet20")
    assert not (tmp_path / "trapped").exists()


def test_weights_of_another_network_are_refused(tmp_path, monkeypatch):
    put_in_cache(monkeypatch, build_classifier("resnet20_x0_5").state_dict())
    with pytest.raises(StudyError, match=r"cifar10_resnet20-.*\.pt does not fit ResNet"):
        adopt_published(tmp_path / "out", real=real(tmp_path), name="resnet20")


def test_preflight_fetches_before_anything_runs_or_says_where_the_file_belongs(tmp_path):
    where = tmp_path / "cache/synthetic-calibration-study/cifar10_resnet20-4118986f.pt"
    with pytest.raises(StudyError, match=f"download it elsewhere and put the file at {where}"):
        check_networks(validate(read_profile(ROOT / "params/cifar10.yaml")))


@pytest.mark.parametrize("names", [CLASSES[:9], CLASSES[::-1]])
def test_other_classes_are_refused(tmp_path, names):
    with pytest.raises(StudyError, match="published are for CIFAR-10's classes"):
        adopt_published(tmp_path, real=real(tmp_path, names), name="resnet20")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"classifiers": ["resnet20_x0_5"]}, "no weights of resnet20_x0_5 are published"),
        ({"data": "digits", "test_images": 600}, "published are for CIFAR-10, not digits"),
        ({"quantization_unfused": ["resnet20"]}, "resnet20 is no RepVGG among classifiers"),
        ({"quantization_unfused": ["repvgg_a0"]}, "repvgg_a0 is no RepVGG among classifiers"),
        ({"classifiers_weights": "mine"}, "resnet20: choose train, published or a .safetensors"),
        ({"classifiers_weights": {"resnet56": "train"}}, "resnet56 is not among classifiers"),
        ({"evaluator": "resnet20_x0_5", "evaluator_weights": "published"}, "evaluator_weights: no"),
    ],
)
def test_parameters_that_do_not_fit_are_refused(change, message):
    values = read_profile(ROOT / "params/cifar10.yaml")
    small = {"validation_images": 100, "calibration_per_class": 10, "sampling_per_class": 10}
    small |= {"evaluation_per_class": 10}
    with pytest.raises(StudyError, match=message):
        validate(values | (small if "data" in change else {}) | change)


def test_weights_come_name_by_name(tmp_path, monkeypatch):
    weights = {"resnet20": "published", "resnet20_x0_5": str(tmp_path / "mine.safetensors")}
    values = read_profile(ROOT / "params/cifar10.yaml") | {"classifiers_weights": weights}
    names = ["resnet20", "resnet20_x0_5", "vgg11_bn"]
    values |= {"classifiers": names, "quantization_unfused": []}
    p = validate(values)
    network = NormalizedClassifier(build_classifier("resnet20_x0_5"))
    record = {"name": "resnet20_x0_5", "num_classes": 10, "mean": [0.5] * 3, "std": [0.5] * 3}
    file = tmp_path / "mine.safetensors"
    save_tensors(file, network.model, record | {"class_names": CLASSES})
    sources = [weights_source(p.classifiers_weights, name) for name in names]
    given = {"options": ClassifierOptions(learning_rates={"vgg11_bn": 0.25}), "seed": 1}
    pairs = zip(names, sources, strict=True)
    makers = [classifier_maker(*pair, **given) for pair in pairs]
    assert makers[2]["options"]["options"] == ClassifierOptions(learning_rate=0.25)
    assert [maker["build"] for maker in makers] == [
        adopt_published,
        adopt_trained,
        train_classifier,
    ]
    options = makers[1]["options"] | makers[1]["run_options"]
    adopt_trained(tmp_path / "out", real=real(tmp_path), **options)
    found = load_classifier(tmp_path / "out").model.state_dict()
    assert all(torch.equal(found[key], value) for key, value in network.model.state_dict().items())
    for name, classes in (("resnet20", CLASSES), ("resnet20_x0_5", ["cat", "dog"])):
        with pytest.raises(StudyError, match="mine.safetensors holds resnet20_x0_5 of the classes"):
            find_weights(str(file), name, classes)
    with pytest.raises(StudyError, match="gone.safetensors"):
        find_weights(str(tmp_path / "gone.safetensors"), "resnet20", CLASSES)
