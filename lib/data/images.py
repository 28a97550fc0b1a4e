"""Conversion between stored images and what networks take."""

import torch


def to_float(images: torch.Tensor) -> torch.Tensor:
    """Map uint8 pixels 0…255 to float32 in [-1, 1]; any shape."""
    return images.float() / 127.5 - 1


def to_uint8(images: torch.Tensor) -> torch.Tensor:
    """Map floats in [-1, 1] to uint8 pixels 0…255, rounded; values outside are clamped."""
    return (images * 127.5 + 127.5).round().clamp(0, 255).to(torch.uint8)
