"""The student of the study: networks, loading, sampling.

The default student is the original's generator (`lib.student.networks`), with residual blocks as an
option, trained against a discriminator that sees the class (Miyato & Koyama 2018).
"""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F
from torch.nn.utils import spectral_norm

from lib.common.errors import StudyError
from lib.common.files import sha256_file
from lib.common.processes import launch
from lib.common.seeds import torch_generator
from lib.common.tensors import fill_module, load_weights
from lib.data.samples import to_uint8, write_shards
from lib.student.networks import Generator, Trunk, initialize

SIZES = ("z_dim", "c_dim", "ngf", "project_dim", "nc")


class ResidualBlock(nn.Module):
    """x + BN(conv(GLU(BN(conv(x))))): keeps the shape `(n, c, h, w)`."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.block = nn.Sequential(
            nn.Conv2d(channels, 2 * channels, 3, padding=1, bias=False),
            nn.BatchNorm2d(2 * channels),
            nn.GLU(1),
            nn.Conv2d(channels, channels, 3, padding=1, bias=False),
            nn.BatchNorm2d(channels),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.block(x)


class ResidualGenerator(Generator):
    """The original's generator with a residual block after each of its three up-blocks."""

    def __init__(self, **sizes: int) -> None:
        super().__init__(**sizes)
        for block in (self.upsample1, self.upsample2, self.upsample3):
            residual = ResidualBlock(block[1].out_channels // 2)
            initialize(residual)
            block.append(residual)


class ProjectionDiscriminator(Trunk):
    """Images and one-hot labels to four feature maps and logits `(n, 1)`.

    The logit is f(φ(x)) + ⟨V c, φ(x)⟩ (Miyato & Koyama 2018, arXiv 1802.05637), so that its
    gradient with respect to the image depends on the class.
    """

    def __init__(
        self, ndf: int = 128, c_dim: int = 10, project_dim: int = 128, nc: int = 3
    ) -> None:
        super().__init__(ndf, project_dim, nc)
        self.output = spectral_norm(nn.Linear(project_dim, 1))
        self.embed = spectral_norm(nn.Linear(c_dim, project_dim, bias=False))
        initialize(self)

    def forward(self, x: torch.Tensor, c: torch.Tensor) -> tuple[list[torch.Tensor], torch.Tensor]:
        features, projection = self.features(x)
        classed = (self.embed(c) * projection).sum(1, keepdim=True)
        return features, self.output(projection) + classed


def build_student(config: dict[str, Any]) -> Generator:
    """Build the untrained generator that `config` describes: its sizes and "residual".

    Raises:
        StudyError: a size is missing.
    """
    missing = [name for name in SIZES if name not in config]
    if missing:
        raise StudyError(f"student: the configuration lacks {', '.join(missing)}; train it again")
    kind = ResidualGenerator if config.get("residual") else Generator
    return kind(**{name: config[name] for name in SIZES})


def load_student(path: Path, device: str = "cpu") -> Generator:
    """Load a trained student in eval mode; its configuration is its attribute `config`.

    Raises:
        StudyError: the file is missing, damaged or does not hold a student.
    """
    weights, config = load_weights(path)
    student = fill_module(build_student(config), weights, path)
    student.config = config
    return student.to(device).eval()


def one_hot(labels: torch.Tensor, classes: int) -> torch.Tensor:
    """Turn labels `(n,) int64` into rows `(n, classes) float32`."""
    return F.one_hot(labels, classes).float()


@torch.no_grad()
def generate(
    student: Generator,
    z: np.ndarray | torch.Tensor,
    labels: np.ndarray | torch.Tensor,
    batch_size: int = 256,
) -> np.ndarray:
    """Make images `(n, 3, 32, 32) uint8` from latents `(n, z_dim)` and labels `(n,)`."""
    device = next(student.parameters()).device
    images = []
    for start in range(0, len(z), batch_size):
        part = slice(start, start + batch_size)
        latents = torch.as_tensor(z[part], dtype=torch.float32, device=device)
        classes = torch.as_tensor(labels[part], dtype=torch.int64, device=device)
        images.append(to_uint8(student(latents, one_hot(classes, student.c_dim))).cpu())
    return torch.cat(images).numpy()


def sample_student(
    out: Path,
    *,
    student: Path,
    per_class: int,
    seed: int,
    batch_size: int,
    shard_size: int,
    device: str = "cpu",
    num_processes: int = 1,
) -> None:
    """Write a SampleSet of `per_class` images a class into the folder `out`, shard by shard.

    Labels cycle through the classes, so that every shard and every head of the set is balanced;
    latents are normal, drawn from (seed, "student", shard index). Resumes after an interruption.
    Several processes divide the shards among them, which changes nothing in the set.
    """
    if num_processes > 1:
        given = {"per_class": per_class, "seed": seed, "batch_size": batch_size}
        given |= {"student": student, "shard_size": shard_size, "device": device}
        return launch(sample_student, num_processes, out, **given)
    network = load_student(student, device)
    classes = network.c_dim

    def draw(shard: int, start: int, stop: int) -> dict[str, np.ndarray]:
        generator = torch_generator(seed, "student", shard)
        latents = torch.randn(stop - start, network.z_dim, generator=generator).numpy()
        labels = np.arange(start, stop, dtype=np.int64) % classes
        images = generate(network, latents, labels, batch_size)
        return {"images": images, "labels": labels, "latents": latents}

    info = {
        "maker": "student",
        "fingerprint": sha256_file(student),
        "class_names": network.config["class_names"],
        "data": network.config["data"],
        "latent_distribution": "normal",
        "truncation": None,
        "seed": seed,
    }
    write_shards(out, per_class * classes, shard_size, draw, info)
