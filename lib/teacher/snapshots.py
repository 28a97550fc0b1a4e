"""What a teacher in training makes of the same latents, from its first step to its last.

The moments lie closer together at the start, where most changes.
"""

import torch
from torch import Tensor, nn

MOMENTS, PER_CLASS, CLASSES = 10, 4, 10


class Snapshots(nn.Module):
    """Images of the same latents at ten moments from step `first` to `steps`."""

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

    def put(self, step: int, images: Tensor) -> None:
        """Store `(n, 3, 32, 32) uint8` wherever `step` is a moment."""
        self.images[self.steps == step] = images

    def tensors(self) -> dict[str, Tensor]:
        """Return the arrays of the final file."""
        return dict(self.named_buffers())
