"""Coloured fractals from random iterated function systems, after Kataoka et al. 2020.

Kataoka et al., "Pre-training without Natural Images" (arXiv 2101.08515), define a class by the
affine maps of an iterated function system (IFS) and vary their parameters from image to image.
The maps are drawn by singular values, as Anderson & Farrell 2022 (arXiv 2110.03091) propose, which
makes every map contractive by construction; colours follow the maps that a point went through, as
in Draves' fractal flames.
"""

import os
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from lib.common.seeds import numpy_generator

SIZE = 32
MAX_MAPS = 5
CODES_PER_CLASS = 8
CANDIDATES = 64  # IFS drawn for a class, of which the CODES_PER_CLASS best are kept
COVERAGE = 0.35  # wanted share of the pixels touched by the fractal
CHUNK = 250  # images of 32×32 drawn from one generator, fewer of larger ones
MAX_THREADS = 4  # chunks drawn side by side, each in some 100 MB of memory
WALKERS, STEPS, BURN_IN = 96, 48, 12  # chaos game: 96 * 36 = 3456 points an image of 32×32
DENSITY = 0.2  # of that density of points is left in larger images


def fractal_images(
    n: int, num_classes: int, seed: int, side: int = SIZE
) -> tuple[np.ndarray, np.ndarray]:
    """Draw `n` coloured fractal images, image `i` of class `i % num_classes`.

    Returns images `(n, 3, side, side) uint8` and labels `(n,) int64`. A longer draw with the same
    seed begins with the images of a shorter one.
    """
    codes = [class_codes(label, seed) for label in range(num_classes)]
    affine = np.stack([maps for maps, _ in codes])
    counts = np.stack([count for _, count in codes])
    labels = np.arange(n, dtype=np.int64) % num_classes
    images = np.empty((n, 3, side, side), np.uint8)
    area = (side / SIZE) ** 2
    chunk, walkers = max(1, round(CHUNK / area)), round(WALKERS * max(1, DENSITY * area))

    def draw(number: int) -> None:
        # every chunk is drawn whole, so that its images do not depend on where the set ends
        start = number * chunk
        rng = numpy_generator(seed, "fractal images", number)
        chosen = np.arange(start, start + chunk) % num_classes
        drawn = _draw_chunk(rng, affine, counts, chosen, side, walkers)
        images[start : start + chunk] = drawn[: n - start]

    with ThreadPoolExecutor(min(MAX_THREADS, os.cpu_count() or 1)) as pool:
        list(pool.map(draw, range(-(-n // chunk))))  # numpy computes outside Python's lock
    return images, labels


def class_codes(label: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the IFS codes of a class: of many random ones those of the best coverage.

    Returns maps `(codes, MAX_MAPS, 2, 3) float32`, each `[A | b]`, and how many of them each code
    uses, `(codes,) int64` between 2 and MAX_MAPS.
    """
    rng = numpy_generator(seed, "fractal codes", label)
    counts = rng.integers(2, MAX_MAPS + 1, CANDIDATES)
    maps = random_maps(rng, CANDIDATES)
    points, _ = _chaos_game(rng, maps, counts, WALKERS)
    ones = np.ones((*points.shape[:2], 1), np.float32)
    density = _accumulate(_to_pixels(points, SIZE), ones, SIZE)
    coverage = (density[:, 0] > 0).mean(axis=(1, 2))
    best = np.argsort(np.abs(coverage - COVERAGE), kind="stable")[:CODES_PER_CLASS]
    return maps[best], counts[best]


def random_maps(rng: np.random.Generator, n: int) -> np.ndarray:
    """Draw `(n, MAX_MAPS, 2, 3) float32` affine maps `[A | b]` with singular values below 1."""
    shape = (n, MAX_MAPS)
    left, right = (_rotation(rng.uniform(0, 2 * np.pi, shape)) for _ in range(2))
    first = rng.uniform(0.35, 0.9, shape)
    second = first * rng.uniform(0.2, 1.0, shape)
    sign = rng.choice([-1.0, 1.0], shape)
    scale = np.stack([first, second * sign], axis=-1)[..., None, :]
    shift = rng.uniform(-1, 1, (*shape, 2, 1))
    return np.concatenate([(left * scale) @ right, shift], axis=-1).astype(np.float32)


def _draw_chunk(rng, affine, counts, labels, side, walkers) -> np.ndarray:
    """Render one image for each label: vary its code, play the chaos game, colour the points."""
    n = len(labels)
    code = rng.integers(0, affine.shape[1], n)
    maps = affine[labels, code] * rng.uniform(0.85, 1.1, (n, MAX_MAPS, 2, 3)).astype(np.float32)
    norm = np.linalg.norm(maps[..., :2], ord=2, axis=(-2, -1), keepdims=True)
    maps[..., :2] *= np.minimum(1, 0.92 / np.maximum(norm, 1e-6))  # contractive once more
    points, colours = _chaos_game(rng, maps, counts[labels, code], walkers)
    turn = _rotation(rng.uniform(0, 2 * np.pi, n)).astype(np.float32)
    zoom = rng.uniform(0.8, 1.4, (n, 1, 1)).astype(np.float32)
    weights = np.concatenate([np.ones_like(colours[..., :1]), colours], axis=-1)
    histogram = _accumulate(_to_pixels(points @ turn, side, zoom), weights, side)
    return _composite(rng, histogram[:, :1], histogram[:, 1:])


def _chaos_game(rng, maps, counts, walkers) -> tuple[np.ndarray, np.ndarray]:
    """Follow random walks through each IFS, so many `walkers`.

    Maps `(n, MAX_MAPS, 2, 3)`; returns points `(n, p, 2)` and their colours `(n, p, 3)` in
    [0, 1], with p = walkers * (STEPS - BURN_IN).
    """
    n = len(maps)
    palette = rng.uniform(0, 1, (n, MAX_MAPS, 3)).astype(np.float32)
    table = np.concatenate([maps.reshape(n, MAX_MAPS, 6), palette], axis=-1).reshape(-1, 9)
    weight = np.abs(np.linalg.det(maps[..., :2].astype(np.float64))) + 0.02  # of each map
    cumulative = np.cumsum(weight * (np.arange(MAX_MAPS) < counts[:, None]), axis=1)
    cumulative = cumulative / cumulative[:, -1:] + np.arange(n)[:, None]
    point = rng.uniform(-1, 1, (n, walkers, 2)).astype(np.float32)
    colour = np.full((n, walkers, 3), 0.5, np.float32)
    points = np.empty((STEPS, n, walkers, 2), np.float32)
    colours = np.empty((STEPS, n, walkers, 3), np.float32)
    for step in range(STEPS):
        choice = np.arange(n)[:, None] + rng.random((n, walkers))
        row = table[np.searchsorted(cumulative.ravel(), choice, side="right")]
        x, y = point[..., 0], point[..., 1]
        points[step, ..., 0] = row[..., 0] * x + row[..., 1] * y + row[..., 2]
        points[step, ..., 1] = row[..., 3] * x + row[..., 4] * y + row[..., 5]
        point = points[step]
        colour = colours[step] = 0.5 * (colour + row[..., 6:])
    kept = (points[BURN_IN:], colours[BURN_IN:])
    return tuple(a.transpose(1, 0, 2, 3).reshape(n, -1, a.shape[-1]) for a in kept)


def _to_pixels(points: np.ndarray, side: int, zoom: np.ndarray | float = 1.0) -> np.ndarray:
    """Centre each point cloud and scale it to the image; `(n, p)` flat pixel, -1 outside."""
    centred = points - points.mean(axis=1, keepdims=True)
    spread = 1.9 * centred.std(axis=1, keepdims=True).max(axis=2, keepdims=True) + 1e-6
    grid = np.floor((centred * zoom / spread + 1) * (side / 2)).astype(np.int64)
    inside = ((grid >= 0) & (grid < side)).all(axis=-1)
    return np.where(inside, grid[..., 1] * side + grid[..., 0], -1)


def _accumulate(pixels: np.ndarray, weights: np.ndarray, side: int) -> np.ndarray:
    """Sum point weights `(n, p, c)` by pixel `(n, p)`: `(n, c, side, side) float64`."""
    n, area = len(pixels), side * side
    inside = pixels >= 0
    index = (pixels + np.arange(n)[:, None] * area)[inside]
    sums = [
        np.bincount(index, weights[..., c][inside], minlength=n * area)
        for c in range(weights.shape[-1])
    ]
    return np.stack(sums).reshape(-1, n, side, side).transpose(1, 0, 2, 3)


def _composite(rng, density: np.ndarray, colour_sum: np.ndarray) -> np.ndarray:
    """Lay the fractal over a linear gradient of two colours, its opacity the log of the density."""
    n = len(density)
    colour = colour_sum / np.maximum(density, 1)
    mean = colour.mean(axis=1, keepdims=True)
    colour = np.clip(mean + (colour - mean) * 2.2, 0, 1)  # mixing had greyed the palette
    alpha = np.minimum(1, np.log1p(density) / np.log1p(6.0))
    first = rng.uniform(0, 1, (n, 3, 1, 1))
    second = np.clip(first + rng.normal(0, 0.25, (n, 3, 1, 1)), 0, 1)
    angle = rng.uniform(0, 2 * np.pi, (n, 1, 1))
    axis = np.linspace(-0.5, 0.5, density.shape[-1])
    ramp = 0.5 + np.cos(angle) * axis + np.sin(angle) * axis[:, None]
    ramp = np.clip(ramp, 0, 1)[:, None]
    background = first * (1 - ramp) + second * ramp
    return np.round((background * (1 - alpha) + colour * alpha) * 255).astype(np.uint8)


def _rotation(angle: np.ndarray) -> np.ndarray:
    """Rotation matrices `(..., 2, 2)` of angles in radians."""
    cos, sin = np.cos(angle), np.sin(angle)
    return np.stack([np.stack([cos, -sin], -1), np.stack([sin, cos], -1)], -2)
