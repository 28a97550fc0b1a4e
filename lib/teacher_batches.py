"""Batches for training a teacher: each depends on (seed, step) alone."""

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from lib.images import to_float
from lib.sampleset import SampleSet
from lib.seeds import numpy_generator, torch_generator


class Batches:
    """Real images in shuffled epochs, and latents with labels spread like those of the data."""

    def __init__(self, real: SampleSet, seed: int, batch_size: int, z_dim: int, device: str):
        self.images, self.labels = torch.from_numpy(real.images), torch.from_numpy(real.labels)
        self.classes = len(real.class_names)
        self.seed, self.batch_size, self.z_dim, self.device = seed, batch_size, z_dim, device

    def real(self, step: int) -> tuple[Tensor, Tensor]:
        """Return images `(n, 3, h, w)` in [-1, 1] and one-hot labels `(n, classes)`."""
        index = torch.from_numpy(self._order(step * self.batch_size))
        return to_float(self.images[index].to(self.device)), self.one_hot(self.labels[index])

    def fake(self, step: int) -> tuple[Tensor, Tensor]:
        """Return latents `(n, z_dim)` and one-hot labels `(n, classes)`."""
        draws = torch_generator(self.seed, "teacher latents", step)
        z = torch.randn(self.batch_size, self.z_dim, generator=draws)
        index = torch.randint(len(self.labels), (self.batch_size,), generator=draws)
        return z.to(self.device), self.one_hot(self.labels[index])

    def one_hot(self, labels: Tensor) -> Tensor:
        """Return labels `(n,)` as `(n, classes) float32`."""
        return F.one_hot(labels, self.classes).float().to(self.device)

    def _order(self, start: int) -> np.ndarray:
        """Return the images at the places from `start` on in the sequence of all epochs."""
        n = len(self.labels)
        epochs, places = np.divmod(np.arange(start, start + self.batch_size), n)
        index = np.empty_like(places)
        for epoch in np.unique(epochs):
            order = numpy_generator(self.seed, "teacher epoch", int(epoch)).permutation(n)
            index[epochs == epoch] = order[places[epochs == epoch]]
        return index
