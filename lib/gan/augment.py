"""Adaptive discriminator augmentation (Karras et al. 2020, arXiv 2006.06676).

Real and generated images are transformed alike before the discriminator sees them, each
transformation with probability p. `AdaptiveProbability` raises p while the discriminator
overfits. Every transformation is differentiable twice, as the R1 penalty needs.
"""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from lib.gan.resampling import LinearMap

ALIGN_CORNERS = False
BILINEAR, REFLECTION = 0, 2  # torch's codes for grid_sample


def grid_sample(images: Tensor, grid: Tensor) -> Tensor:
    """Sample `(n, c, h, w)` bilinearly at `grid (n, h, w, 2)`, reflecting at the border.

    Unlike torch's own function it can be differentiated twice, by the images.
    """
    like, options = images.detach(), (grid, BILINEAR, REFLECTION, ALIGN_CORNERS)
    backward = torch.ops.aten.grid_sampler_2d_backward
    return LinearMap.apply(
        images,
        lambda x: torch.grid_sampler_2d(x, *options),
        lambda y: backward(y, like, *options, (True, False))[0],
    )


class Draw:
    """Random values for a batch, and the choice of the images that a transformation hits."""

    def __init__(self, n: int, p: float, generator: torch.Generator):
        self.n, self.p, self.options = n, p, dict(generator=generator, device=generator.device)

    def uniform(self, limit: float) -> Tensor:
        """Return `(n,)` values, uniform in [-limit, limit)."""
        return 2 * limit * torch.rand(self.n, **self.options) - limit

    def normal(self, std: float) -> Tensor:
        """Return `(n,)` normal values."""
        return std * torch.randn(self.n, **self.options)

    def gate(self, *values: Tensor) -> list[Tensor]:
        """Keep the values of each image with probability p, else set them to zero."""
        chosen = torch.rand(self.n, **self.options) < self.p
        return [torch.where(chosen, value, 0.0) for value in values]


@dataclass(frozen=True)
class Augment:
    """The transformations and their strengths; no flips or 90° turns: digits have none.

    Shifts are fractions of the image's side, scales base-2 logarithms, `rotate` the largest
    angle either way in radians.
    """

    integer_shift: float = 0.125
    scale_std: float = 0.2
    rotate: float = math.pi / 12
    aspect_std: float = 0.2
    shift_std: float = 0.125
    brightness_std: float = 0.2
    contrast_std: float = 0.5
    saturation_std: float = 1.0

    def __call__(
        self,
        images: Tensor,
        p: float,
        generator: torch.Generator,
        of: tuple[int, Tensor] | None = None,
    ) -> Tensor:
        """Transform `(n, 3, h, w)` in about [-1, 1], each transformation with probability `p`.

        of: the size of a batch and the rows `(n,)` of it that these images are, if not the whole.
        """
        if p <= 0:
            return images
        total, rows = of or (len(images), slice(None))
        draw = Draw(total, p, generator)
        inverse = self.geometry(draw, images.shape[-1])[rows]
        matrix, offset = (part[rows].to(images.device) for part in self.colour(draw))
        grid = F.affine_grid(inverse[:, :2], list(images.shape), align_corners=ALIGN_CORNERS)
        images = grid_sample(images, grid.to(images.device))
        pixels = torch.baddbmm(offset[:, :, None], matrix, images.flatten(2))
        return pixels.view_as(images)

    def geometry(self, draw: Draw, side: int) -> Tensor:
        """Return `(n, 3, 3)` maps from output to input places, coordinates in [-1, 1]."""
        limit = self.integer_shift * side
        x, y = draw.gate(*(draw.uniform(limit).round() * (2 / side) for _ in range(2)))
        zero, one = torch.zeros_like(x), torch.ones_like(x)
        shift = affine(one, zero, x, zero, one, y)
        (scale,) = draw.gate(draw.normal(self.scale_std))
        (angle,) = draw.gate(draw.uniform(self.rotate))
        (aspect,) = draw.gate(draw.normal(self.aspect_std))
        x, y = draw.gate(*(draw.normal(2 * self.shift_std) for _ in range(2)))
        stretch = affine((scale + aspect).exp2(), zero, x, zero, (scale - aspect).exp2(), y)
        sin, cos = angle.sin(), angle.cos()
        return shift @ affine(cos, -sin, zero, sin, cos, zero) @ stretch

    def colour(self, draw: Draw) -> tuple[Tensor, Tensor]:
        """Return `(n, 3, 3)` matrices and `(n, 3)` offsets for the channels."""
        (brightness,) = draw.gate(draw.normal(self.brightness_std))
        (contrast,) = draw.gate(draw.normal(self.contrast_std))
        (saturation,) = draw.gate(draw.normal(self.saturation_std))
        grey = torch.full((3, 3), 1 / 3, device=brightness.device)
        colours = torch.eye(3, device=brightness.device) - grey
        matrix = grey + saturation.exp2()[:, None, None] * colours
        contrast = contrast.exp2()
        return contrast[:, None, None] * matrix, (contrast * brightness)[:, None].expand(-1, 3)


def affine(*entries: Tensor) -> Tensor:
    """Return `(n, 3, 3)` matrices from the six `(n,)` entries of their upper rows."""
    zero = torch.zeros_like(entries[0])
    return torch.stack([*entries, zero, zero, zero + 1], dim=-1).view(-1, 3, 3)


@dataclass
class AdaptiveProbability:
    """Raise p while more than `target` of E[sign(D(real))] shows overfitting, else lower it.

    `kimg` is the number of thousand images in which p could climb from 0 to 1; target 0 turns
    the augmentation off. `signs` and `count` gather the discriminator's verdicts in between.
    """

    target: float
    kimg: float
    interval: int = 4
    p: float = 0.0
    signs: float = 0.0
    count: int = 0

    def observe(self, sign: float, n: int) -> None:
        """Add the mean sign of the logits of a batch of `n` real images."""
        self.signs += sign * n
        self.count += n

    def update(self, step: int) -> None:
        """Adjust p every `interval` steps."""
        if self.target <= 0 or (step + 1) % self.interval or not self.count:
            return
        direction = math.copysign(1, self.signs / self.count - self.target)
        self.p = min(max(self.p + direction * self.count / (self.kimg * 1000), 0.0), 1.0)
        self.signs, self.count = 0.0, 0
