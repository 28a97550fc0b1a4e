"""What the distillation trains on, batch by batch, drawn from (seed, name, update)."""

from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
from torch.nn import functional as F

from lib.common.errors import StudyError
from lib.common.seeds import torch_generator
from lib.data.samples import SampleSet, to_float
from lib.student.options import StudentOptions, parse_recipe

SHIFT = 1 / 8  # of the image's side, largest translation
CUTOUT = 1 / 2  # of the image's side, the cut square's side


@dataclass(frozen=True)
class Batch:
    """What one update learns from: `n` distillation pairs, `n` real images, fresh latents.

    images: `(2n, 3, 32, 32)` in [-1, 1], the teacher's and the real ones; labels: `(2n, classes)`
    one-hot, of these; latents: `(3n, z_dim)`, the teacher's, fresh ones, and further fresh ones,
    which only the original needs: its generator's update draws anew. The labels of fresh latents
    are those of the real images. epoch and position (the update in its epoch) are 0-based. draws:
    `(2n, k)` in [0, 1) by name of `AUGMENT`, for the images and for those that the generator makes.
    """

    images: torch.Tensor
    labels: torch.Tensor
    latents: torch.Tensor
    epoch: int
    position: int
    draws: dict[str, torch.Tensor] = field(default_factory=dict)

    def share(self, chosen: slice) -> "Batch":
        """Return the `chosen` pairs, real images and fresh latents, such as one process's."""

        def cut(rows: torch.Tensor, parts: int) -> torch.Tensor:
            return torch.cat([part[chosen] for part in rows.chunk(parts)])

        return replace(
            self,
            images=cut(self.images, 2),
            labels=cut(self.labels, 2),
            latents=cut(self.latents, 3),
            draws={name: cut(draw, 2) for name, draw in self.draws.items()},
        )

    def show(self, images: torch.Tensor, rows: slice = slice(None)) -> torch.Tensor:
        """Augment images as these `rows` of the batch (Zhao et al. 2020, arXiv 2006.10738).

        So the discriminator sees them. Gradients flow through; what moves in or is cut out is 0;
        values may leave [-1, 1] under "color".
        """
        for name, draw in self.draws.items():
            images = AUGMENT[name][1](images, draw[rows].to(images.device))
        return images


class DistillationData:
    """The teacher's samples and the real images, resident on the device as uint8."""

    def __init__(
        self, samples: Path, real: Path, seed: int, options: StudentOptions, device: str = "cpu"
    ) -> None:
        teacher, others = SampleSet.load(samples), SampleSet.load(real)
        if teacher.latents is None:
            raise StudyError(f"{samples} has no latents: sample a teacher, real images do not do")
        if teacher.class_names != others.class_names:
            raise StudyError(f"{samples} and {real} have different classes: use the same data")
        for path, found in ((samples, teacher), (real, others)):
            if len(found) < options.batch_size:
                raise StudyError(f"{path} has {len(found)} images: batch_size must not exceed that")
        self.info, self.class_names = teacher.info, teacher.class_names
        self.batch_size, self.seed, self.device = options.batch_size, seed, device
        used = "augment" in parse_recipe(options.recipe) and options.augment != "none"
        self.augment = options.augment.split(",") if used else []
        arrays = teacher.images, teacher.labels, teacher.latents, others.images, others.labels
        self.rows = [torch.from_numpy(array).to(device) for array in arrays]
        self.z_dim = teacher.latents.shape[1]
        self.updates_per_epoch = len(teacher) // self.batch_size

    def batch(self, update: int) -> Batch:
        """Return the batch of the 0-based `update`; an incomplete last batch is left out.

        Fresh latents are normal, as those that the student is sampled with, whatever distribution
        the teacher's came from.
        """
        epoch, position = divmod(update, self.updates_per_epoch)
        n, (images, labels, latents, real, real_labels) = self.batch_size, self.rows
        pairs = self._order("order", len(images), epoch, position)
        reals = self._order("real order", len(real), epoch, position)
        generator = torch_generator(self.seed, "distillation batch", update)
        fresh = torch.randn(2 * n, self.z_dim, generator=generator).to(self.device)
        classes = torch.cat([labels[pairs], real_labels[reals]])
        draws = torch_generator(self.seed, "distillation augment", update)
        return Batch(
            to_float(torch.cat([images[pairs], real[reals]])),
            F.one_hot(classes, len(self.class_names)).float(),
            torch.cat([latents[pairs], fresh]),
            epoch,
            position,
            {name: torch.rand(2 * n, AUGMENT[name][0], generator=draws) for name in self.augment},
        )

    def _order(self, name: str, size: int, epoch: int, position: int) -> torch.Tensor:
        """Return which of `size` rows a batch takes: each once, in an order drawn each time."""
        turn, place = divmod(position, size // self.batch_size)
        generator = torch_generator(self.seed, f"distillation {name}", epoch, turn)
        order = torch.randperm(size, generator=generator)
        return order[place * self.batch_size : (place + 1) * self.batch_size].to(self.device)


def _color(images: torch.Tensor, draw: torch.Tensor) -> torch.Tensor:
    """Shift brightness by up to ±0.5, scale saturation in [0, 2] and contrast in [0.5, 1.5]."""
    brightness, saturation, contrast = draw[:, :, None, None, None].unbind(1)
    images = images + (brightness - 0.5)
    grey = images.mean(1, keepdim=True)
    images = grey + 2 * saturation * (images - grey)
    mean = images.mean((1, 2, 3), keepdim=True)
    return mean + (contrast + 0.5) * (images - mean)


def _translation(images: torch.Tensor, draw: torch.Tensor) -> torch.Tensor:
    """Multiply by matrices with ones where column = row + offset."""
    steps = torch.arange(images.shape[-1], device=draw.device)
    reach = int(len(steps) * SHIFT + 0.5)
    offsets = (draw * (2 * reach + 1)).floor() - reach
    rows, columns = (steps == steps[:, None] + offsets[..., None, None]).float().unbind(1)
    return rows[:, None] @ images @ columns[:, None].mT


def _cutout(images: torch.Tensor, draw: torch.Tensor) -> torch.Tensor:
    """Cut a square, whose centre lies anywhere."""
    steps = torch.arange(images.shape[-1], device=draw.device)
    half = int(len(steps) * CUTOUT + 0.5) / 2
    centre = (draw * len(steps)).floor()[..., None]
    rows, columns = ((steps >= centre - half) & (steps < centre + half)).unbind(1)
    return images * ~(rows[:, None, :, None] & columns[:, None, None, :])


AUGMENT = {"color": (3, _color), "translation": (2, _translation), "cutout": (2, _cutout)}
"""How many numbers in [0, 1) each augmentation draws an image, and what applies them."""
