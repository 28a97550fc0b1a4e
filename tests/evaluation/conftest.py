"""Random features, images and an untrained evaluator, of two classes."""

import numpy as np
import pytest
import torch

from lib.classifiers.build import build_classifier
from lib.common.tensors import save_tensors
from lib.data.samples import SampleSet
from lib.evaluation.features import FeatureSet

OPTIONS = {"kid_subset_size": 20, "kid_subsets": 3, "neighbours": 3, "groups": 4}
OPTIONS |= {"confidence": 0.9, "seed": 1}


def draw(n, d=8, shift=0.0, seed=0):
    """Normal features `(n, d) float64`."""
    return np.random.default_rng(seed).normal(size=(n, d)) + shift


def samples(n=40, seed=0):
    images = np.random.default_rng(seed).integers(0, 256, (n, 3, 32, 32), dtype=np.uint8)
    return SampleSet(images, np.arange(n) % 2, info={"class_names": ["cat", "dog"]})


def feature_set(n, seed, extractor="a"):
    features = draw(n, 5, seed=seed).astype(np.float32)
    labels = np.arange(n) % 2
    info = {"extractor": extractor, "distance": "Fréchet distance (a)", "resizing": "none"}
    info |= {"class_names": ["cat", "dog"]}
    return FeatureSet(features, features[:, :2], labels, labels, info)


def save_sets(folder, sets):
    for name, part in sets.items():
        part.save(folder / name)
    return {name: folder / name for name in sets}


@pytest.fixture
def evaluator(tmp_path):
    torch.manual_seed(0)
    config = {"name": "resnet20_x0_5", "num_classes": 2, "mean": [0.5] * 3, "std": [0.5] * 3}
    network = build_classifier("resnet20_x0_5", 2)
    save_tensors(tmp_path / "evaluator/classifier.safetensors", network, config)
    return tmp_path / "evaluator"
