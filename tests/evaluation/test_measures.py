import numpy as np
import pytest
import torch
from torch_fidelity.metric_isc import isc_features_to_metric
from torch_fidelity.metric_kid import kid_features_to_metric
from torch_fidelity.metric_prc import prc_features_to_metric

from lib.common.errors import StudyError
from lib.evaluation import kid as kernel_distance_module
from lib.evaluation import neighbours
from lib.evaluation.frechet import frechet_distance
from lib.evaluation.inception_score import inception_score
from lib.evaluation.kid import kernel_distance, kernel_distance_interval
from lib.evaluation.measures import fidelity
from lib.evaluation.neighbours import nearest_neighbours, precision_recall

OPTIONS = {"kid_subset_size": 50, "kid_subsets": 4, "neighbours": 3, "seed": 1, "groups": 10}


def draw(n, d=8, shift=0.0, seed=0, dtype=torch.float32):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(n, d, generator=generator, dtype=dtype) + shift


def figures(features, reference, logits=None):
    logits = draw(len(features), 10) if logits is None else logits
    return fidelity(features, reference, logits, **OPTIONS)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("n, m, d", [(300, 240, 16), (90, 400, 128)])
def test_values_are_those_of_torch_fidelity(n, m, d, dtype):
    features, reference = draw(n, d, 0.2, dtype=dtype), draw(m, d, seed=1, dtype=dtype)
    logits = 3 * draw(n, 10, seed=2, dtype=dtype)
    mean, std = kernel_distance(features, reference, subset_size=80, subsets=7, seed=5)
    expected = kid_features_to_metric(
        features, reference, kid_subset_size=80, kid_subsets=7, rng_seed=5, verbose=False
    )
    assert mean == pytest.approx(expected["kernel_inception_distance_mean"], rel=1e-5)
    assert std == pytest.approx(expected["kernel_inception_distance_std"], rel=1e-5)
    expected = prc_features_to_metric(features, reference, prc_neighborhood=4, verbose=False)
    found = precision_recall(features, reference, neighbours=4)
    assert found == pytest.approx((expected["precision"], expected["recall"]), rel=1e-5)
    expected = isc_features_to_metric(logits, rng_seed=6)
    found = inception_score(logits, seed=6)
    assert found == pytest.approx(tuple(expected.values()), rel=1e-5)


def test_block_by_block_gives_the_same_precision_and_recall(monkeypatch):
    features, reference = draw(150, shift=0.5).double(), draw(130, seed=1).double()
    whole = precision_recall(features, reference)
    monkeypatch.setattr(neighbours, "BLOCK_ELEMENTS", 1000)
    monkeypatch.setattr(neighbours, "BLOCK_COLUMNS", 17)
    assert precision_recall(features, reference) == whole
    index, distance = nearest_neighbours(features, reference)
    expected = torch.cdist(features, reference).min(dim=1)
    np.testing.assert_array_equal(index, expected.indices)
    np.testing.assert_allclose(distance, expected.values, rtol=1e-9)


@pytest.mark.parametrize("bytes_for_moments", [0, 2**28])
def test_kid_interval_holds_the_direct_estimate_and_ignores_groups(monkeypatch, bytes_for_moments):
    monkeypatch.setattr(kernel_distance_module, "MOMENT_BYTES", bytes_for_moments)
    x, y = draw(60, 4, 0.5).double(), draw(47, 4, seed=1).double()
    kernels = [((a @ b.T) / 4 + 1) ** 3 for a, b in ((x, x), (y, y), (x, y))]
    own = [(k.sum() - k.trace()) / (len(k) * (len(k) - 1)) for k in kernels[:2]]
    expected = (own[0] + own[1] - 2 * kernels[2].mean()).item()
    for groups in (2, 7, 20):
        value, low, high = kernel_distance_interval(x, y, groups=groups)
        assert value == pytest.approx(expected, rel=1e-9)
        assert low < value < high


def test_a_set_has_no_distance_to_itself_and_full_precision():
    features = draw(200)
    result = figures(features, features)
    assert result["fid"] == pytest.approx(0, abs=1e-6)
    assert result["precision"] == result["recall"] == 1


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


def test_intervals_enclose_their_values():
    result = figures(draw(400, 4, 0.3), draw(400, 4, seed=1))
    for name in ("fid", "fid_infinite", "kid", "is", "precision", "recall"):
        value = result["is_mean"] if name == "is" else result[name]
        assert result[f"{name}_low"] <= value <= result[f"{name}_high"], name
    assert result["fid_infinite"] < result["fid"]


def test_without_logits_there_is_no_inception_score():
    assert not [key for key in fidelity(draw(60), draw(60), **OPTIONS) if key.startswith("is_")]


@pytest.mark.parametrize(
    "features, reference, message",
    [
        (draw(60).fill_(float("nan")), draw(60), "features hold NaN or infinity, first in row 0"),
        (draw(60), draw(60, d=9), "features have 8 columns, reference features 9"),
        (draw(60)[0], draw(60), r"features have shape \(8,\)"),
        (draw(1), draw(60), "features are of 1 images: 2 are needed"),
    ],
)
def test_unfit_matrices_are_named(features, reference, message):
    for measure in (frechet_distance, precision_recall, figures):
        with pytest.raises(StudyError, match=message):
            measure(features, reference)


def test_logits_must_be_those_of_the_images():
    with pytest.raises(StudyError, match="59 rows of logits for 60 of features"):
        figures(draw(60), draw(60), draw(59, 10))
    with pytest.raises(StudyError, match="KID subsets of 61 images: choose 2 to 60"):
        kernel_distance(draw(60), draw(60), subset_size=61, seed=0)


def test_nearest_neighbours_finds_the_copy():
    reference = draw(20)
    index, distance = nearest_neighbours(reference[[7, 3]] + 1e-3, reference)
    np.testing.assert_array_equal(index, [7, 3])
    assert distance.max() < 0.01
