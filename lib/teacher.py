"""Load a teacher and draw sample sets from it."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch.nn.functional import one_hot

from lib.checkpoint import fill_module, load_weights, save_weights
from lib.download import cache_folder, download
from lib.errors import StudyError
from lib.images import to_uint8
from lib.network_pickle import OFFICIAL_CIFAR10, load_network
from lib.paths import resolve
from lib.processes import launch
from lib.sampleset import write_shards
from lib.seeds import torch_generator
from lib.stylegan2 import Generator

Reader = Callable[[Path], tuple[dict[str, torch.Tensor], dict]]
# Each reader returns the state dict of the averaged generator and a record: `generator` (the
# constructor's arguments), `class_names` and `data`.
READERS: dict[str, Reader] = {".safetensors": load_weights, ".pkl": lambda path: read_pickle(path)}
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


def read_pickle(path: Path) -> tuple[dict[str, torch.Tensor], dict]:
    """Read an official network pickle, without executing what it holds (`lib.network_pickle`).

    These files name neither classes nor data: the record's `class_names` is empty.
    """
    generator = load_network(path)
    return generator.state_dict(), {"generator": generator.config, "class_names": [], "data": ""}


def teacher_file(teacher: str) -> Path:
    """Return the file that the parameter `teacher` means.

    `official` is NVIDIA's CIFAR-10 network (NVIDIA Source Code License: research and evaluation
    only), downloaded once into the user's cache folder.
    """
    if teacher != "official":
        return resolve(teacher)
    target = cache_folder() / "stylegan2-ada-cifar10.pkl"
    download(OFFICIAL_CIFAR10, target)
    return target


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
    num_processes: int = 1,
) -> None:
    """Draw `per_class` images of each class into the sample set `out`, shard by shard.

    Labels cycle through the classes, so that every shard is balanced. An interrupted run keeps
    its finished shards and ends in the same bytes; `batch_size` changes no more than rounding.
    Several processes divide the shards among them, which changes nothing in the set.
    """
    if num_processes > 1:
        given = {"teacher": teacher, "per_class": per_class, "seed": seed}
        given |= {"truncation": truncation, "noise_mode": noise_mode, "device": device}
        given |= {"latent_distribution": latent_distribution, "batch_size": batch_size}
        return launch(sample_teacher, num_processes, out, shard_size=shard_size, **given)
    generator, record = open_teacher(teacher, device)
    classes = len(record["class_names"])
    if generator.c_dim != classes:
        raise StudyError(f"{teacher} takes {generator.c_dim} labels for {classes} class names")

    def draw(shard: int, start: int, stop: int) -> dict[str, np.ndarray]:
        n = stop - start
        labels = torch.arange(start, stop) % classes
        latents = sample_latents(n, generator.z_dim, seed, shard, latent_distribution)
        batches = [slice(i, min(i + batch_size, n)) for i in range(0, n, batch_size)]
        images = [
            generate(
                generator,
                latents[batch],
                labels[batch],
                truncation=truncation,
                noise_mode=noise_mode,
                noise=noise_sources(seed, start + batch.start, start + batch.stop),
            )
            for batch in batches
        ]
        return dict(
            images=torch.cat(images).numpy(), labels=labels.numpy(), latents=latents.numpy()
        )

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


@torch.no_grad()
def generate(
    generator: Generator,
    latents: torch.Tensor,
    labels: torch.Tensor,
    truncation: float = 1.0,
    noise_mode: str = "const",
    noise: list[torch.Generator] | None = None,
) -> torch.Tensor:
    """Return images `(n, 3, 32, 32) uint8` (on the CPU) of latents `(n, z_dim)`, labels `(n,)`.

    `noise` are the sources of the noise mode `random`, one an image.
    """
    device = next(generator.parameters()).device
    images = generator(
        latents.to(device),
        one_hot(labels, generator.c_dim).float().to(device),
        truncation_psi=truncation,
        noise_mode=noise_mode,
        noise_generator=noise,
    )
    return to_uint8(images).cpu()


def noise_sources(seed: int, start: int, stop: int) -> list[torch.Generator]:
    """Return a source of noise for each image: the same however the images are batched."""
    return [torch_generator(seed, "teacher noise", index) for index in range(start, stop)]


def adopt_teacher(
    out: Path, *, source: Path, sha256: str, class_names: list[str], data: str
) -> None:
    """Write the generator of the teacher file `source` as `out/teacher.safetensors`.

    `sha256` is that of the file. Where the file names no classes (NVIDIA's do not), it takes
    `class_names` and the name `data`; their number must be that of the labels it takes.
    """
    generator, record = open_teacher(source)
    names = record["class_names"] or class_names
    if len(names) != len(class_names) or generator.c_dim != len(names):
        raise StudyError(
            f"{source} was trained for {generator.c_dim} classes, the data have "
            f"{len(class_names)}: choose a teacher of the same data"
        )
    record = record | {"class_names": names, "data": record["data"] or data, "sha256": sha256}
    save_weights(out / "teacher.safetensors", generator, record)
