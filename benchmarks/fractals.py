"""Fractals: images a second, all of a chunk at once beside a plain loop over images and points.

Both play the chaos game with as many points an image, and colour and lay them out alike; the plain
loop takes one point after the other, as one would write it first. They take turns within one run;
medians are printed.
"""

import argparse
import math
import random
import time
from collections.abc import Callable

import numpy as np
import pandas as pd

from lib.calibration.fractals import (
    BURN_IN,
    CHUNK,
    SIZE,
    STEPS,
    WALKERS,
    class_codes,
    fractal_images,
)
from lib.common.files import ROOT, write_text
from lib.common.machine import describe_environment

CLASSES = 10
PLAIN, STUDY = "plain loop over images and points", "this study, vectorised"


def plain_images(n: int, seed: int) -> np.ndarray:
    """Draw `n` images `(n, 3, 32, 32) uint8`, point by point."""
    rng = random.Random(seed)
    codes = [class_codes(label, seed) for label in range(CLASSES)]
    return np.stack([_plain_image(rng, *codes[i % CLASSES]) for i in range(n)])


def _plain_image(rng: random.Random, maps: np.ndarray, counts: np.ndarray) -> np.ndarray:
    code = rng.randrange(len(maps))
    chosen = (maps[code, : counts[code]] * rng.uniform(0.9, 1.05)).tolist()
    palette = [[rng.random() for _ in range(3)] for _ in chosen]
    weights = [abs(m[0][0] * m[1][1] - m[0][1] * m[1][0]) + 0.02 for m in chosen]
    points, colours = [], []
    x, y, colour = rng.uniform(-1, 1), rng.uniform(-1, 1), [0.5] * 3
    for step in range(WALKERS * (STEPS - BURN_IN) + BURN_IN):
        (k,) = rng.choices(range(len(chosen)), weights)
        (a, b, e), (c, d, f) = chosen[k]
        x, y = a * x + b * y + e, c * x + d * y + f
        colour = [0.5 * (old + new) for old, new in zip(colour, palette[k], strict=True)]
        if step >= BURN_IN:
            points.append((x, y))
            colours.append(colour)
    return _render(rng, points, colours)


def _render(rng: random.Random, points: list, colours: list) -> np.ndarray:
    means = [sum(p[axis] for p in points) / len(points) for axis in (0, 1)]
    spread = max(
        math.sqrt(sum((p[axis] - means[axis]) ** 2 for p in points) / len(points))
        for axis in (0, 1)
    )
    density = np.zeros((SIZE, SIZE))
    total = np.zeros((3, SIZE, SIZE))
    for point, colour in zip(points, colours, strict=True):
        scaled = [(v - m) / (1.9 * spread + 1e-6) for v, m in zip(point, means, strict=True)]
        column, row = (math.floor((v + 1) * SIZE / 2) for v in scaled)
        if 0 <= column < SIZE and 0 <= row < SIZE:
            density[row, column] += 1
            total[:, row, column] += colour
    image = total / np.maximum(density, 1)
    alpha = np.minimum(1, np.log1p(density) / np.log1p(6.0))
    background = np.array([rng.random() for _ in range(3)])[:, None, None]
    return np.round(255 * (background * (1 - alpha) + image * alpha)).astype(np.uint8)


def measure(work: dict[str, tuple[Callable, int]], turns: int) -> pd.DataFrame:
    """Time `{name: (function of the turn, images it makes)}` in turns; return medians."""
    rates: dict[str, list[float]] = {name: [] for name in work}
    for turn in range(turns + 1):
        for name, (draw, n) in work.items():
            started = time.perf_counter()
            draw(turn)
            if turn:  # the first turn warms up
                rates[name].append(n / (time.perf_counter() - started))
    base = np.array(rates[PLAIN])
    rows = [
        {
            "implementation": name,
            "images_per_s": np.median(values),
            "times_plain": np.median(np.array(values) / base),
        }
        for name, values in rates.items()
    ]
    return pd.DataFrame(rows)


def main(arguments: list[str] | None = None) -> None:
    """Print the table and write outputs/bench/fractals.csv."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.fractals", description=__doc__)
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--chunks", type=int, default=4, help=f"of {CHUNK} images, a turn")
    parser.add_argument("--plain", type=int, default=20, help="images of the plain loop, a turn")
    options = parser.parse_args([] if arguments is None else arguments)
    n = options.chunks * CHUNK
    table = measure(
        {
            PLAIN: (lambda turn: plain_images(options.plain, turn), options.plain),
            STUDY: (lambda turn: fractal_images(n, CLASSES, turn), n),
        },
        options.turns,
    )
    print(table.to_string(index=False, float_format="{:.4g}".format))
    about = describe_environment()
    facts = {"cpu": about["cpu"], "numpy": about["versions"]["numpy"], "turns": options.turns}
    print(", ".join(f"{name} {value}" for name, value in facts.items()))
    write_text(ROOT / "outputs/bench/fractals.csv", table.assign(**facts).to_csv(index=False))


if __name__ == "__main__":
    import sys

    main(sys.argv[1:])
