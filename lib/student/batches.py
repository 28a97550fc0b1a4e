"""What the original's distillation trains on, batch by batch, drawn from (seed, name, update)."""

from dataclasses import dataclass, replace

import torch
from torch.nn import functional as F

from lib.common.errors import StudyError
from lib.common.seeds import torch_generator
from lib.data.samples import SampleSet, to_float
from lib.gan.batches import PER_CLASS


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

        def cut(rows: torch.Tensor, parts: int) -> torch.Tensor:
            return torch.cat([part[chosen] for part in rows.chunk(parts)])

        return replace(
            self,
            images=cut(self.images, 2),
            labels=cut(self.labels, 2),
            latents=cut(self.latents, 3),
        )


class DistillationData:
    """The teacher's samples and the real images, resident on the device as uint8."""

    def __init__(
        self, samples: SampleSet, real: SampleSet, seed: int, batch_size: int, device: str = "cpu"
    ) -> None:
        for name, found in (("samples", samples), ("real images", real)):
            if len(found) < batch_size:
                raise StudyError(f"there are {len(found)} {name}: batch_size must not exceed that")
        self.class_names = samples.class_names
        self.batch_size, self.seed, self.device = batch_size, seed, device
        arrays = samples.images, samples.labels, samples.latents, real.images, real.labels
        self.rows = [torch.from_numpy(array).to(device) for array in arrays]
        self.z_dim = samples.latents.shape[1]
        self.updates_per_epoch = len(samples) // self.batch_size

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
        return Batch(
            to_float(torch.cat([images[pairs], real[reals]])),
            F.one_hot(classes, len(self.class_names)).float(),
            torch.cat([latents[pairs], fresh]),
            epoch,
            position,
        )

    def _order(self, name: str, size: int, epoch: int, position: int) -> torch.Tensor:
        """Return which of `size` rows a batch takes: each once, in an order drawn each time."""
        turn, place = divmod(position, size // self.batch_size)
        generator = torch_generator(self.seed, f"distillation {name}", epoch, turn)
        order = torch.randperm(size, generator=generator)
        return order[place * self.batch_size : (place + 1) * self.batch_size].to(self.device)


def first_latents(samples: SampleSet, labels: torch.Tensor) -> torch.Tensor:
    """Return latents `(n, z_dim)` of the teacher's first `PER_CLASS` samples of these classes.

    labels `(n,)` run through the classes again and again.
    """
    classes = int(labels.max()) + 1
    places = [(samples.labels == label).nonzero()[0][:PER_CLASS] for label in range(classes)]
    order = [
        places[k % classes][k // classes % len(places[k % classes])] for k in range(len(labels))
    ]
    return torch.from_numpy(samples.latents[order])
