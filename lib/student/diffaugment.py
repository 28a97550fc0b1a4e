"""Differentiable augmentation of what the discriminator sees (Zhao et al. 2020, arXiv 2006.10738).

The draws are kept apart from their application, so that a teacher's image and its student's copy
can be changed alike. Images are `(n, 3, h, w)` in [-1, 1]; what moves in or is cut out is 0.
"""

import torch

DRAWN = {"color": 3, "translation": 2, "cutout": 2}  # numbers that an operation draws an image
SHIFT = 1 / 8  # of the image's side, largest translation
CUTOUT = 1 / 2  # of the image's side, the cut square's side
Draws = dict[str, torch.Tensor]


def draw_augmentation(augment: str, n: int, generator: torch.Generator) -> Draws:
    """Draw what `augment_images` needs for `n` images, such as "translation,cutout" or "none".

    The tensors `(n, …)` lie on the CPU. "color" draws shifts of brightness in ±0.5 and factors of
    saturation in [0, 2] and contrast in [0.5, 1.5]; the others draw positions in [0, 1)².
    """
    names = augment.split(",") if augment != "none" else []
    return {name: torch.rand(n, DRAWN[name], generator=generator) for name in names}


def augment_images(images: torch.Tensor, draws: Draws) -> torch.Tensor:
    """Apply the draws; gradients flow through, values may leave [-1, 1] under "color"."""
    for name, draw in draws.items():
        images = _APPLY[name](images, draw.to(images.device))
    return images


def _color(images: torch.Tensor, draw: torch.Tensor) -> torch.Tensor:
    brightness, saturation, contrast = draw[:, :, None, None, None].unbind(1)
    images = images + (brightness - 0.5)
    grey = images.mean(1, keepdim=True)
    images = grey + 2 * saturation * (images - grey)
    mean = images.mean((1, 2, 3), keepdim=True)
    return mean + (contrast + 0.5) * (images - mean)


def _shift_matrices(size: int, offsets: torch.Tensor) -> torch.Tensor:
    """Return `(n, size, size)` matrices with ones where column = row + offset."""
    steps = torch.arange(size, device=offsets.device)
    return (steps[None, None, :] == steps[None, :, None] + offsets[:, None, None]).float()


def _translation(images: torch.Tensor, draw: torch.Tensor) -> torch.Tensor:
    height, width = images.shape[2:]
    reach = draw.new_tensor([int(height * SHIFT + 0.5), int(width * SHIFT + 0.5)])
    offsets = (draw * (2 * reach + 1)).floor() - reach
    rows = _shift_matrices(height, offsets[:, 0])[:, None]
    columns = _shift_matrices(width, offsets[:, 1])[:, None]
    return rows @ images @ columns.mT


def _cutout(images: torch.Tensor, draw: torch.Tensor) -> torch.Tensor:
    height, width = images.shape[2:]
    rows = _inside(height, draw[:, 0])[:, None, :, None]
    columns = _inside(width, draw[:, 1])[:, None, None, :]
    return images * (~(rows & columns)).to(images.dtype)


def _inside(size: int, draw: torch.Tensor) -> torch.Tensor:
    """Return `(n, size) bool`: the span of the cut square, whose centre lies anywhere."""
    half = int(size * CUTOUT + 0.5) / 2
    centre = (draw * size).floor()[:, None]
    steps = torch.arange(size, device=draw.device)[None]
    return (steps >= centre - half) & (steps < centre + half)


_APPLY = {"color": _color, "translation": _translation, "cutout": _cutout}
