"""The student as a generator of images that starts fast: OpenVINO alone, without torch.

A folder that `lib.app.export` wrote holds `student-fp32.xml`, `student-int8.xml`,
`evaluator.xml` (a classifier that gives its opinion), `config.json` and, where there is a teacher
network, `teacher.xml`. A request says what a person may ask of them; anything else is refused
before work starts.
"""

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import openvino as ov

from lib.common.errors import StudyError
from lib.common.files import read_json
from lib.common.openvino import compile_model, read_ir
from lib.gan.latents import interpolate

FILES = {
    "student": "student-fp32.xml",
    "student INT8": "student-int8.xml",
    "teacher": "teacher.xml",
}
EVALUATOR, CONFIG = "evaluator.xml", "config.json"
REMEDY = "run notebook 07 again"
BATCH_SIZE = 100
MAX_SEED = 2**63 - 1
MAX_PER_CLASS, MAX_IMAGES, MAX_STEPS = 100, 1000, 20


class Opinions(NamedTuple):
    """What the classifier sees: class indices `(n,) int64`, probabilities `(n,)` in [0, 1]."""

    labels: np.ndarray
    probabilities: np.ndarray


class ImageGenerator:
    """The networks of a folder, each compiled once.

    `models` names those that are there, of `FILES`. Raises `StudyError` for a folder without a
    student.
    """

    def __init__(self, folder: Path | str):
        folder = Path(folder)
        config = read_json(folder / CONFIG)
        self.class_names = [str(name) for name in config["class_names"]]
        self.z_dim, self.data = int(config["z_dim"]), str(config["data"])
        found = {name: folder / file for name, file in FILES.items() if (folder / file).exists()}
        if "student" not in found:
            raise StudyError(f"{folder} holds no student: run notebook 07, which exports one")
        self._networks = {
            name: compile_model(read_ir(path, REMEDY)) for name, path in found.items()
        }
        self._evaluator = compile_model(read_ir(folder / EVALUATOR, REMEDY))
        self.models = list(self._networks)
        z, label = np.zeros((1, self.z_dim)), np.zeros(1, np.int64)
        for name in self.models:  # the first images of a network take longer
            self.opinions(self.images(z, label, name))

    def images(
        self, z: np.ndarray, c: np.ndarray, model: str = "student", psi: float = 1.0
    ) -> np.ndarray:
        """Return images `(n, 3, 32, 32) uint8`.

        `z` are latents `(n, z_dim)`, `c` labels `(n,) int64` or weights of the classes
        `(n, classes)`, one-hot or between, `psi` is the truncation in [0, 1]: towards 0 images
        become more typical of their class and less varied.
        """
        if c.ndim == 1:
            c = np.eye(len(self.class_names))[c]
        network = self._networks[model]
        inputs = [z, c, np.full((len(z), 1), psi)]
        if len(network.inputs) == 2:  # exported before psi was an input
            inputs = [z * psi, c]
        raw = _run(network, *(part.astype(np.float32) for part in inputs))
        return np.clip(np.rint(raw * 127.5 + 127.5), 0, 255).astype(np.uint8)

    def opinions(self, images: np.ndarray) -> Opinions:
        """Return what the classifier sees in images `(n, 3, 32, 32) uint8`."""
        logits = _run(self._evaluator, images.astype(np.float32)).astype(np.float64)
        odds = np.exp(logits - logits.max(axis=1, keepdims=True))
        return Opinions(logits.argmax(axis=1), odds.max(axis=1) / odds.sum(axis=1))

    def seconds(self, z: np.ndarray, c: np.ndarray, model: str, repeats: int = 5) -> float:
        """Return the median time for these images, in seconds."""
        times = []
        for _ in range(repeats):
            start = time.perf_counter()
            self.images(z, c, model)
            times.append(time.perf_counter() - start)
        return float(np.median(times))


def _run(network: ov.CompiledModel, *inputs: np.ndarray) -> np.ndarray:
    """Run batches of `BATCH_SIZE` at most, or of the one size that the network was made for."""
    shape = network.input(0).partial_shape
    fixed = shape[0].get_length() if shape.is_static else 0
    size, parts = fixed or BATCH_SIZE, []
    for start in range(0, len(inputs[0]), size):
        batch = [part[start : start + size] for part in inputs]
        n = len(batch[0])
        if fixed:
            batch = [np.concatenate([b, np.repeat(b[-1:], size - n, axis=0)]) for b in batch]
        parts.append(network(batch)[0][:n])
    return np.concatenate(parts)


def draw_latents(seed: int, label: int, n: int, z_dim: int) -> np.ndarray:
    """Return `n` latents `(n, z_dim) float32`, N(0, 1), that depend on (seed, label) alone.

    The first `m` of `n` latents are the `m` latents.
    """
    draws = np.random.default_rng([seed, label])
    return draws.standard_normal((n, z_dim), dtype=np.float32)


@dataclass(frozen=True)
class ImagesRequest:
    """`per_class` images of each class of `labels`, from a seed and a truncation in [0, 1]."""

    labels: tuple[int, ...]
    per_class: int
    seed: int
    truncation: float = 1.0

    def inputs(self, generator: ImageGenerator) -> tuple[np.ndarray, np.ndarray]:
        """Return latents `(n, z_dim)` and labels `(n,)`, class by class.

        Raises `StudyError` where a value is out of range; the message names it.
        """
        if not self.labels:
            raise StudyError("Classes: choose at least one")
        for label in self.labels:
            check("Class", label, 0, len(generator.class_names) - 1)
        check("Images a class", self.per_class, 1, MAX_PER_CLASS)
        if len(self.labels) * self.per_class > MAX_IMAGES:
            raise StudyError(f"Images: {MAX_IMAGES:,} at most; choose fewer classes or images")
        check("Seed", self.seed, 0, MAX_SEED)
        check("Truncation", self.truncation, 0, 1, float)
        size = self.per_class, generator.z_dim
        latents = [draw_latents(self.seed, label, *size) for label in self.labels]
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
            check("Class", label, 0, len(generator.class_names) - 1)
            check(f"{name} seed", seed, 0, MAX_SEED)
        check("Steps", self.steps, 2, MAX_STEPS)
        check("Truncation", self.truncation, 0, 1, float)
        ends = (draw_latents(seed, self.labels[0], 1, generator.z_dim)[0] for seed in self.seeds)
        along = np.linspace(0, 1, self.steps, dtype=np.float32)[:, None]
        first, last = np.eye(len(generator.class_names), dtype=np.float32)[list(self.labels)]
        return interpolate(*ends, self.steps), (1 - along) * first + along * last


def check(name: str, value: Any, low: int, high: int, kind: type = int) -> None:
    """Raise `StudyError` unless `value` is a whole number, or one of `kind`, in [low, high]."""
    if isinstance(value, bool) or not isinstance(value, int | kind) or not low <= value <= high:
        what = "a whole number" if kind is int else "a number"
        raise StudyError(f"{name}: {what} from {low} to {high:,}, not {str(value)[:30]}")
