import numpy as np
import pytest

from lib.common.errors import StudyError
from lib.gan.latents import interpolate


def test_interpolation_keeps_the_length_and_meets_its_ends():
    start, end = np.array([3.0, 0, 0]), np.array([0, 4.0, 0])
    path = interpolate(start, end, 5)
    np.testing.assert_allclose(path[[0, -1]], [start, end], atol=1e-6)
    np.testing.assert_allclose(np.linalg.norm(path, axis=1), [3, 3.25, 3.5, 3.75, 4], rtol=1e-6)
    np.testing.assert_allclose(interpolate(start, -start, 3)[1], 0, atol=1e-6)
    with pytest.raises(StudyError, match="cannot interpolate"):
        interpolate(start, end[:2], 5)
