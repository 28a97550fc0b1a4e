"""Maps of images by their features."""

import numpy as np
import pytest

from lib.evaluation.maps import grid_cells, tsne_map


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
