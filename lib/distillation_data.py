"""What the distillation trains on, batch by batch, drawn from (seed, name, update)."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from lib.errors import StudyError
from lib.images import to_float
from lib.sampleset import SampleSet
from lib.seeds import torch_generator
from lib.student import one_hot


@dataclass(frozen=True)
class Batch:
    """`n` distillation pairs first, then `n` fresh latents with the labels of `n` real images.

    images: `(2n, 3, 32, 32)` in [-1, 1], the teacher's and the real ones; latents: `(2n, z_dim)`;
    labels: `(2n, classes)` one-hot. `new_epoch` is true for the first batch of a later epoch.
    """

    images: torch.Tensor
    latents: torch.Tensor
    labels: torch.Tensor
    new_epoch: bool


class DistillationData:
    """The teacher's samples and the real images, resident on the device as uint8."""

    def __init__(self, samples: Path, real: Path, batch_size: int, seed: int, device: str) -> None:
        teacher, true = SampleSet.load(samples), SampleSet.load(real)
        check_sets(samples, teacher, real, true, batch_size)
        self.info, self.class_names = teacher.info, teacher.class_names
        self.batch_size, self.seed, self.device = batch_size, seed, device
        self.teacher = [self._put(teacher.images), self._put(teacher.labels)]
        self.latents = self._put(teacher.latents)
        self.real = [self._put(true.images), self._put(true.labels)]
        self.z_dim = self.latents.shape[1]
        self.updates_per_epoch = len(teacher) // batch_size

    def _put(self, array: np.ndarray) -> torch.Tensor:
        return torch.from_numpy(array).to(self.device)

    def order(self, epoch: int) -> torch.Tensor:
        """Return the epoch's order of the teacher's samples."""
        generator = torch_generator(self.seed, "distillation order", epoch)
        return torch.randperm(len(self.latents), generator=generator)

    def batch(self, update: int) -> Batch:
        """Return the batch of the 0-based `update`; an incomplete last batch is left out."""
        epoch, position = divmod(update, self.updates_per_epoch)
        n = self.batch_size
        pairs = self.order(epoch)[position * n : (position + 1) * n].to(self.device)
        generator = torch_generator(self.seed, "distillation batch", update)
        reals = torch.randint(len(self.real[0]), (n,), generator=generator).to(self.device)
        fresh = torch.randn(n, self.z_dim, generator=generator).to(self.device)
        images = torch.cat([self.teacher[0][pairs], self.real[0][reals]])
        labels = torch.cat([self.teacher[1][pairs], self.real[1][reals]])
        latents = torch.cat([self.latents[pairs], fresh])
        new_epoch = epoch > 0 and position == 0
        return Batch(to_float(images), latents, one_hot(labels, len(self.class_names)), new_epoch)


def check_sets(
    samples: Path, teacher: SampleSet, real: Path, true: SampleSet, batch_size: int
) -> None:
    """Raise `StudyError` unless the two sets can be distilled from."""
    if teacher.latents is None:
        raise StudyError(f"{samples} has no latents: sample a teacher, real images do not do")
    if teacher.class_names != true.class_names:
        raise StudyError(f"{samples} and {real} have different classes: use sets of the same data")
    if len(teacher) < batch_size:
        raise StudyError(f"{samples} has {len(teacher)} images: batch_size must be lower than that")
