"""What the distillation trains on, batch by batch, drawn from (seed, name, update)."""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from lib.common.errors import StudyError
from lib.common.seeds import torch_generator
from lib.data.samples import SampleSet, to_float
from lib.student.sampling import one_hot


@dataclass(frozen=True)
class Batch:
    """What one update learns from: `n` distillation pairs, `n` real images, fresh latents.

    images: `(2n, 3, 32, 32)` in [-1, 1], the teacher's and the real ones; labels: `(2n, classes)`
    one-hot, of these; latents: `(3n, z_dim)`, the teacher's, fresh ones, and further fresh ones,
    which only the original needs: its generator's update draws anew. The labels of fresh latents
    are those of the real images. epoch and position (the update in its epoch) are 0-based.
    """

    images: torch.Tensor
    labels: torch.Tensor
    latents: torch.Tensor
    epoch: int
    position: int

    def share(self, chosen: slice) -> "Batch":
        """Return the `chosen` pairs, real images and fresh latents, such as one process's."""
        return replace(
            self,
            images=share(self.images, 2, chosen),
            labels=share(self.labels, 2, chosen),
            latents=share(self.latents, 3, chosen),
        )


def share(rows: torch.Tensor, parts: int, chosen: slice) -> torch.Tensor:
    """Return the `chosen` rows of each of `parts` equal parts."""
    return torch.cat([part[chosen] for part in rows.chunk(parts)])


class DistillationData:
    """The teacher's samples and the real images, resident on the device as uint8."""

    def __init__(self, samples: Path, real: Path, batch_size: int, seed: int, device: str) -> None:
        teacher, others = SampleSet.load(samples), SampleSet.load(real)
        if teacher.latents is None:
            raise StudyError(f"{samples} has no latents: sample a teacher, real images do not do")
        if teacher.class_names != others.class_names:
            raise StudyError(f"{samples} and {real} have different classes: use the same data")
        for path, found in ((samples, teacher), (real, others)):
            if len(found) < batch_size:
                raise StudyError(f"{path} has {len(found)} images: batch_size must not exceed that")
        self.info, self.class_names = teacher.info, teacher.class_names
        self.batch_size, self.seed, self.device = batch_size, seed, device
        self.teacher = [self._put(teacher.images), self._put(teacher.labels)]
        self.latents = self._put(teacher.latents)
        self.real = [self._put(others.images), self._put(others.labels)]
        self.z_dim = self.latents.shape[1]
        self.updates_per_epoch = len(teacher) // batch_size

    def _put(self, array: np.ndarray) -> torch.Tensor:
        return torch.from_numpy(array).to(self.device)

    def batch(self, update: int) -> Batch:
        """Return the batch of the 0-based `update`; an incomplete last batch is left out.

        Fresh latents are normal, as those that the student is sampled with, whatever distribution
        the teacher's came from.
        """
        epoch, position = divmod(update, self.updates_per_epoch)
        n = self.batch_size
        pairs = self._rows("order", len(self.latents), epoch, position)
        reals = self._rows("real order", len(self.real[0]), epoch, position)
        generator = torch_generator(self.seed, "distillation batch", update)
        fresh = torch.randn(2 * n, self.z_dim, generator=generator).to(self.device)
        images = torch.cat([self.teacher[0][pairs], self.real[0][reals]])
        labels = torch.cat([self.teacher[1][pairs], self.real[1][reals]])
        return Batch(
            images=to_float(images),
            labels=one_hot(labels, len(self.class_names)),
            latents=torch.cat([self.latents[pairs], fresh]),
            epoch=epoch,
            position=position,
        )

    def _rows(self, name: str, size: int, epoch: int, position: int) -> torch.Tensor:
        """Return which of `size` rows a batch takes: each once, in an order drawn each time."""
        turn, place = divmod(position, size // self.batch_size)
        generator = torch_generator(self.seed, f"distillation {name}", epoch, turn)
        order = torch.randperm(size, generator=generator)
        return order[place * self.batch_size : (place + 1) * self.batch_size].to(self.device)
