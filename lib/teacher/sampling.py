"""Load a teacher and draw sample sets from it, in torch or in OpenVINO.

On a CPU OpenVINO makes the same images in less time.
"""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import one_hot

from lib.common.errors import StudyError
from lib.common.files import sha256_file
from lib.common.openvino import compile_model, convert
from lib.common.processes import launch
from lib.common.seeds import torch_generator
from lib.common.tensors import fill_module, load_tensors
from lib.data.samples import to_uint8, write_shards
from lib.gan.generator import Generator, SynthesisBlock, draw_noise, noise_sides
from lib.teacher.official.arguments import check_arguments
from lib.teacher.official.reader import load_network
from lib.teacher.options import SamplingOptions

SUFFIXES = (".pkl", ".safetensors")
Renderer = Callable[..., Tensor]
BACKENDS = ("openvino", "torch")
LATENTS = {"normal": torch.randn, "uniform": torch.rand}  # uniform: as the original study drew
TOLERANCE = 1e-3  # between torch and OpenVINO, on images of about [-1, 1]
CHECK_IMAGES = 2


def open_teacher(path: Path | str, device: str = "cpu") -> tuple[Generator, dict]:
    """Return the averaged generator in eval mode, frozen, and its record.

    The record holds `generator` (the constructor's arguments), `class_names` and `data`, which
    are empty for an official pickle: it names neither classes nor data.
    """
    path = Path(path)
    if path.suffix.lower() not in SUFFIXES:
        raise StudyError(
            f"{path} is no teacher file: give one that ends in {' or '.join(SUFFIXES)}"
        )
    if path.suffix.lower() == ".pkl":
        generator = load_network(path)
        record = {"generator": generator.config, "class_names": [], "data": ""}
    else:
        state, record = load_tensors(path)
        generator = fill_module(Generator(**_arguments(state, record, path)), state, path)
    return generator.to(device).eval().requires_grad_(False), record


def _arguments(state: dict[str, Tensor], record: dict, path: Path) -> dict:
    """Return the constructor's arguments, checked before memory is taken for what they ask for."""
    arguments = record.get("generator") if isinstance(record, dict) else None
    if not isinstance(arguments, dict) or not isinstance(record.get("class_names"), list):
        raise StudyError(f"{path} holds no teacher: give the file that teacher training wrote")
    try:
        check_arguments("Generator", arguments)
    except StudyError as error:
        raise StudyError(f"{path}: {error}") from None
    with torch.device("meta"):
        expected = Generator(**arguments).state_dict()
    if {k: v.shape for k, v in expected.items()} != {k: v.shape for k, v in state.items()}:
        raise StudyError(f"{path} holds other weights than its record says: make it again")
    return arguments


def load_teacher(path: Path | str, device: str = "cpu") -> Generator:
    """Return the generator of a teacher file in eval mode, its weights frozen."""
    return open_teacher(path, device)[0]


def sample_teacher(
    out: Path,
    *,
    teacher: Path,
    seed: int,
    options: SamplingOptions,
    device: str = "cpu",
    num_processes: int = 1,
) -> None:
    """Draw `options.per_class` images of each class into the sample set `out`, shard by shard.

    Labels cycle through the classes, so that every shard is balanced. An interrupted run keeps
    its finished shards and ends in the same bytes; batch size and backend change no more than
    rounding. Several processes divide the shards among them, which changes nothing in the set.
    """
    if num_processes > 1:
        given = {"teacher": teacher, "seed": seed, "options": options, "device": device}
        return launch(sample_teacher, num_processes, out, **given)
    generator, record = open_teacher(teacher, device)
    classes = len(record["class_names"])
    if not classes or generator.c_dim != classes:
        fault = f"{teacher} takes {generator.c_dim} labels for {classes} class names"
        raise StudyError(f"{fault}: give it these first (lib.teacher.adopt_teacher)")
    n = options.per_class * classes
    batch_size = min(options.batch_size, options.shard_size, n)
    how = {"truncation": options.truncation, "noise_mode": options.noise_mode}
    render = choose_backend(
        generator, options.backend, options.precision, batch_size=batch_size, **how
    )

    def draw(shard: int, start: int, stop: int) -> Iterator[dict[str, np.ndarray]]:
        draws, size = torch_generator(seed, "teacher", shard), (stop - start, generator.z_dim)
        latents = LATENTS[options.latent_distribution](size, generator=draws)
        for first in range(start, stop, batch_size):
            last = min(first + batch_size, stop)
            labels = torch.arange(first, last) % classes
            z = latents[first - start : last - start]
            noise = [torch_generator(seed, "teacher noise", index) for index in range(first, last)]
            images = to_uint8(render(z, one_hot(labels, classes).float(), noise)).cpu()
            yield dict(images=images.numpy(), labels=labels.numpy(), latents=z.numpy())

    info = dict(
        maker="teacher",
        fingerprint=sha256_file(teacher),
        data=record["data"],
        class_names=record["class_names"],
        latent_distribution=options.latent_distribution,
        seed=seed,
        **how,
    )
    write_shards(out, n, options.shard_size, draw, info)


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
    if backend == "openvino":
        if device.type != "cpu":
            raise StudyError("sampling_backend openvino computes on the CPU: choose torch")
        return OpenVinoGenerator(generator, truncation, noise_mode, batch_size)

    @torch.inference_mode()
    def render(z: Tensor, c: Tensor, noise: Sequence[torch.Generator] | None = None) -> Tensor:
        set_precision(generator, precision, device)  # another renderer may have changed it
        return generator(z.to(device), c.to(device), truncation, noise_mode, noise)

    return render


def set_precision(generator: Generator, precision: str, device: torch.device) -> None:
    """Let a generator compute in `float32`, or in `float16` in the blocks that it marks for it."""
    blocks = [part for part in generator.modules() if isinstance(part, SynthesisBlock)]
    if precision == "float16":
        if device.type != "cuda":
            raise StudyError("sampling_precision float16 needs device: cuda; choose float32")
        if not any(block.use_fp16 for block in blocks):
            raise StudyError("this teacher marks no blocks for float16: choose float32")
    for block in blocks:
        half = block.use_fp16 and precision == "float16"
        block.precision = torch.float16 if half else torch.float32


class OpenVinoGenerator:
    """A generator converted for one truncation, noise mode and batch size, in float32.

    Raises `StudyError` if it makes other images than torch.
    """

    def __init__(self, generator: Generator, truncation: float, noise_mode: str, batch_size: int):
        self.batch_size, self.classes = batch_size, max(generator.c_dim, 1)
        self.sides = noise_sides(generator) if noise_mode == "random" else []
        traced = _Traced(generator, truncation, noise_mode)
        example = self._example(generator)
        model = convert(traced, tuple(example))
        model.reshape({i: list(part.shape) for i, part in enumerate(example)})
        self.request = compile_model(model).create_infer_request()
        self._check(traced, self._example(generator))

    def __call__(
        self, z: Tensor, c: Tensor, noise: Sequence[torch.Generator] | None = None
    ) -> Tensor:
        """Return images: see `choose_backend`."""
        c = c[:, : self.classes]  # where there are no labels, one column that nothing reads
        parts = [z, c, *(draw_noise(len(z), side, noise) for side in self.sides)]
        missing = self.batch_size - len(z)
        padded = [torch.cat([x, x.new_zeros(missing, *x.shape[1:])]).numpy() for x in parts]
        return torch.from_numpy(self.request.infer(padded)[0][: len(z)].copy())

    def _example(self, generator: Generator) -> list[Tensor]:
        n, draws = self.batch_size, torch.Generator().manual_seed(0)
        shapes = [(n, generator.z_dim)] + [(n, 1, side, side) for side in self.sides]
        z, *noise = (torch.randn(shape, generator=draws) for shape in shapes)
        c = torch.eye(self.classes)[torch.arange(n) % self.classes]
        return [z, c, *noise]

    @torch.inference_mode()
    def _check(self, traced: nn.Module, example: list[Tensor]) -> None:
        found = self.request.infer([part.numpy() for part in example])[0][:CHECK_IMAGES]
        expected = traced(*(part[:CHECK_IMAGES] for part in example)).numpy()
        error = float(np.abs(found - expected).max())
        if not error <= TOLERANCE * max(float(np.abs(expected).max()), 1):
            fault = f"differs from torch by {error:.1e}, allowed are {TOLERANCE:g}"
            raise StudyError(f"the teacher in OpenVINO {fault}: choose sampling_backend: torch")


class _Traced(nn.Module):
    """The generator as a function of tensors alone."""

    def __init__(self, generator: Generator, truncation: float, noise_mode: str):
        super().__init__()
        self.generator, self.truncation, self.noise_mode = generator, truncation, noise_mode

    def forward(self, z: Tensor, c: Tensor, *noise: Tensor) -> Tensor:
        return self.generator(z, c, self.truncation, self.noise_mode, iter(noise))
