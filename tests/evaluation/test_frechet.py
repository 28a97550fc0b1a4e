import numpy as np
import pytest
import torch
from torch_fidelity.metric_fid import fid_features_to_statistics, fid_statistics_to_metric

from lib.evaluation import frechet
from lib.evaluation.frechet import Moments, frechet_distance, frechet_estimate, jackknife_interval


def draw(n, d, seed=0):
    return np.random.default_rng(seed).normal(size=(n, d))


def by_torch_fidelity(features, reference):
    statistics = [
        fid_features_to_statistics(torch.from_numpy(values)) for values in (features, reference)
    ]
    return fid_statistics_to_metric(*statistics, verbose=False)["frechet_inception_distance"]


@pytest.mark.parametrize("scale", [1e-4, 1.0, 1e5])
@pytest.mark.parametrize("n, m, d", [(500, 300, 16), (400, 400, 64), (40, 60, 96), (30, 500, 64)])
def test_distance_is_that_of_torch_fidelity(n, m, d, scale):
    mix = draw(d, d, seed=2)
    features, reference = scale * (draw(n, d) @ mix + 0.1), scale * draw(m, d, seed=1) @ mix.T
    expected = by_torch_fidelity(features, reference)
    assert frechet_distance(features, reference) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("n, d", [(500, 16), (12, 64), (2, 8), (300, 2)])
def test_a_set_has_no_distance_to_itself(n, d):
    features = 100 * draw(n, d) + 1000
    assert 0 <= frechet_distance(features, features) < 1e-6


def test_columns_of_very_different_scale():
    scales = 10.0 ** np.linspace(-5, 3, 32)
    features, reference = draw(300, 32) * scales, draw(200, 32, seed=1) * scales[::-1]
    expected = by_torch_fidelity(features, reference)
    assert frechet_distance(features, reference) == pytest.approx(expected, rel=1e-5)
    assert 0 <= frechet_distance(features, features) < 1e-6


def test_distance_of_shifted_normals_is_the_squared_shift():
    first = draw(20000, 2)
    assert frechet_distance(first, first + 3) == pytest.approx(18, rel=1e-9)


def test_moments_merge_to_those_of_the_union(monkeypatch):
    monkeypatch.setattr(frechet, "BLOCK", 13)
    features = draw(50, 6) + 5
    merged = Moments.merged([Moments.of(part) for part in (features[:3], features[3:])])
    assert merged.n == 50
    np.testing.assert_allclose(merged.mean, features.mean(axis=0))
    np.testing.assert_allclose(merged.factor.T @ merged.factor / 49, np.cov(features.T))


def test_extrapolation_takes_most_of_the_bias_away():
    """True distance of N(0, I) and N(0.1, 1.2² I) in 32 dimensions: 32 (0.1² + 0.2²) = 1.6."""
    estimates = [
        frechet_estimate(1.2 * draw(n, 32, seed) + 0.1, draw(n, 32, seed + 50), seed=seed)
        for n in (400, 1200)
        for seed in range(3)
    ]
    biased, better = (
        np.array([getattr(e, name) for e in estimates]).reshape(2, 3).mean(axis=1) - 1.6
        for name in ("fid", "fid_infinite")
    )
    assert biased[0] > 1.5 and biased[1] > 0.5
    assert np.abs(better).max() < 0.15
    inside = [e.fid_infinite_low < 1.6 < e.fid_infinite_high for e in estimates]
    assert sum(inside) >= 4


def test_too_few_images_to_extrapolate_leave_fid_alone():
    estimate = frechet_estimate(draw(40, 32), draw(60, 32, seed=1))
    assert np.isnan([estimate.fid_infinite, estimate.fid_infinite_high]).all()
    assert estimate.fid_low < estimate.fid < estimate.fid_high
    smallest = frechet_estimate(draw(2, 3), draw(2, 3, seed=1))
    assert smallest.fid > 0
    assert np.isnan(smallest.fid_high)


def test_jackknife_of_a_mean_is_its_t_interval():
    values = draw(20, 1)
    without = np.array([np.delete(values, i).mean(keepdims=True) for i in range(20)])
    low, high = jackknife_interval(values.mean(axis=0), without)
    reach = 2.093024 * values.std(ddof=1) / np.sqrt(20)  # t with 19 degrees of freedom
    assert (high - low)[0] / 2 == pytest.approx(reach, rel=1e-6)
