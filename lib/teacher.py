"""Load a teacher and draw sample sets from it."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

from lib.checkpoint import fill_module, load_weights
from lib.errors import StudyError
from lib.images import to_uint8
from lib.sampleset import write_shards
from lib.seeds import torch_generator
from lib.stylegan2 import Generator

Reader = Callable[[Path], tuple[dict[str, torch.Tensor], dict]]
# Each reader returns the state dict of the averaged generator and a record: `generator` (the
# constructor's arguments), `class_names` and `data`.
READERS: dict[str, Reader] = {".safetensors": load_weights}
LATENTS = {"normal": torch.randn, "uniform": torch.rand}


def open_teacher(path: Path | str, device: str = "cpu") -> tuple[Generator, dict]:
    """Return the generator in eval mode and its record; `path` may be any file of `READERS`."""
    path = Path(path)
    if path.suffix not in READERS:
        raise StudyError(f"{path} is no teacher file: expected one of {sorted(READERS)}")
    state, record = READERS[path.suffix](path)
    if "generator" not in record or "class_names" not in record:
        raise StudyError(f"{path} holds no teacher: give the file that teacher training wrote")
    generator = fill_module(Generator(**record["generator"]), state, path)
    return generator.to(device).eval().requires_grad_(False), record


def load_teacher(path: Path | str, device: str = "cpu") -> Generator:
    """Return the generator of a teacher file in eval mode, its weights frozen."""
    return open_teacher(path, device)[0]


def sample_latents(
    n: int, z_dim: int, seed: int, shard: int, distribution: str = "normal"
) -> torch.Tensor:
    """Return latents `(n, z_dim) float32` that depend on (seed, shard) alone.

    StyleGAN2 expects `normal`, N(0, 1); `uniform`, [0, 1), is what the original study drew.
    """
    if distribution not in LATENTS:
        raise StudyError(
            f"latent distribution {distribution!r} is unknown: choose one of {sorted(LATENTS)}"
        )
    draws = torch_generator(seed, "teacher", shard)
    return LATENTS[distribution](n, z_dim, generator=draws)


def sample_teacher(
    out: Path,
    *,
    teacher: Path,
    per_class: int,
    seed: int,
    truncation: float,
    noise_mode: str,
    latent_distribution: str,
    batch_size: int,
    shard_size: int,
    device: str = "cpu",
) -> None:
    """Draw `per_class` images of each class into the sample set `out`, shard by shard.

    Labels cycle through the classes, so that every shard is balanced. An interrupted run keeps
    its finished shards and ends in the same bytes; `batch_size` changes no more than rounding.
    """
    generator, record = open_teacher(teacher, device)
    classes = len(record["class_names"])
    if generator.c_dim != classes:
        raise StudyError(f"{teacher} takes {generator.c_dim} labels for {classes} class names")

    def draw(shard: int, start: int, stop: int) -> dict[str, np.ndarray]:
        labels = torch.arange(start, stop) % classes
        latents = sample_latents(
            stop - start, generator.z_dim, seed, shard, latent_distribution
        )
        parts = [
            teacher_images(
                generator,
                latents[i : i + batch_size],
                labels[i : i + batch_size],
                truncation,
                noise_mode,
                [torch_generator(seed, "teacher noise", start + i + k) for k in range(batch_size)],
            )
            for i in range(0, len(labels), batch_size)
        ]
        return dict(images=np.concatenate(parts), labels=labels.numpy(), latents=latents.numpy())

    info = dict(
        maker="teacher",
        data=record["data"],
        class_names=record["class_names"],
        latent_distribution=latent_distribution,
        truncation=truncation,
        noise_mode=noise_mode,
        seed=seed,
    )
    write_shards(out, per_class * classes, shard_size, draw, info)
