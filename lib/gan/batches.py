"""What generator and discriminator are shown, a batch a step, and snapshots of what is made."""

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lib.common.errors import StudyError
from lib.common.processes import count, rank
from lib.common.seeds import numpy_generator, torch_generator
from lib.data.samples import SampleSet, to_float
from lib.gan.options import GROUP

MOMENTS, PER_CLASS, CLASSES = 16, 4, 10  # of snapshots


class Batches:
    """Images and latents, all classes alike often; a batch depends on (seed, name, step) alone.

    The images lie on the device as uint8. Of a batch of n, the images at i, i + n/4, i + n/2 and
    i + 3n/4 share a class: they are the groups of the discriminator's minibatch statistics, which
    so see the variety within a class. Several processes share a batch by whole groups.
    """

    def __init__(self, images: SampleSet, name: str, seed: int, batch_size: int, device: str):
        if batch_size % (GROUP * count()):
            processes = f" times the {count()} processes" if count() > 1 else ""
            raise StudyError(f"batch_size {batch_size} is no multiple of {GROUP}{processes}")
        self.images, self.labels = torch.from_numpy(images.images).to(device), images.labels
        self.classes = len(images.class_names)
        self.members = [np.flatnonzero(images.labels == k) for k in range(self.classes)]
        if not all(len(members) for members in self.members):
            raise StudyError(f"the images for the {name} lack a class: it needs some of each")
        self.name, self.seed, self.batch_size, self.device = name, seed, batch_size, device
        groups = torch.arange(batch_size).view(GROUP, -1)
        self.rows = groups[:, rank() :: count()].flatten()
        """The rows of the batch that are this process's."""

    def index(self, step: int) -> np.ndarray:
        """Return which images are this process's; each class goes through its own in epochs."""
        groups = []
        for label, turn in self._slots(step):
            members = self.members[label]
            places = self._shuffled(f"class {label}", len(members), turn, GROUP)
            groups.append(members[[place for place, _ in places]])
        return np.stack(groups, axis=1).ravel()[self.rows]

    def real(self, step: int) -> tuple[Tensor, Tensor]:
        """Return images `(n, 3, h, w)` in [-1, 1] and one-hot labels `(n, classes)`."""
        index = self.index(step)
        images = to_float(self.images[torch.from_numpy(index).to(self.device)])
        return images, self.one_hot(torch.from_numpy(self.labels[index]))

    def latents(self, step: int, z_dim: int) -> Tensor:
        """Return normal latents `(n, z_dim)`."""
        draws = torch_generator(self.seed, f"{self.name} latents", step)
        return torch.randn(self.batch_size, z_dim, generator=draws)[self.rows].to(self.device)

    def one_hot(self, labels: Tensor) -> Tensor:
        """Return labels `(n,)` as `(n, classes) float32`."""
        return F.one_hot(labels, self.classes).float().to(self.device)

    def _slots(self, step: int) -> list[tuple[int, int]]:
        """Return the class of each group of the batch, and how often it has had a turn."""
        return self._shuffled("classes", self.classes, step, self.batch_size // GROUP)

    def _shuffled(self, name: str, size: int, part: int, n: int) -> list[tuple[int, int]]:
        """Return part `part`, of `n`, of `range(size)` in shuffled epochs: numbers and epochs."""
        epochs, places = np.divmod(np.arange(part * n, (part + 1) * n), size)
        draws = {e: numpy_generator(self.seed, self.name, name, int(e)) for e in set(epochs)}
        orders = {epoch: draw.permutation(size) for epoch, draw in draws.items()}
        return [(int(orders[e][p]), int(e)) for e, p in zip(epochs, places, strict=True)]


class Snapshots(nn.Module):
    """Images of the same latents at `MOMENTS` moments from step `first` to `steps`.

    The moments lie closer together at the start, where most changes.
    """

    def __init__(self, first: int, steps: int, classes: int):
        super().__init__()
        classes = min(classes, CLASSES)
        n = classes * PER_CLASS
        shares = [(i / (MOMENTS - 1)) ** 2 for i in range(MOMENTS)]
        moments = [first + round((steps - first) * share) for share in shares]
        self.due = set(moments)
        self.register_buffer("steps", torch.tensor(moments))
        self.register_buffer("labels", torch.arange(n) % classes)
        self.register_buffer("images", torch.zeros(MOMENTS, n, 3, 32, 32, dtype=torch.uint8))
