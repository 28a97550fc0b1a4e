"""Load and sample students."""

from pathlib import Path

import numpy as np
import torch
from torch.nn import functional as F

from lib.common.files import sha256_file
from lib.common.processes import launch
from lib.common.seeds import torch_generator
from lib.common.tensors import fill_module, load_tensors
from lib.data.samples import to_uint8, write_shards
from lib.student.build import Student, build_student


def load_student(path: Path, device: str = "cpu") -> Student:
    """Load a trained student in eval mode; its configuration is its attribute `config`.

    Raises `StudyError` where the file is missing, damaged or holds no student.
    """
    weights, config = load_tensors(path)
    student = fill_module(build_student(config), weights, path)
    student.config = config
    return student.to(device).eval()


@torch.no_grad()
def generate(
    student: Student,
    z: np.ndarray | torch.Tensor,
    labels: np.ndarray | torch.Tensor,
    batch_size: int = 256,
) -> np.ndarray:
    """Make images `(n, 3, 32, 32) uint8` from latents `(n, z_dim)` and labels `(n,)`."""
    device = next(student.parameters()).device
    latents = torch.as_tensor(z, dtype=torch.float32).split(batch_size)
    classes = F.one_hot(torch.as_tensor(labels, dtype=torch.int64), student.c_dim).float()
    pairs = zip(latents, classes.split(batch_size), strict=True)
    images = [to_uint8(student(z.to(device), c.to(device))).cpu() for z, c in pairs]
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
