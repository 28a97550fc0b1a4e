"""The student as a generator of images that starts fast: OpenVINO alone, without torch.

A folder that `lib.app.export` wrote holds `student-fp32.xml`, `student-int8.xml`,
`evaluator.xml` (a classifier that gives its opinion), `config.json` and, where there is a teacher
network, `teacher.xml`.
"""

import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import openvino as ov

from lib.common.errors import StudyError
from lib.common.files import read_json
from lib.common.openvino import compile_model, read_ir

MODELS = ("student", "student INT8", "teacher")
FILES = dict(zip(MODELS, ("student-fp32.xml", "student-int8.xml", "teacher.xml"), strict=True))
EVALUATOR, CONFIG = "evaluator.xml", "config.json"
REMEDY = "run notebook 07 again"
BATCH_SIZE = 100
MAX_SEED = 2**63 - 1


@dataclass(frozen=True)
class Opinions:
    """What the classifier sees: class indices `(n,) int64`, probabilities `(n,)` in [0, 1]."""

    labels: np.ndarray
    probabilities: np.ndarray

    def of(self, index: np.ndarray) -> "Opinions":
        """Return the opinions of the images at `index`."""
        return Opinions(self.labels[index], self.probabilities[index])


class ImageGenerator:
    """The networks of a folder, each compiled once.

    `models` names those that are there, of `MODELS`. Raises `StudyError` for a folder without a
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
        for name in self.models:  # the first images of a network take longer
            self.opinions(self.images(*self._example(), name))

    def images(self, z: np.ndarray, c: np.ndarray, model: str = "student") -> np.ndarray:
        """Return images `(n, 3, 32, 32) uint8`.

        `z` are latents `(n, z_dim)`, `c` labels `(n,) int64` or weights of the classes
        `(n, classes)`, one-hot or between.
        """
        if c.ndim == 1:
            c = np.eye(len(self.class_names), dtype=np.float32)[c]
        raw = _run(self._networks[model], z.astype(np.float32), c.astype(np.float32))
        return np.clip(np.rint(raw * 127.5 + 127.5), 0, 255).astype(np.uint8)

    def opinions(self, images: np.ndarray) -> Opinions:
        """Return what the classifier sees in images `(n, 3, 32, 32) uint8`."""
        logits = _run(self._evaluator, images.astype(np.float32)).astype(np.float64)
        odds = np.exp(logits - logits.max(axis=1, keepdims=True))
        labels = logits.argmax(axis=1)
        return Opinions(labels, odds.max(axis=1) / odds.sum(axis=1))

    def seconds(self, z: np.ndarray, c: np.ndarray, model: str, repeats: int = 5) -> float:
        """Return the median time for these images, in seconds."""
        times = []
        for _ in range(repeats):
            start = time.perf_counter()
            self.images(z, c, model)
            times.append(time.perf_counter() - start)
        return float(np.median(times))

    def _example(self) -> tuple[np.ndarray, np.ndarray]:
        return np.zeros((1, self.z_dim), np.float32), np.zeros(1, np.int64)


def draw_latents(seed: int, label: int, n: int, z_dim: int, truncation: float = 1.0) -> np.ndarray:
    """Return `n` latents `(n, z_dim) float32` that depend on (seed, label, truncation) alone.

    N(0, 1) scaled by `truncation` in [0, 1]: towards 0, their mean, images become more typical
    and less varied. The first `m` of `n` latents are the `m` latents.
    """
    draws = np.random.default_rng([seed, label])
    return draws.standard_normal((n, z_dim), dtype=np.float32) * np.float32(truncation)


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
