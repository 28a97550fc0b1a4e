"""DiStyleGAN: the student and its discriminator.

At the original's sizes (z_dim 512, c_dim 10, ngf 256, project_dim 128, nc 3; ndf 128) the student
has 2,054,368 parameters.
Labels are one-hot rows `(n, c_dim) float32`, images `(n, nc, 32, 32) float32` in [-1, 1].
The names of the parameters are those of the published checkpoints.
"""

from itertools import pairwise

import torch
from torch import nn
from torch.nn import functional as F
from torch.nn.utils import spectral_norm


class UpsampleBlock(nn.Sequential):
    """Nearest ×2, 3×3 convolution, BatchNorm, GLU: `(n, a, h, w)` to `(n, b, 2h, 2w)`.

    While `fused`, the first two are one transposed convolution, which gives the same with less
    than half the arithmetic.
    """

    fused = True

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(
            nn.Upsample(scale_factor=2, mode="nearest"),
            nn.Conv2d(inputs, 2 * outputs, 3, padding=1, bias=False),
            nn.BatchNorm2d(2 * outputs),
            nn.GLU(1),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if not self.fused:
            return super().forward(x)
        # along each axis, the 4 taps of the transposed kernel from the 3 of the plain one
        taps = x.new_tensor([[0, 0, 1], [0, 1, 1], [1, 1, 0], [1, 0, 0]], dtype=torch.float32)
        kernel = torch.einsum("ax,by,oixy->ioab", taps, taps, self[1].weight)
        x = F.conv_transpose2d(x, kernel, stride=2, padding=1)
        for module in list(self)[2:]:
            x = module(x)
        return x


def dense_block(inputs: int, outputs: int) -> nn.Sequential:
    """Return linear, BatchNorm, GLU: `(n, inputs)` to `(n, outputs)`."""
    return nn.Sequential(
        nn.Linear(inputs, 2 * outputs, bias=False), nn.BatchNorm1d(2 * outputs), nn.GLU(1)
    )


def initialize(module: nn.Module) -> None:
    """Fill matrices and kernels orthogonally, BatchNorm weights from N(1, 0.02), biases with 0."""
    for name, parameter in module.named_parameters():
        if parameter.ndim > 1:
            nn.init.orthogonal_(parameter)
        elif name.endswith("weight"):
            nn.init.normal_(parameter, 1.0, 0.02)
        else:
            nn.init.zeros_(parameter)


class Generator(nn.Module):
    """Latents `(n, z_dim)` and one-hot labels `(n, c_dim)` to images `(n, nc, 32, 32)`."""

    def __init__(self, z_dim: int, c_dim: int, ngf: int, project_dim: int, nc: int) -> None:
        super().__init__()
        self.z_dim, self.c_dim, self.ngf = z_dim, c_dim, ngf
        self.project = dense_block(z_dim, project_dim)
        self.fc = dense_block(project_dim + c_dim, ngf * 16)
        self.upsample1 = UpsampleBlock(ngf, ngf // 2)
        self.upsample2 = UpsampleBlock(ngf // 2, ngf // 4)
        self.upsample3 = UpsampleBlock(ngf // 4, ngf // 8)
        self.img = nn.Sequential(nn.Conv2d(ngf // 8, nc, 3, padding=1, bias=False), nn.Tanh())
        initialize(self)

    def forward(self, z: torch.Tensor, c: torch.Tensor) -> torch.Tensor:
        x = self.fc(torch.cat([self.project(z), c], dim=1))
        x = self.upsample1(x.unflatten(1, (self.ngf, 4, 4)))
        return self.img(self.upsample3(self.upsample2(x)))


class Discriminator(nn.Module):
    """Images and one-hot labels to four feature maps and logits `(n, 1)`.

    The label enters before the last linear layer only, so that the logit is f(φ(x)) + b_c, whose
    gradient with respect to the image knows no class. Spectral normalisation: Miyato et al. 2018,
    arXiv 1802.05957.
    """

    def __init__(self, ndf: int, c_dim: int, project_dim: int, nc: int) -> None:
        super().__init__()
        self.netD = nn.ModuleList(
            nn.Sequential(
                spectral_norm(nn.Conv2d(inputs, outputs, 4, stride=2, padding=1)),
                nn.LeakyReLU(0.2, inplace=True),
            )
            for inputs, outputs in pairwise([nc, ndf, ndf, 2 * ndf, 4 * ndf])
        )
        self.project = nn.Sequential(
            spectral_norm(nn.Linear(4 * ndf * 4, 2 * project_dim, bias=False)), nn.GLU(1)
        )
        self.output = nn.Linear(project_dim + c_dim, 1, bias=False)
        initialize(self)

    def forward(self, x: torch.Tensor, c: torch.Tensor) -> tuple[list[torch.Tensor], torch.Tensor]:
        features = []
        for block in self.netD:
            x = block(x)
            features.append(x)
        return features, self.output(torch.cat([self.project(x.flatten(1)), c], dim=1))
