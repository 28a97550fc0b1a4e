"""Load a teacher and draw sample sets from it."""

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import one_hot

from lib.common.errors import StudyError
from lib.common.files import sha256_file
from lib.common.processes import launch
from lib.common.seeds import torch_generator
from lib.common.tensors import fill_module, load_weights
from lib.data.samples import to_uint8, write_shards
from lib.gan.generator import Generator, SynthesisBlock
from lib.teacher.official.arguments import check_arguments
from lib.teacher.official.reader import load_network
from lib.teacher.openvino import OpenVinoGenerator

Reader = Callable[[Path], tuple[dict[str, Tensor], dict]]
# Each reader returns the state dict of the averaged generator and a record: `generator` (the
# constructor's arguments), `class_names` and `data`.
READERS: dict[str, Reader] = {".safetensors": load_weights, ".pkl": lambda path: read_pickle(path)}
Renderer = Callable[..., Tensor]
BACKENDS = ("openvino", "torch")
LATENTS = {"normal": torch.randn, "uniform": torch.rand}


def open_teacher(path: Path | str, device: str = "cpu") -> tuple[Generator, dict]:
    """Return the generator in eval mode and its record; `path` may be any file of `READERS`."""
    path = Path(path)
    if path.suffix not in READERS:
        raise StudyError(f"{path} is no teacher file: expected one of {sorted(READERS)}")
    state, record = READERS[path.suffix](path)
    arguments = record.get("generator") if isinstance(record, dict) else None
    if not isinstance(arguments, dict) or not isinstance(record.get("class_names"), list):
        raise StudyError(f"{path} holds no teacher: give the file that teacher training wrote")
    _check_sizes(arguments, state, path)
    generator = fill_module(Generator(**arguments), state, path)
    return generator.to(device).eval().requires_grad_(False), record


def _check_sizes(arguments: dict, state: dict[str, Tensor], path: Path) -> None:
    """Compare a record with the weights before memory is taken for what it asks for."""
    try:
        check_arguments("Generator", arguments)
    except StudyError as error:
        raise StudyError(f"{path}: {error}") from None
    with torch.device("meta"):
        expected = Generator(**arguments).state_dict()
    if {k: v.shape for k, v in expected.items()} != {k: v.shape for k, v in state.items()}:
        raise StudyError(f"{path} holds other weights than its record says: make it again")


def read_pickle(path: Path) -> tuple[dict[str, Tensor], dict]:
    """Read an official network pickle, without executing what it holds (`reader`).

    These files name neither classes nor data: the record's `class_names` is empty.
    """
    generator = load_network(path)
    return generator.state_dict(), {"generator": generator.config, "class_names": [], "data": ""}


def load_teacher(path: Path | str, device: str = "cpu") -> Generator:
    """Return the generator of a teacher file in eval mode, its weights frozen."""
    return open_teacher(path, device)[0]


def sample_latents(
    n: int, z_dim: int, seed: int, shard: int, distribution: str = "normal"
) -> Tensor:
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
    backend: str = "openvino",
    precision: str = "float32",
    device: str = "cpu",
    num_processes: int = 1,
) -> None:
    """Draw `per_class` images of each class into the sample set `out`, shard by shard.

    Labels cycle through the classes, so that every shard is balanced. An interrupted run keeps
    its finished shards and ends in the same bytes; `batch_size` and `backend` (`openvino` or
    `torch`) change no more than rounding. Several processes divide the shards among them, which
    changes nothing in the set.
    """
    if num_processes > 1:
        given = {"teacher": teacher, "per_class": per_class, "seed": seed}
        given |= {"truncation": truncation, "noise_mode": noise_mode, "device": device}
        given |= {"latent_distribution": latent_distribution, "batch_size": batch_size}
        given |= {"backend": backend, "precision": precision}
        return launch(sample_teacher, num_processes, out, shard_size=shard_size, **given)
    generator, record = open_teacher(teacher, device)
    classes = len(record["class_names"])
    if not classes or generator.c_dim != classes:
        raise StudyError(
            f"{teacher} takes {generator.c_dim} labels for {classes} class names: give it the "
            "names of its classes first (lib.teacher.source.adopt_teacher)"
        )
    n = per_class * classes
    batch_size = min(batch_size, shard_size, n)
    options = dict(truncation=truncation, noise_mode=noise_mode, batch_size=batch_size)
    render = choose_backend(generator, backend, precision, **options)

    def draw(shard: int, start: int, stop: int) -> Iterator[dict[str, np.ndarray]]:
        latents = sample_latents(stop - start, generator.z_dim, seed, shard, latent_distribution)
        for first in range(start, stop, batch_size):
            last = min(first + batch_size, stop)
            labels = torch.arange(first, last) % classes
            z = latents[first - start : last - start]
            c = one_hot(labels, classes).float()
            images = render(z, c, noise_sources(seed, first, last))
            yield dict(
                images=to_uint8(images).cpu().numpy(), labels=labels.numpy(), latents=z.numpy()
            )

    info = dict(
        maker="teacher",
        fingerprint=sha256_file(teacher),
        data=record["data"],
        class_names=record["class_names"],
        latent_distribution=latent_distribution,
        truncation=truncation,
        noise_mode=noise_mode,
        seed=seed,
    )
    write_shards(out, n, shard_size, draw, info)


def generate(
    generator: Generator,
    z: np.ndarray | Tensor,
    labels: np.ndarray | Tensor,
    truncation: float = 1.0,
    batch_size: int = 64,
) -> np.ndarray:
    """Make images `(n, 3, 32, 32) uint8` from latents `(n, z_dim)` and labels `(n,)`, in torch."""
    render = choose_backend(generator, "torch", truncation=truncation, batch_size=batch_size)
    latents = torch.as_tensor(z, dtype=torch.float32)
    classes = torch.zeros(len(latents), 0)
    if generator.c_dim:
        classes = one_hot(torch.as_tensor(labels).long(), generator.c_dim).float()
    parts = zip(latents.split(batch_size), classes.split(batch_size), strict=True)
    return np.concatenate([to_uint8(render(*part)).cpu().numpy() for part in parts])


def choose_backend(
    generator: Generator,
    backend: str,
    precision: str = "float32",
    *,
    truncation: float = 1.0,
    noise_mode: str = "const",
    batch_size: int,
) -> Renderer:
    """Return a function of `z (n, z_dim)`, one-hot `c (n, c_dim)` and one noise source an image.

    It gives images `(n, img_channels, res, res) float32`, about [-1, 1]; n is at most
    `batch_size`. `openvino` computes on the CPU, `torch` where the generator is; the precision
    `float16` is that of the blocks which the network marks for it, on a GPU.
    """
    device = next(generator.parameters()).device
    set_precision(generator, precision, device)
    if backend not in BACKENDS:
        raise StudyError(f"sampling_backend {backend!r} is unknown: choose one of {BACKENDS}")
    if backend == "openvino":
        if device.type != "cpu":
            raise StudyError("sampling_backend openvino computes on the CPU: choose torch")
        options = dict(truncation=truncation, noise_mode=noise_mode, batch_size=batch_size)
        return OpenVinoGenerator(generator, **options)

    @torch.inference_mode()
    def render(z: Tensor, c: Tensor, noise: list[torch.Generator] | None = None) -> Tensor:
        set_precision(generator, precision, device)  # another renderer may have changed it
        return generator(
            z.to(device),
            c.to(device),
            truncation_psi=truncation,
            noise_mode=noise_mode,
            noise_generator=noise,
        )

    return render


def set_precision(generator: Generator, precision: str, device: torch.device) -> None:
    """Let a generator compute in `float32`, or in `float16` in the blocks that it marks for it."""
    blocks = [part for part in generator.modules() if isinstance(part, SynthesisBlock)]
    if precision not in ("float32", "float16"):
        raise StudyError(f"sampling_precision {precision!r} is unknown: choose float32 or float16")
    if precision == "float16":
        if device.type != "cuda":
            raise StudyError("sampling_precision float16 needs device: cuda; choose float32")
        if not any(block.marked_fp16 for block in blocks):
            raise StudyError("this teacher marks no blocks for float16: choose float32")
    for block in blocks:
        block.use_fp16 = block.marked_fp16 and precision == "float16"


def noise_sources(seed: int, start: int, stop: int) -> list[torch.Generator]:
    """Return a source of noise for each image: the same however the images are batched."""
    return [torch_generator(seed, "teacher noise", index) for index in range(start, stop)]
