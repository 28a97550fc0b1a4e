"""Paths between latents."""

import numpy as np

from lib.common.errors import StudyError


def interpolate(start: np.ndarray, end: np.ndarray, steps: int) -> np.ndarray:
    """Return latents `(steps, z_dim) float32` on the great circle from `start` to `end` `(z_dim,)`.

    Normal latents lie near a sphere; the straight line would leave it (White 2016,
    arXiv 1609.04468). Lengths change linearly. Latents in line take the straight way.
    """
    if steps < 2 or start.shape != end.shape or start.ndim != 1:
        raise StudyError(f"cannot interpolate {start.shape} to {end.shape} in {steps} steps")
    first, last = np.linalg.norm(start), np.linalg.norm(end)
    along = np.linspace(0, 1, steps)[:, None]
    cosine = np.dot(start, end) / max(first * last, np.finfo(float).tiny)
    angle = np.arccos(np.clip(cosine, -1, 1))
    if min(np.sin(angle), first, last) < 1e-6:
        return ((1 - along) * start + along * end).astype(np.float32)
    circle = np.sin((1 - along) * angle) * start / first + np.sin(along * angle) * end / last
    radius = (1 - along) * first + along * last
    return (radius * circle / np.sin(angle)).astype(np.float32)
