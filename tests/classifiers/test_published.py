"""Published weights: fetched from a local server, verified, adopted; clear errors without it."""

import hashlib
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest
import torch

from lib.classifiers import published as published_weights
from lib.classifiers.build import CIFAR10_MEAN, CIFAR10_STD, build_classifier
from lib.classifiers.names import FAMILIES
from lib.classifiers.published import (
    CIFAR10_CLASSES,
    SHA256_STARTS,
    adopt_published,
    classifier_maker,
    published_file,
)
from lib.classifiers.training import load_classifier, train_classifier
from lib.common import download
from lib.common.errors import StudyError
from lib.common.files import ROOT
from lib.data.samples import SampleSet
from lib.study.params import read_profile, validate
from lib.study.preflight import check_networks


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass


@pytest.fixture
def releases(tmp_path, monkeypatch):
    """Serve the folder `releases`; the cache is empty."""
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    folder = tmp_path / "releases"
    folder.mkdir()
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder)))
    monkeypatch.setattr(published_weights, "RELEASES", f"http://127.0.0.1:{server.server_port}")
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield folder
    server.shutdown()
    thread.join()
    server.server_close()


def publish(folder, monkeypatch, content=None, name="resnet20"):
    """Put weights where the release of ResNets has them; return the network."""
    torch.manual_seed(0)
    network = build_classifier(name)
    file = folder / "weights.pt"
    torch.save(network.state_dict() if content is None else content, file)
    start = hashlib.sha256(file.read_bytes()).hexdigest()[:8]
    monkeypatch.setitem(published_weights.SHA256_STARTS, name, start)
    (folder / "resnet").mkdir(exist_ok=True)
    file.rename(folder / "resnet" / f"cifar10_{name}-{start}.pt")
    return network


def real(folder, class_names=CIFAR10_CLASSES):
    images = np.zeros((len(class_names), 3, 32, 32), np.uint8)
    labels = np.arange(len(class_names))
    SampleSet(images, labels, info={"class_names": class_names}).save(folder / "real")
    return folder / "real"


def test_weights_are_fetched_once_and_adopted_with_their_normalisation(
    releases, tmp_path, monkeypatch
):
    network = publish(releases, monkeypatch)
    adopt_published(tmp_path / "out", real=real(tmp_path), name="resnet20")
    classifier = load_classifier(tmp_path / "out")
    for key, value in network.state_dict().items():
        assert torch.equal(classifier.model.state_dict()[key], value), key
    assert classifier.mean.flatten().tolist() == pytest.approx(CIFAR10_MEAN)
    assert classifier.std.flatten().tolist() == pytest.approx(CIFAR10_STD)
    for path in (releases / "resnet").iterdir():
        path.unlink()
    assert published_file("resnet20").is_file()  # from the cache


def test_another_file_is_refused_by_its_hash(releases, monkeypatch):
    publish(releases, monkeypatch)
    path = next((releases / "resnet").iterdir())
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    with pytest.raises(StudyError, match="gives SHA-256 .* expected [0-9a-f]{8}: nothing is kept"):
        published_file("resnet20")
    assert not list(download.cache_folder().glob("*.pt"))


def test_nothing_in_a_file_is_executed(releases, tmp_path, monkeypatch):
    class Trap:
        def __reduce__(self):
            return exec, (f"open({str(tmp_path / 'trapped')!r}, 'w')",)

    publish(releases, monkeypatch, content={"fc.weight": Trap()})
    with pytest.raises(StudyError, match="is no plain state dict"):
        adopt_published(tmp_path / "out", real=real(tmp_path), name="resnet20")
    assert not (tmp_path / "trapped").exists()


def test_offline_the_error_says_where_the_file_belongs(releases, tmp_path):
    where = tmp_path / "cache/synthetic-calibration-study/cifar10_resnet20-4118986f.pt"
    with pytest.raises(StudyError, match=f"download it elsewhere and put the file at {where}"):
        published_file("resnet20")


def test_preflight_fetches_before_anything_runs(releases):
    values = read_profile(ROOT / "params/cifar10.yaml")
    with pytest.raises(StudyError, match="put the file at .*cifar10_resnet20-4118986f.pt"):
        check_networks(validate(values))


def test_other_classes_are_refused(tmp_path):
    for names in (CIFAR10_CLASSES[:9], CIFAR10_CLASSES[::-1]):
        with pytest.raises(StudyError, match="published are for CIFAR-10's classes"):
            adopt_published(tmp_path, real=real(tmp_path / str(names[0]), names), name="resnet20")


def test_every_published_size_has_a_file():
    assert sorted(SHA256_STARTS) == sorted(name for names in FAMILIES.values() for name in names)
    with pytest.raises(StudyError, match="no weights of resnet20_x0_5 are published, only of"):
        published_file("resnet20_x0_5")


@pytest.mark.parametrize(
    "change, message",
    [
        ({"classifiers": ["resnet20_x0_5"]}, "no weights of resnet20_x0_5 are published"),
        ({"data": "digits", "test_images": 600}, "published are for CIFAR-10, not digits"),
        ({"quantization_unfused": ["resnet20"]}, "resnet20 is no RepVGG among classifiers"),
        ({"quantization_unfused": ["repvgg_a0"]}, "repvgg_a0 is no RepVGG among classifiers"),
        ({"classifiers_weights": "mine"}, "classifiers_weights.*'train' or 'published'"),
    ],
)
def test_parameters_that_do_not_fit_are_refused(change, message):
    values = read_profile(ROOT / "params/cifar10.yaml")
    small = {"validation_images": 100, "calibration_per_class": 10, "sampling_per_class": 10}
    small |= {"evaluation_per_class": 10}
    with pytest.raises(StudyError, match=message):
        validate(values | (small if "data" in change else {}) | change)


def test_the_parameter_chooses_the_builder():
    assert classifier_maker("train", {"epochs": 1}) == (train_classifier, {"epochs": 1})
    assert classifier_maker("published", {"epochs": 1}) == (adopt_published, {})
