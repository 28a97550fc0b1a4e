import numpy as np
import pytest
import torch

from lib.errors import StudyError
from lib.metrics import fidelity, first_per_class, frechet_distance, nearest_neighbours
from lib.sampleset import SampleSet

OPTIONS = {"kid_subset_size": 50, "kid_subsets": 4, "neighbours": 3, "seed": 1}


def draw(n, d=8, shift=0.0, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(n, d, generator=generator) + shift


def figures(features, reference, logits=None):
    logits = draw(len(features), 10) if logits is None else logits
    return fidelity(features, reference, logits, **OPTIONS)


def test_a_set_has_no_distance_to_itself_and_full_precision():
    features = draw(200)
    result = figures(features, features)
    assert result["fid"] == pytest.approx(0, abs=1e-6)
    assert result["precision"] == result["recall"] == 1


def test_frechet_distance_of_shifted_normals_is_the_squared_shift():
    first = draw(20000, d=2).numpy()
    assert frechet_distance(first, first + 3) == pytest.approx(18, rel=1e-6)


def test_rank_deficient_covariance_gives_finite_real_numbers():
    few, reference = draw(12, d=64), draw(200, d=64, seed=1)
    value = frechet_distance(few.numpy(), reference.numpy())
    assert np.isfinite(value)
    assert value > 0
    assert frechet_distance(few.numpy(), few.numpy()) == pytest.approx(0, abs=1e-4)


def test_distances_grow_with_the_shift_and_a_collapsed_set_has_no_recall():
    reference = draw(300, seed=1)
    near, far = figures(draw(300), reference), figures(draw(300, shift=2), reference)
    assert near["fid"] < far["fid"]
    assert near["kid_mean"] < far["kid_mean"]
    collapsed = figures(draw(300) * 0.01, reference)
    assert collapsed["recall"] < 0.1 < near["recall"]


def test_inception_score_is_one_for_equal_and_ten_for_sure_balanced_predictions():
    features = draw(500)
    same = figures(features, features, torch.zeros(500, 10))
    sure = figures(features, features, 50 * torch.eye(10).repeat(50, 1))
    assert same["is_mean"] == pytest.approx(1, abs=1e-6)
    assert 9 < sure["is_mean"] <= 10 + 1e-6


def test_same_seed_same_numbers():
    features, reference = draw(200), draw(200, seed=1)
    assert figures(features, reference) == figures(features, reference)


def test_too_few_images_are_refused():
    with pytest.raises(StudyError, match="3 images are too few for 3 neighbours"):
        figures(draw(3), draw(3))


def test_first_per_class_takes_the_first_of_each():
    labels = np.array([0, 1, 1, 0, 1, 0])
    images = np.arange(6, dtype=np.uint8)[:, None, None, None] * np.ones((1, 3, 32, 32), np.uint8)
    samples = SampleSet(images, labels, info={"class_names": ["a", "b"]})
    chosen = first_per_class(samples, 2)
    np.testing.assert_array_equal(chosen.images[:, 0, 0, 0], [0, 1, 2, 3])
    with pytest.raises(StudyError, match="class a has 3 samples, 4 wanted"):
        first_per_class(samples, 4)


def test_nearest_neighbours_finds_the_copy():
    reference = draw(20)
    index, distance = nearest_neighbours(reference[[7, 3]] + 1e-3, reference)
    np.testing.assert_array_equal(index, [7, 3])
    assert distance.max() < 0.01
