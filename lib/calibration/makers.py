"""How the images of a calibration set are drawn or made, one function a manner."""

from dataclasses import dataclass

import numpy as np
from torch import from_numpy
from torchvision.transforms.functional import gaussian_blur

from lib.calibration.fractals import fractal_images
from lib.calibration.photographs import photograph_crops
from lib.common.errors import StudyError
from lib.common.seeds import derive_seed, numpy_generator
from lib.data.samples import IMAGE_SHAPE, SampleSet

MID_GREY = 128
BLUR = 1.5  # pixels: the standard deviation of the blur
CONTRAST = 0.3  # of the contrast is left
LIGHT = 0.25  # of the light is left
Samples = tuple[np.ndarray, np.ndarray]


@dataclass(frozen=True)
class Request:
    """What a calibration set is made from; `source` is None for the kinds that take no images."""

    kind: str
    source: SampleSet | None
    num_classes: int
    per_class: int
    seed: int

    @property
    def total(self) -> int:
        """Number of images in a set of `per_class` images for each class."""
        return self.per_class * self.num_classes

    def labels(self) -> np.ndarray:
        """Return class-balanced labels `(total,) int64` for images that belong to no class."""
        return np.arange(self.total, dtype=np.int64) % self.num_classes

    def generator(self) -> np.random.Generator:
        """Return the generator of this set."""
        return numpy_generator(self.seed, "calibration", self.kind)


def draw_balanced(request: Request) -> Samples:
    """Draw `per_class` images of each class from the source, without replacement."""
    source, rng = request.source, request.generator()
    chosen = []
    for label, name in enumerate(source.class_names):
        where = np.flatnonzero(source.labels == label)
        if len(where) < request.per_class:
            raise StudyError(
                f"calibration set {request.kind}: its source has {len(where)} images of class "
                f"{name!r}, {request.per_class} are wanted: lower calibration_per_class or "
                "make more images"
            )
        chosen.append(rng.permutation(where)[: request.per_class])
    index = np.concatenate(chosen)
    return source.images[index], source.labels[index]


def draw_one_class(request: Request) -> Samples:
    """Draw images of the first class alone, as many as a balanced set has if there are so many."""
    source = request.source
    where = np.flatnonzero(source.labels == 0)
    if len(where) == 0:
        raise StudyError("calibration set one_class: its source has no image of the first class")
    index = request.generator().permutation(where)[: request.total]
    return source.images[index], source.labels[index]


def make_fractals(request: Request) -> Samples:
    """Make coloured IFS fractals, one family of them for each class."""
    seed = derive_seed(request.seed, "calibration", request.kind)
    return fractal_images(request.total, request.num_classes, seed)


def make_noise(request: Request) -> Samples:
    """Draw each pixel value uniformly from 0 … 255."""
    shape = (request.total, *IMAGE_SHAPE)
    return request.generator().integers(0, 256, shape, dtype=np.uint8), request.labels()


def make_gaussian(request: Request) -> Samples:
    """Draw pixels from a normal distribution with the source's mean and deviation by channel."""
    source, how = request.source.images, {"axis": (0, 2, 3), "dtype": np.float64, "keepdims": True}
    pixels = request.generator().standard_normal((request.total, *IMAGE_SHAPE), dtype=np.float32)
    images = pixels * source.std(**how) + source.mean(**how)
    return np.clip(np.round(images), 0, 255).astype(np.uint8), request.labels()


def make_grey(request: Request) -> Samples:
    """Repeat one mid-grey image: the least that a network can be calibrated with."""
    return np.full((request.total, *IMAGE_SHAPE), MID_GREY, np.uint8), request.labels()


def make_photographs(request: Request) -> Samples:
    """Cut squares at many scales out of free photographs, which show none of the classes."""
    seed = derive_seed(request.seed, "calibration", request.kind)
    return photograph_crops(request.total, seed), request.labels()


def mix_with_fractals(request: Request) -> Samples:
    """Draw from the source as `draw_balanced` does, and put fractals for every other image."""
    images, labels = draw_balanced(request)
    fractals, families = make_fractals(request)
    images[1::2] = fractals[np.argsort(families, kind="stable")][1::2]
    return images, labels


def mix_photographs_with_fractals(request: Request) -> Samples:
    """Cut squares out of photographs, and make fractals for every other image of each class."""
    images, labels = make_photographs(request)
    every_other = np.arange(request.total) // request.num_classes % 2 == 1
    images[every_other] = make_fractals(request)[0][every_other]
    return images, labels


def draw_blurred(request: Request) -> Samples:
    """Draw from the source and blur."""
    images, labels = draw_balanced(request)
    return gaussian_blur(from_numpy(images), 9, BLUR).numpy(), labels


def draw_flat(request: Request) -> Samples:
    """Draw from the source and bring all values nearer to the set's mean."""
    images, labels = draw_balanced(request)
    mean = images.mean(dtype=np.float64)
    return np.round(mean + CONTRAST * (images - mean)).astype(np.uint8), labels


def draw_dark(request: Request) -> Samples:
    """Draw from the source and dim."""
    images, labels = draw_balanced(request)
    return np.round(LIGHT * images).astype(np.uint8), labels
