"""Fractal images: a known attractor, determinism, variety, classes."""

import numpy as np
import pytest

from lib.calibration.fractals import (
    CHUNK,
    MAX_MAPS,
    SIZE,
    _chaos_game,
    class_codes,
    fractal_images,
    random_maps,
)


def test_chaos_game_draws_the_sierpinski_triangle():
    corners = np.array([[0, 0], [1, 0], [0, 1]])
    maps = np.zeros((1, MAX_MAPS, 2, 3), np.float32)
    maps[0, :3, :, :2] = 0.5 * np.eye(2)
    maps[0, :3, :, 2] = 0.5 * corners
    points, colours = _chaos_game(np.random.default_rng(0), maps, np.array([3]), 96)
    x, y = points[0].T
    assert (x > -1e-3).all() and (y > -1e-3).all() and (x + y < 1 + 1e-3).all()
    inside_first_hole = (x < 0.49) & (y < 0.49) & (x + y > 0.51)
    assert not inside_first_hole.any()
    for corner in corners:
        assert (np.abs(points[0] - corner).max(axis=1) < 0.5).mean() > 0.25
    assert colours.min() >= 0 and colours.max() <= 1


def test_maps_are_contractive():
    maps = random_maps(np.random.default_rng(0), 500)
    norms = np.linalg.norm(maps[..., :2], ord=2, axis=(-2, -1))
    assert norms.max() < 1
    assert (np.linalg.det(maps[..., :2]) < 0).mean() > 0.3  # with reflections


def test_images_depend_on_the_seed_alone():
    images, labels = fractal_images(12, 3, seed=5)
    again, _ = fractal_images(12, 3, seed=5)
    other, _ = fractal_images(12, 3, seed=6)
    assert images.shape == (12, 3, SIZE, SIZE) and images.dtype == np.uint8
    assert labels.dtype == np.int64 and labels.tolist() == [0, 1, 2] * 4
    assert np.array_equal(images, again)
    assert (images != other).any(axis=(1, 2, 3)).all()


def test_a_longer_draw_begins_with_a_shorter_one():
    long, _ = fractal_images(CHUNK + 7, 2, seed=1)
    short, _ = fractal_images(CHUNK + 2, 2, seed=1)
    assert np.array_equal(long[: CHUNK + 2], short)


def test_images_are_varied_and_coloured():
    images, _ = fractal_images(200, 4, seed=0)
    flat = images.reshape(200, -1)
    assert len(np.unique(flat, axis=0)) == 200
    deviation = images.std(axis=(1, 2, 3))
    assert (deviation > 15).mean() > 0.95  # next to none is flat
    colour = np.abs(images[:, 0].astype(int) - images[:, 1]).mean(axis=(1, 2))
    assert (colour > 10).mean() > 0.9
    assert 90 < images.mean() < 165


def test_each_class_has_codes_of_its_own():
    first, counts = class_codes(0, seed=0)
    second, _ = class_codes(1, seed=0)
    assert not np.isin(first, second).any()
    assert counts.min() >= 2 and counts.max() <= MAX_MAPS


@pytest.mark.parametrize("side", [48, 224])
def test_fractals_of_any_size_begin_alike_whatever_their_number(side):
    few, labels = fractal_images(3, 2, 5, side)
    assert few.shape == (3, 3, side, side) and labels.tolist() == [0, 1, 0]
    more, _ = fractal_images(8, 2, 5, side)
    np.testing.assert_array_equal(few, more[:3])
    assert len({image.tobytes() for image in more}) == 8
