import numpy as np
import pytest
from scipy.spatial.distance import cdist

from lib.evaluation.neighbours import (
    by_class,
    copy_ratios,
    distinct_share,
    nearest_neighbours,
    nearest_spacing,
    pairwise_distance,
    precision_recall,
)
from tests.evaluation.conftest import draw


def test_precision_and_recall_by_hand():
    reference = np.array([[0.0], [1], [2], [10]])  # the nearest neighbours reach 1, 1, 1 and 8
    features = np.array([[0.5], [1.5], [30], [31]])  # 1, 1, 1, 1
    assert precision_recall(features, reference, neighbours=1) == (0.5, 0.75)


def test_nearest_neighbours_are_those_of_all_distances():
    features, reference = draw(150, shift=0.5), draw(130, seed=1)
    index, distance = nearest_neighbours(features, reference)
    distances = cdist(features, reference)
    np.testing.assert_array_equal(index, distances.argmin(axis=1))
    np.testing.assert_allclose(distance, distances.min(axis=1), rtol=1e-9)


def test_diversity_by_hand():
    points = np.array([[0.0, 0], [3, 4], [0, 0.1]])
    expected = (5 + 0.1 + np.hypot(3, 3.9)) / 3
    assert pairwise_distance(points) == pytest.approx(expected)
    assert nearest_spacing(points) == pytest.approx(0.1)
    shares = [distinct_share(points, radius) for radius in (0.2, 0.05)]
    assert shares == pytest.approx([2 / 3, 1])
    found = by_class(distinct_share, points, np.array([0, 1, 0]), 2, [0.2, 0.2])
    np.testing.assert_array_equal(found, [0.5, np.nan])


def test_copy_ratio_is_relative_to_the_spacing_there():
    training = np.array([[0.0], [1], [100], [110]])
    ratios = copy_ratios(np.array([[0.25], [97.5], [0]]), training)
    np.testing.assert_allclose(ratios, [0.25, 0.25, 0], atol=1e-12)
    twins = np.array([[0.0], [0], [10], [30], [60]])
    assert np.isfinite(copy_ratios(np.array([[1.0]]), twins)).all()
