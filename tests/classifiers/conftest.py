"""What several tests of the classifiers use."""

import zlib
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from torch import nn

from lib.data.samples import SampleSet


def fill(model: nn.Module, prefix: str = "", gain: float = 0.65) -> nn.Module:
    """Fill a network by the rule of tests/fixtures/classifiers/README.md.

    `gain` multiplies the weights of normalisations; vectors of spectral normalisations get norm 1.
    """
    state = {}
    for name, tensor in model.state_dict().items():
        seed = zlib.crc32(f"{prefix}{name}".encode())
        x = np.random.RandomState(seed).standard_normal(tensor.numel()).astype(np.float32)
        x = torch.from_numpy(x).view(tensor.shape)
        if name.endswith("num_batches_tracked"):
            x = torch.zeros_like(tensor)
        elif name.endswith("running_var"):
            x = 1 + 0.1 * x.abs()
        elif name.endswith(("running_mean", "bias")):
            x = 0.1 * x
        elif name.endswith(("weight_u", "weight_v")):
            x = x / x.norm()
        else:
            x = x * (2 / tensor[0].numel()) ** 0.5 if x.ndim > 1 else gain * (1 + 0.1 * x)
        state[name] = x
    model.load_state_dict(state)
    return model


def colours(n: int = 48) -> SampleSet:
    """Noise of four classes: reddish, greenish, bluish and grey."""
    images = np.random.default_rng(0).integers(0, 150, (n, 3, 32, 32)).astype(np.uint8)
    labels = np.arange(n) % 4
    for image, label in zip(images, labels, strict=True):
        image[label : label + 1] += 100
    return SampleSet(images, labels, info={"class_names": ["red", "green", "blue", "grey"]})


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Small networks are faster so, the more where tests run side by side."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
