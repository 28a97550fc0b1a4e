"""The StyleGAN2 networks filled as the references were."""

import json
import zlib

import numpy as np
import torch

from lib.common.files import ROOT
from lib.gan.generator import Generator

DATA = ROOT / "tests" / "fixtures" / "stylegan2"
SMALL_WIDTHS = {"channel_base": 128, "channel_max": 8}


def scale_of(name: str) -> tuple[float, float]:
    """Return the offset and scale of the reference fill for a tensor's name."""
    last = name.rsplit(".", 1)[-1]
    if name.endswith("affine.bias"):
        return 1.0, 0.1
    if name == "mapping.w_avg" or name.endswith("torgb.weight"):
        return 0.0, 0.5
    if name.startswith("mapping.fc"):
        return 0.0, 100.0 if last == "weight" else 10.0
    return 0.0, 0.1 if last in ("noise_strength", "bias") else 1.0


def fill(module: torch.nn.Module) -> torch.nn.Module:
    """Fill a generator as the references were filled: by names alone."""
    for name, tensor in module.state_dict().items():
        if not name.endswith("resample_filter"):
            random = np.random.RandomState(zlib.crc32(name.encode()) & 0xFFFFFFFF)
            x = random.standard_normal(tensor.numel()).astype(np.float32)
            offset, scale = np.float32(scale_of(name))
            tensor.copy_(torch.from_numpy(offset + scale * x).view_as(tensor))
    return module


def read_keys(name: str) -> dict:
    return json.loads((DATA / f"{name}_keys.json").read_text())


def tiny_generator(**options) -> Generator:
    torch.manual_seed(0)
    synthesis = {**SMALL_WIDTHS, **options.pop("synthesis", {})}
    arguments = {"z_dim": 6, "c_dim": 3, "w_dim": 7, "img_resolution": 16, "img_channels": 3}
    return fill(Generator(**{**arguments, **options}, synthesis_kwargs=synthesis)).eval()


def tiny_inputs(n: int = 4) -> tuple[torch.Tensor, torch.Tensor]:
    draws = torch.Generator().manual_seed(1)
    return torch.randn(n, 6, generator=draws), torch.eye(3)[torch.arange(n) % 3]
