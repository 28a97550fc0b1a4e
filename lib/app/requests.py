"""What a person may ask of the image generator; anything else is refused before work starts."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from lib.app.generator import MAX_SEED, ImageGenerator, draw_latents
from lib.common.errors import StudyError
from lib.gan.latents import interpolate

MAX_PER_CLASS = 100
MAX_IMAGES = 1000
MAX_STEPS = 20


@dataclass(frozen=True)
class ImagesRequest:
    """`per_class` images of each class of `labels`, from a seed and a truncation in [0, 1]."""

    labels: tuple[int, ...]
    per_class: int
    seed: int
    truncation: float = 1.0

    def inputs(self, generator: ImageGenerator) -> tuple[np.ndarray, np.ndarray]:
        """Return latents `(n, z_dim)` and labels `(n,)`, class by class.

        Raises:
            StudyError: a value is out of range; the message names it.
        """
        if not self.labels:
            raise StudyError("Classes: choose at least one")
        for label in self.labels:
            check_label(label, generator)
        check_whole("Images a class", self.per_class, 1, MAX_PER_CLASS)
        if len(self.labels) * self.per_class > MAX_IMAGES:
            raise StudyError(
                f"Images: {MAX_IMAGES:,} at most at once; choose fewer classes or images"
            )
        check_whole("Seed", self.seed, 0, MAX_SEED)
        check_truncation(self.truncation)
        size, psi = (self.per_class, generator.z_dim), self.truncation
        latents = [draw_latents(self.seed, label, *size, psi) for label in self.labels]
        return np.concatenate(latents), np.repeat(self.labels, self.per_class)


@dataclass(frozen=True)
class PathRequest:
    """`steps` images on the way from one class and latent to another."""

    labels: tuple[int, int]
    seeds: tuple[int, int]
    steps: int
    truncation: float = 1.0

    def inputs(self, generator: ImageGenerator) -> tuple[np.ndarray, np.ndarray]:
        """Return latents `(steps, z_dim)` and class weights `(steps, classes)`.

        Latents go along the great circle between them, class weights along the straight line; the
        two latents are drawn as for images of the first class. Raises `StudyError` as above.
        """
        for name, label, seed in zip(("First", "Last"), self.labels, self.seeds, strict=True):
            check_label(label, generator)
            check_whole(f"{name} seed", seed, 0, MAX_SEED)
        check_whole("Steps", self.steps, 2, MAX_STEPS)
        check_truncation(self.truncation)
        ends = [
            draw_latents(seed, self.labels[0], 1, generator.z_dim, self.truncation)[0]
            for seed in self.seeds
        ]
        along = np.linspace(0, 1, self.steps, dtype=np.float32)[:, None]
        first, last = np.eye(len(generator.class_names), dtype=np.float32)[list(self.labels)]
        return interpolate(*ends, self.steps), (1 - along) * first + along * last


def check_whole(name: str, value: Any, low: int, high: int) -> None:
    """Raise `StudyError` unless `value` is a whole number in [low, high]."""
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise StudyError(f"{name}: a whole number from {low} to {high:,}, not {_short(value)}")


def check_label(label: Any, generator: ImageGenerator) -> None:
    """Raise `StudyError` unless `label` is the index of a class."""
    check_whole("Class", label, 0, len(generator.class_names) - 1)


def check_truncation(value: Any) -> None:
    """Raise `StudyError` unless `value` is a number in [0, 1]."""
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if not number or not 0 <= value <= 1:
        raise StudyError(f"Truncation: a number from 0 to 1, not {_short(value)}")


def _short(value: Any) -> str:
    return str(value)[:30]
