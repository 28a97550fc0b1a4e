"""Activations layer by layer: which layers, and distances by hand."""

import numpy as np
import pytest
import torch
from torch import nn

from lib.calibration.activations import VALUES, activation_distances, layer_activations
from lib.classifiers.build import NormalizedClassifier, build_classifier
from lib.common.errors import StudyError


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(0).integers(0, 256, (7, 3, 32, 32), dtype=np.uint8)


def test_layers_are_the_inputs_of_convolutions_and_linear_layers(images):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten())
    model.append(nn.Linear(16, 5))
    network = NormalizedClassifier(model, mean=[0.5] * 3, std=[0.5] * 3).eval()
    found = layer_activations(network, images)
    assert list(found) == ["model.0", "model.4"]
    assert found["model.0"].shape == (7, VALUES) and found["model.4"].shape == (7, 16)
    flat = ((images / 255 - 0.5) / 0.5).reshape(7, -1)
    for row, values in zip(found["model.0"], flat, strict=True):
        assert np.abs(row[:, None] - values).min(axis=1).max() < 1e-6
    with torch.no_grad():
        entered = model[:4]((torch.from_numpy(images).float() / 255 - 0.5) / 0.5)
    np.testing.assert_allclose(found["model.4"], entered, atol=1e-6)


def test_repvgg_is_looked_at_as_it_is_deployed(images):
    network = NormalizedClassifier(build_classifier("repvgg_a0_x0_25")).eval()
    names = list(layer_activations(network, images[:2]))
    assert len(names) == 23 and all("reparam" in name for name in names[:-1])
    assert network.model.stage0.rbr_reparam is None  # the network itself is left as it was


def test_batches_do_not_matter(images, monkeypatch):
    network = NormalizedClassifier(build_classifier("resnet20_x0_5")).eval()
    whole = layer_activations(network, images)
    monkeypatch.setattr("lib.calibration.activations.BATCH", 3)
    for name, values in layer_activations(network, images).items():
        np.testing.assert_allclose(values, whole[name], rtol=1e-4, atol=1e-5)


def test_distances_by_hand():
    rng = np.random.default_rng(0)
    normal = rng.standard_normal((1000, 100)).astype(np.float32)
    sets = {"same": {"a": normal}, "shifted": {"a": normal + 1}, "half": {"a": normal / 2}}
    sets["grey"] = {"a": np.zeros_like(normal)}
    table = activation_distances(sets, {"a": normal}).set_index("set")
    assert table["layer"].tolist() == [1] * 4 and table["name"].tolist() == ["a"] * 4
    assert table.loc["same", "range_ratio"] == 1 and table.loc["same", "distance"] == 0
    assert table.loc["same", "outside"] == pytest.approx(0.002, abs=1e-4)
    assert table.loc["shifted", "distance"] == pytest.approx(1, abs=0.01)
    assert table.loc["shifted", "mean_shift"] == pytest.approx(1, abs=0.01)
    assert table.loc["half", "range_ratio"] == pytest.approx(0.5)
    assert table.loc["half", "std_ratio"] == pytest.approx(0.5)
    assert table.loc["half", "outside"] == pytest.approx(0.122, abs=0.01)  # beyond ±1.545
    assert table.loc["grey", "range_ratio"] == 0 and table.loc["grey", "outside"] == 1


def test_a_layer_that_is_silent_has_no_scale():
    silent, heard = {"a": np.zeros((5, 4))}, {"a": np.ones((5, 4))}
    row = activation_distances({"set": heard}, silent).iloc[0]
    assert np.isnan(row[["range_ratio", "outside", "distance"]].astype(float)).all()


def test_no_images_are_named():
    network = NormalizedClassifier(build_classifier("resnet20_x0_5")).eval()
    with pytest.raises(StudyError, match="no images"):
        layer_activations(network, np.zeros((0, 3, 32, 32), np.uint8))
