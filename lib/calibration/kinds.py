"""Calibration sets: the images whose activations fix the ranges of the INT8 networks.

Each kind is one record in `KINDS`; a new set needs no more than a new entry there.
All sets are class-balanced as far as their kind allows and lie in an order in which every prefix
is, too: quantization reads a set from the start and stops at its subset size.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from lib.calibration.fractals import fractal_images
from lib.common.errors import StudyError
from lib.common.seeds import derive_seed, numpy_generator
from lib.data.samples import IMAGE_SHAPE, SampleSet

MID_GREY = 128
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


def make_calibration_set(
    out: Path,
    *,
    kind: str,
    per_class: int,
    seed: int,
    source: Path | None = None,
    class_names: list[str] | None = None,
) -> None:
    """Write a calibration set of `kind` as a SampleSet into `out`.

    `source` is the folder of the SampleSet that the kind `needs`, if it does; other kinds need
    only `class_names`. Raises `StudyError` for an unknown kind, a missing source, or
    one with too few images of a class.
    """
    if kind not in KINDS:
        raise StudyError(f"calibration set {kind!r} is unknown: choose one of {', '.join(KINDS)}")
    if KINDS[kind].per_network:
        raise StudyError(f"calibration set {kind} is made for each network: see make_zeroq_sets")
    samples, data = None, kind
    if KINDS[kind].needs:
        if source is None:
            raise StudyError(f"calibration set {kind} needs a source: the folder of its SampleSet")
        samples = SampleSet.load(source)
        class_names, data = samples.class_names, samples.info.get("data", kind)
    if not class_names:
        raise StudyError(f"calibration set {kind} needs class_names: give the data set's classes")
    request = Request(kind, samples, len(class_names), per_class, seed)
    images, labels = KINDS[kind].make(request)
    order = balanced_order(labels, derive_seed(seed, "calibration order", kind))
    info = {"data": data, "class_names": list(class_names), "kind": kind}
    info |= {"per_class": per_class, "seed": seed}
    SampleSet(images[order], labels[order], info=info).save(out)


def balanced_order(labels: np.ndarray, seed: int) -> np.ndarray:
    """Return a shuffled order in which the classes take turns.

    Of labels `(n,)` with equal class counts, every prefix of the order holds each class equally
    often, up to one image. Which image of a class comes when, and the order of the classes
    within each turn, depend on `seed`.
    """
    rng = numpy_generator(seed, "balanced order")
    shuffled = rng.permutation(len(labels))
    turn = np.empty(len(labels), np.int64)
    for label in np.unique(labels):
        where = np.flatnonzero(labels[shuffled] == label)
        turn[where] = np.arange(len(where))
    return shuffled[np.argsort(turn, kind="stable")]


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


@dataclass(frozen=True)
class Kind:
    """A kind of calibration set: how it is made and what is said of it.

    `make` draws the images; None: they are optimised for each network by itself
    (`lib.calibration.zeroq`). `needs` names the artifact whose images it reads. `origin` decides
    the licence: images of the data, of the study's generators, made from statistics of the data
    or of networks, or by code alone.
    """

    name: str
    colour: str
    description: str  # a sentence
    make: Callable[[Request], Samples] | None
    origin: Literal["data", "generator", "statistics", "code"]
    needs: str = ""
    labelled: bool = True  # the images show the classes of their labels
    control: bool = False  # there to do worse

    @property
    def per_network(self) -> bool:
        """Whether each network has a set of its own."""
        return self.make is None

    @property
    def inputs(self) -> dict[str, str]:
        """The artifacts that `make_calibration_set` reads, by its arguments."""
        return {"source": self.needs} if self.needs else {}


TEACHER = "Images of the teacher, StyleGAN2-ADA, from random latents."
STUDENT = "Images of the student, DiStyleGAN distilled from the teacher, from random latents."
FRACTAL = "Coloured fractals of random iterated function systems, one family a class."
ZEROQ = "Noise optimised to match a classifier's batch normalisation statistics (ZeroQ, 2020)."
GAUSSIAN = "Gaussian noise with the training images' mean and deviation by channel."
RANDOM = "Uniform random pixels."
ONE_CLASS = "Training images of the first class alone."
ALL = (
    Kind("real", "#1f77b4", "Training images.", draw_balanced, "data", "real/train"),
    Kind("teacher", "#ff7f0e", TEACHER, draw_balanced, "generator", "teacher_samples"),
    Kind("student", "#2ca02c", STUDENT, draw_balanced, "generator", "student_samples"),
    Kind("fractal", "#d62728", FRACTAL, make_fractals, "code"),
    Kind("zeroq", "#8c564b", ZEROQ, None, "statistics", labelled=False),
    Kind("noise", "#9467bd", RANDOM, make_noise, "code", labelled=False, control=True),
    Kind(
        "gaussian",
        "#7f7f7f",
        GAUSSIAN,
        make_gaussian,
        "statistics",
        "real/train",
        labelled=False,
        control=True,
    ),
    Kind("one_class", "#bcbd22", ONE_CLASS, draw_one_class, "data", "real/train", control=True),
    Kind("grey", "#e377c2", "One mid-grey image.", make_grey, "code", labelled=False, control=True),
)
KINDS: dict[str, Kind] = {kind.name: kind for kind in ALL}
"""The kinds of sets by name, in the order in which they are shown."""


def shared_kinds() -> list[Kind]:
    """Return the kinds of which one set serves all networks."""
    return [kind for kind in KINDS.values() if not kind.per_network]
