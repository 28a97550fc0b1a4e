"""The teacher's generator in OpenVINO: the same images as torch's, on a CPU in less time."""

from collections.abc import Sequence

import numpy as np
import openvino as ov
import torch
from torch import Tensor, nn

from lib.common.errors import StudyError
from lib.common.openvino import compile_model, convert
from lib.gan.generator import Generator, draw_noise, noise_sides

TOLERANCE = 1e-3  # between torch and OpenVINO, on images of about [-1, 1]
CHECK_IMAGES = 2


class OpenVinoGenerator:
    """A generator converted for one truncation, noise mode and batch size.

    It computes in float32, which CPUs with AMX would otherwise replace by bfloat16. Raises
    `StudyError` if it makes other images than torch.
    """

    def __init__(
        self, generator: Generator, *, truncation: float, noise_mode: str, batch_size: int
    ):
        self.batch_size, self.classes = batch_size, max(generator.c_dim, 1)
        self.sides = noise_sides(generator) if noise_mode == "random" else []
        traced = _Traced(generator, truncation, noise_mode)
        self.request = _compile(traced, self._example(generator)).create_infer_request()
        self._check(traced, self._example(generator))

    def __call__(
        self, z: Tensor, c: Tensor, noise: Sequence[torch.Generator] | None = None
    ) -> Tensor:
        """Return images `(n, img_channels, res, res) float32`, about [-1, 1].

        `z (n, z_dim)`, `c (n, c_dim)` one-hot (one column of anything where there are no labels),
        `noise` one generator an image where the noise mode is random; n is at most the batch size.
        """
        drawn = [draw_noise(len(z), side, noise) for side in self.sides]
        c = c[:, : self.classes]  # where there are no labels, one column that nothing reads
        padded = [_pad(part.numpy(), self.batch_size) for part in (z, c, *drawn)]
        return torch.from_numpy(self.request.infer(padded)[0][: len(z)].copy())

    def _example(self, generator: Generator) -> list[Tensor]:
        n, draws = self.batch_size, torch.Generator().manual_seed(0)
        shapes = [(n, generator.z_dim)] + [(n, 1, side, side) for side in self.sides]
        z, *noise = (torch.randn(shape, generator=draws) for shape in shapes)
        c = torch.eye(self.classes)[torch.arange(n) % self.classes]
        return [z, c, *noise]

    @torch.inference_mode()
    def _check(self, traced: "_Traced", example: list[Tensor]) -> None:
        found = self.request.infer([part.numpy() for part in example])[0][:CHECK_IMAGES]
        expected = traced(*(part[:CHECK_IMAGES] for part in example)).numpy()
        error = float(np.abs(found - expected).max())
        if not error <= TOLERANCE * max(float(np.abs(expected).max()), 1):
            raise StudyError(
                f"the teacher in OpenVINO differs from torch by {error:.1e}, allowed are "
                f"{TOLERANCE:g}: choose sampling_backend: torch"
            )


class _Traced(nn.Module):
    """The generator as a function of tensors alone."""

    def __init__(self, generator: Generator, truncation: float, noise_mode: str):
        super().__init__()
        self.generator, self.truncation, self.noise_mode = generator, truncation, noise_mode

    def forward(self, z: Tensor, c: Tensor, *noise: Tensor) -> Tensor:
        return self.generator(
            z,
            c,
            truncation_psi=self.truncation,
            noise_mode=self.noise_mode,
            noise_generator=iter(noise),
        )


def _compile(traced: _Traced, example: list[Tensor]) -> ov.CompiledModel:
    model = convert(traced, tuple(example))
    model.reshape({i: list(part.shape) for i, part in enumerate(example)})
    return compile_model(model)


def _pad(batch: np.ndarray, n: int) -> np.ndarray:
    return np.pad(batch, [(0, n - len(batch))] + [(0, 0)] * (batch.ndim - 1))
