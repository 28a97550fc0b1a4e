"""Images to calibrate with and to check by, at a network's own size, without its data."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from lib.calibration.fractals import fractal_images
from lib.calibration.makers import MID_GREY
from lib.calibration.photographs import photograph_crops
from lib.common.errors import StudyError
from lib.common.seeds import derive_seed, numpy_generator
from lib.data.images import is_image, read_image
from lib.data.layouts import load_one_file
from lib.data.samples import RECORD, SampleSet
from lib.data.trees import is_litter

FAMILIES = 10  # of fractals
Size = tuple[int, int]


def _photographs(n: int, seed: int, side: int) -> np.ndarray:
    return photograph_crops(n, seed, side)


def _fractals(n: int, seed: int, side: int) -> np.ndarray:
    return fractal_images(n, FAMILIES, seed, side)[0]


def _mixed(n: int, seed: int, side: int) -> np.ndarray:
    images = _photographs(n, seed, side)
    images[1::2] = _fractals(n // 2, seed, side)
    return images


def _noise(n: int, seed: int, side: int) -> np.ndarray:
    return numpy_generator(seed, "noise").integers(0, 256, (n, 3, side, side), dtype=np.uint8)


def _grey(n: int, seed: int, side: int) -> np.ndarray:
    return np.full((n, 3, side, side), MID_GREY, np.uint8)


KINDS: dict[str, Callable[[int, int, int], np.ndarray]] = {
    "photographs": _photographs,
    "fractals": _fractals,
    "mixed": _mixed,
    "noise": _noise,
    "grey": _grey,
}
"""Images `(n, 3, side, side) uint8` of n, a seed and a side, by their names in `--calibrate`."""
ALIASES = {"photos": "photographs", "fractal": "fractals", "gray": "grey"}
NATURAL = ("photographs", "fractals")
"""What a network is checked by where nobody gives images of its own."""


def find_kind(name: str) -> str | Path:
    """Return a kind of `KINDS`, or the folder that is meant."""
    if (kind := ALIASES.get(name, name)) in KINDS:
        return kind
    if name == "zeroq":
        raise StudyError(
            "zeroq wants batch normalisations, which exporters fold into the layers before them: "
            "use photographs, or images of your own"
        )
    if Path(name).is_dir() or (name.endswith(".safetensors") and Path(name).is_file()):
        return Path(name)
    raise StudyError(f"{name} is no folder, no set's file and none of {', '.join(KINDS)}")


def make_images(kind: str, n: int, size: Size, seed: int) -> np.ndarray:
    """Return `n` images `(n, 3, height, width) uint8` of a kind; others by another seed."""
    side = max(size)
    images = KINDS[kind](n, derive_seed(seed, "quantize", kind), side)
    top, left = ((side - length) // 2 for length in size)
    return images[:, :, top : top + size[0], left : left + size[1]]


def _sample_set(path: Path) -> SampleSet | None:
    if path.is_file():
        return load_one_file(path)
    return SampleSet.load(path) if (path / RECORD).is_file() else None


class Folder:
    """A folder of images, of any sizes and at any depth, or a SampleSet, in a random order."""

    def __init__(self, folder: Path, seed: int) -> None:
        self.folder = folder
        self.samples = _sample_set(folder)
        found = (path for path in folder.rglob("*") if path.is_file() and is_image(path.name))
        kept = (path for path in found if not is_litter(path.relative_to(folder).parts))
        self.files = sorted(kept) if self.samples is None else []
        count = len(self.files) if self.samples is None else len(self.samples)
        if not count:
            raise StudyError(f"{folder} has no images: PNG, JPEG, WebP, BMP, TIFF or GIF")
        self.order = numpy_generator(seed, "folder").permutation(count)

    def __len__(self) -> int:
        return len(self.order)

    def read(self, first: int, last: int, size: Size) -> np.ndarray:
        """Return the images from `first` to `last` of the order, resized to fill, middle kept."""
        chosen = self.order[first:last]
        if self.samples is None:
            return np.stack([read_image(self.files[i], fill=size) for i in chosen])
        found = []
        for image in self.samples.images[chosen]:
            picture = Image.fromarray(image.transpose(1, 2, 0))
            fitted = ImageOps.fit(picture, size[::-1], Image.Resampling.LANCZOS)
            found.append(np.asarray(fitted).transpose(2, 0, 1))
        return np.stack(found)
