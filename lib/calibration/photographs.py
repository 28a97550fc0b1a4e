"""Crops of the free colour photographs that scikit-learn and scikit-image install.

They need no download and show nothing of the data: textures, edges and light as cameras give them.
"""

from functools import cache
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from PIL import Image

from lib.common.errors import StudyError
from lib.common.seeds import numpy_generator

FILES = {
    "sklearn": ["datasets/images/china.jpg", "datasets/images/flower.jpg"],
    "skimage": [
        f"data/{name}"
        for name in (
            "astronaut.png",
            "chelsea.png",
            "coffee.png",
            "hubble_deep_field.jpg",
            "motorcycle_left.png",
            "retina.jpg",
            "rocket.jpg",
        )
    ],
}
SMALLEST = 32  # pixels: the side of the smallest crop


def photograph_crops(n: int, seed: int, side: int = 32) -> np.ndarray:
    """Return crops `(n, 3, side, side) uint8` of all photographs in turn.

    A crop is a square from `SMALLEST` pixels to the whole height or width, its side drawn so that
    each scale is equally likely, mirrored at random and resized (Lanczos). A longer draw with the
    same seed begins with the images of a shorter one.
    """
    found, crops = photographs(), np.empty((n, 3, side, side), np.uint8)
    for index in range(n):
        rng, photograph = numpy_generator(seed, "photographs", index), found[index % len(found)]
        widest = min(photograph.size)
        size = round(SMALLEST * (widest / SMALLEST) ** rng.random())
        left, top = (int(rng.integers(0, length - size + 1)) for length in photograph.size)
        box = (left, top, left + size, top + size)
        crop = photograph.resize((side, side), Image.Resampling.LANCZOS, box, reducing_gap=3)
        pixels = np.asarray(crop).transpose(2, 0, 1)
        crops[index] = pixels[..., ::-1] if rng.random() < 0.5 else pixels
    return crops


@cache
def photographs() -> list[Image.Image]:
    """Return the photographs in RGB; `StudyError` names one that is not there."""
    found = []
    for package, names in FILES.items():
        folder = Path(find_spec(package).submodule_search_locations[0])  # without its import
        for name in names:
            try:
                found.append(Image.open(folder / name).convert("RGB"))
            except OSError as error:
                raise StudyError(
                    f"{folder / name} cannot be read ({error}): install {package} again"
                ) from error
    return found
