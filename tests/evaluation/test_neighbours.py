import numpy as np
import pytest
from scipy.spatial.distance import cdist

from lib.evaluation.neighbours import (
    by_class,
    copy_ratios,
    distinct_share,
    grid_cells,
    nearest_neighbours,
    nearest_spacing,
    pairwise_distance,
    precision_recall,
    tsne_map,
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


@pytest.mark.parametrize("n", [1, 2, 3, 4, 5, 17, 30])
def test_any_number_of_samples_gets_cells_of_its_own(n):
    features = np.random.default_rng(0).normal(size=(n, 6))
    positions = tsne_map(features, seed=1)
    assert positions.shape == (n, 2)
    assert positions.min() >= 0 and positions.max() <= 1
    cells, (rows, columns) = grid_cells(positions, aspect=1.4)
    assert len({tuple(cell) for cell in cells}) == n <= rows * columns
    assert (cells >= 0).all() and (cells < [rows, columns]).all()
    np.testing.assert_array_equal(tsne_map(features, seed=1), positions)


def test_images_that_lie_on_a_grid_keep_their_places():
    row, column = np.divmod(np.random.default_rng(0).permutation(12), 4)
    positions = np.column_stack([(column + 0.5) / 4, (row + 0.5) / 3])
    cells, shape = grid_cells(positions, aspect=4 / 3)
    assert shape == (3, 4)
    np.testing.assert_array_equal(cells, np.column_stack([row, column]))


def test_identical_features_still_make_a_map():
    assert np.isfinite(tsne_map(np.ones((10, 3)))).all()
