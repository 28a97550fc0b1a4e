"""Layers that the StyleGAN2 generator and discriminator share (Karras et al. 2020).

Learning rates are equalised: a stored weight has unit variance, and its scale is applied at run
time.
"""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lib.common.errors import StudyError
from lib.common.processes import mean
from lib.gan.resampling import FILTER, conv_resample, make_filter

ACTIVATIONS = {
    "linear": (lambda x: x, 1.0),
    "relu": (torch.relu, math.sqrt(2)),
    "lrelu": (lambda x: F.leaky_relu(x, 0.2, inplace=True), math.sqrt(2)),
    "tanh": (torch.tanh, 1.0),
    "sigmoid": (torch.sigmoid, 1.0),
    "elu": (F.elu, 1.0),
    "selu": (F.selu, 1.0),
    "softplus": (F.softplus, 1.0),
    "swish": (F.silu, math.sqrt(2)),
}
HOMOGENEOUS = {"linear", "relu", "lrelu"}  # act(g·x) = g·act(x) for g > 0


def gains(name: str, gain: float = 1.0) -> tuple[float, float]:
    """Return the factors before and after an activation that keep the variance, times `gain`.

    A homogeneous activation carries all of it in its input, at no cost.
    """
    total = ACTIVATIONS[name][1] * gain
    return (total, 1.0) if name in HOMOGENEOUS else (1.0, total)


def activate(x: Tensor, name: str, gain: float = 1.0, clamp: float | None = None) -> Tensor:
    """Apply an activation, then `gain`, then a clamp to ±`clamp`; `x` may be overwritten."""
    x = ACTIVATIONS[name][0](x)
    x = x if gain == 1 else scaled(x, gain)
    if clamp is None:
        return x
    return x.clamp(-clamp, clamp) if x.requires_grad else x.clamp_(-clamp, clamp)


def scaled(x: Tensor, scale: Tensor | float) -> Tensor:
    """Return `x * scale`; `x` is overwritten where no gradient needs it, which saves a pass."""
    return x * scale if x.requires_grad else x.mul_(scale)


def unit_second_moment(x: Tensor) -> Tensor:
    """Scale each row of `(n, features)` to a mean square of one."""
    return x * (x.square().mean(dim=1, keepdim=True) + 1e-8).rsqrt()


class Linear(nn.Module):
    """Fully connected layer with an equalised learning rate and an activation."""

    def __init__(
        self,
        in_features: int,
        out_features: int,
        activation: str = "linear",
        lr_multiplier: float = 1.0,
        bias_init: float = 0.0,
    ):
        super().__init__()
        self.activation = activation
        self.weight = nn.Parameter(torch.randn(out_features, in_features) / lr_multiplier)
        self.bias = nn.Parameter(torch.full([out_features], float(bias_init)))
        self.weight_gain = lr_multiplier / math.sqrt(in_features)
        self.bias_gain = lr_multiplier

    def forward(self, x: Tensor) -> Tensor:
        """Map `(n, in_features)` to `(n, out_features)`."""
        before, after = gains(self.activation)
        weight = self.weight * (self.weight_gain * before)
        bias = self.bias * (self.bias_gain * before)
        return activate(F.linear(x, weight, bias), self.activation, after)


class Conv(nn.Module):
    """Convolution with an equalised learning rate, resampling, bias and activation."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        bias: bool = True,
        activation: str = "linear",
        up: int = 1,
        down: int = 1,
        resample_filter: Sequence[float] | None = FILTER,
        conv_clamp: float | None = None,
    ):
        super().__init__()
        self.activation, self.conv_clamp, self.up, self.down = activation, conv_clamp, up, down
        self.register_buffer("resample_filter", make_filter(resample_filter))
        self.weight = nn.Parameter(torch.randn(out_channels, in_channels, kernel_size, kernel_size))
        self.bias = nn.Parameter(torch.zeros(out_channels)) if bias else None
        self.weight_gain = 1 / math.sqrt(in_channels * kernel_size**2)

    def forward(self, x: Tensor, gain: float = 1.0) -> Tensor:
        """Map `(n, in, h, w)` to `(n, out, h·up/down, w·up/down)`, times `gain`."""
        before, after = gains(self.activation, gain)
        weight = (self.weight * (self.weight_gain * before)).to(x.dtype)
        bias = None if self.bias is None else (self.bias * before).to(x.dtype)
        x = conv_resample(x, weight, self.resample_filter, self.up, self.down, bias)
        clamp = None if self.conv_clamp is None else self.conv_clamp * gain
        return activate(x, self.activation, after, clamp)


class MappingNetwork(nn.Module):
    """Map latents `(n, z_dim)` and labels `(n, c_dim)` to `w (n, w_dim)`.

    With `num_ws` the result is repeated to `(n, num_ws, w_dim)` and may be truncated towards the
    running mean `w_avg`, which training updates.
    """

    def __init__(
        self,
        z_dim: int,
        c_dim: int,
        w_dim: int,
        num_ws: int | None,
        num_layers: int = 8,
        embed_features: int | None = None,
        layer_features: int | None = None,
        activation: str = "lrelu",
        lr_multiplier: float = 0.01,
        w_avg_beta: float | None = 0.995,
    ):
        super().__init__()
        self.z_dim, self.c_dim, self.w_dim, self.num_ws = z_dim, c_dim, w_dim, num_ws
        self.num_layers, self.w_avg_beta = num_layers, w_avg_beta
        embed_features = w_dim if embed_features is None else embed_features
        layer_features = w_dim if layer_features is None else layer_features
        if c_dim > 0:
            self.embed = Linear(c_dim, embed_features)
        inputs = z_dim + (embed_features if c_dim > 0 else 0)
        sizes = [inputs] + [layer_features] * (num_layers - 1) + [w_dim]
        for i in range(num_layers):
            self.add_module(f"fc{i}", Linear(sizes[i], sizes[i + 1], activation, lr_multiplier))
        if num_ws is not None and w_avg_beta is not None:
            self.register_buffer("w_avg", torch.zeros(w_dim))

    def forward(self, z: Tensor | None, c: Tensor | None, truncation_psi: float = 1.0) -> Tensor:
        """Return `w`; `truncation_psi` scales its distance from `w_avg`."""
        parts = [unit_second_moment(z.float())] if self.z_dim > 0 else []
        if self.c_dim > 0:
            parts.append(unit_second_moment(self.embed(c.float())))
        w = torch.cat(parts, dim=1)
        for i in range(self.num_layers):
            w = getattr(self, f"fc{i}")(w)
        if self.training and hasattr(self, "w_avg"):
            batch = mean(w.detach().mean(dim=0))
            self.w_avg.copy_(batch.lerp(self.w_avg, self.w_avg_beta))
        if self.num_ws is not None:
            w = w.unsqueeze(1).repeat(1, self.num_ws, 1)
        if truncation_psi == 1:
            return w
        if not hasattr(self, "w_avg"):
            raise StudyError("truncation needs w_avg: set w_avg_beta, or truncation to 1")
        return self.w_avg.lerp(w, truncation_psi)
