"""Random generators derived from one seed and a name.

No stage draws from a global generator: each draw belongs to (seed, name, step), so that a run
which was interrupted and resumes at some step draws what an uninterrupted one would have drawn.
"""

import hashlib

import numpy as np
import torch


def derive_seed(seed: int, *names: str | int) -> int:
    """Return a 63-bit seed that depends on `seed` and every name, in order."""
    text = "/".join([str(int(seed)), *(str(name) for name in names)])
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "little") >> 1


def torch_generator(seed: int, *names: str | int, device: str = "cpu") -> torch.Generator:
    """Return a torch generator seeded by `derive_seed(seed, *names)`."""
    return torch.Generator(device=device).manual_seed(derive_seed(seed, *names))


def numpy_generator(seed: int, *names: str | int) -> np.random.Generator:
    """Return a numpy generator seeded by `derive_seed(seed, *names)`."""
    return np.random.default_rng(derive_seed(seed, *names))
