"""Layers that the StyleGAN2 generator and discriminator share (Karras et al. 2020).

Learning rates are equalised: a stored weight has unit variance, and its scale is applied at run
time. Resampling filters every ×2 step with a small FIR kernel, as a depthwise convolution.
"""

import math
from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd import Function

from lib.errors import StudyError

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


def check_activation(name: str) -> str:
    """Return `name` if it is a known activation."""
    if name not in ACTIVATIONS:
        raise StudyError(f"activation {name!r} is unknown: choose one of {sorted(ACTIVATIONS)}")
    return name


def activation_gain(name: str) -> float:
    """Return what an activation's output is multiplied by to keep its variance."""
    return ACTIVATIONS[name][1]


def activate(x: Tensor, name: str, gain: float = 1.0, clamp: float | None = None) -> Tensor:
    """Apply an activation, then `gain`, then a clamp to ±`clamp`; `x` may be overwritten."""
    x = ACTIVATIONS[name][0](x)
    x = x if gain == 1 else x * gain
    return x if clamp is None else x.clamp(-clamp, clamp)


def split_gain(name: str, gain: float) -> tuple[float, float]:
    """Split a gain into what the activation's input can carry, at no cost, and the rest.

    For a homogeneous activation, act(g·x) = g·act(x), it is all in the input.
    """
    return (gain, 1.0) if name in HOMOGENEOUS else (1.0, gain)


def unit_second_moment(x: Tensor) -> Tensor:
    """Scale each row of `(n, features)` to a mean square of one."""
    return x * (x.square().mean(dim=1, keepdim=True) + 1e-8).rsqrt()


def make_filter(taps: Sequence | Tensor | None) -> Tensor:
    """Return a FIR kernel that sums to one.

    Up to 7 taps become a square kernel `(k, k)`; 8 or more stay `(k,)` and are applied along
    both axes. None is the identity.
    """
    kernel = torch.as_tensor(1.0 if taps is None else taps, dtype=torch.float32)
    kernel = kernel.reshape(1) if kernel.ndim == 0 else kernel
    if kernel.ndim == 1 and kernel.numel() < 8:
        kernel = torch.outer(kernel, kernel)
    return kernel / kernel.sum()


def _depthwise(kernel: Tensor, x: Tensor, gain: float) -> Tensor:
    """Return the FIR kernel as depthwise weights `(channels, 1, kh, kw)` for `x`."""
    kernel = torch.outer(kernel, kernel) if kernel.ndim == 1 else kernel
    kernel = (kernel * gain).to(x.dtype)
    return kernel.expand(x.shape[1], 1, *kernel.shape)


class LinearMap(Function):
    """Apply a linear map, given with its transpose: differentiable any number of times.

    Cheaper than torch's own second derivative, which treats depthwise kernels one by one.
    """

    @staticmethod
    def forward(ctx, x: Tensor, apply: Callable, transpose: Callable) -> Tensor:
        """Return `apply(x)`."""
        ctx.maps = transpose, apply
        return apply(x)

    @staticmethod
    def backward(ctx, gradient: Tensor) -> tuple[Tensor, None, None]:
        """Return `transpose(gradient)`."""
        return LinearMap.apply(gradient, *ctx.maps), None, None


def fir(x: Tensor, kernel: Tensor, pad: tuple[int, int], down: int = 1, gain: float = 1) -> Tensor:
    """Filter `(n, c, h, w)` padded by `pad` (before, after; negative crops), keep every `down`."""
    if pad[0] != pad[1] or pad[0] < 0:
        x, pad = F.pad(x, (*pad, *pad)), (0, 0)
    weight = _depthwise(kernel, x, gain).flip([2, 3])
    options = dict(stride=down, padding=pad[0], groups=x.shape[1])
    rest = [(side + 2 * pad[0] - weight.shape[-1]) % down for side in x.shape[2:]]

    def apply(x: Tensor) -> Tensor:
        return F.conv2d(x, weight, **options)

    def transpose(y: Tensor) -> Tensor:
        return F.conv_transpose2d(y, weight, output_padding=rest, **options)

    return LinearMap.apply(x, apply, transpose)


def upsample(x: Tensor, kernel: Tensor) -> Tensor:
    """Enlarge `(n, c, h, w)` ×2: insert zeros, filter with a gain of 4."""
    weight = _depthwise(kernel, x, 4)
    taps = weight.shape[-1]
    before = taps - 1 - (taps + 1) // 2
    after = taps - 2 - before
    inside = before if before == after >= 0 else 0
    options = dict(stride=2, padding=inside, groups=x.shape[1])

    def apply(x: Tensor) -> Tensor:
        return F.conv_transpose2d(x, weight, **options)

    def transpose(y: Tensor) -> Tensor:
        return F.conv2d(y, weight, **options)

    x = LinearMap.apply(x, apply, transpose)
    crop = (inside - before, inside - after)
    return x if crop == (0, 0) else F.pad(x, crop * 2)


def downsample(x: Tensor, kernel: Tensor) -> Tensor:
    """Halve `(n, c, h, w)`: filter, keep every second sample."""
    taps = kernel.shape[-1]
    return fir(x, kernel, ((taps - 1) // 2, (taps - 2) // 2), down=2)


def conv_resample(
    x: Tensor,
    weight: Tensor,
    kernel: Tensor,
    up: int = 1,
    down: int = 1,
    bias: Tensor | None = None,
) -> Tensor:
    """Convolve with `weight (out, in, k, k)` (odd k, zero padding), resampling by 1 or 2.

    ×2 is a transposed convolution, then the filter; ÷2 the filter, then a strided convolution.
    """
    size, taps = weight.shape[-1], kernel.shape[-1]
    if up == 2:
        x = _conv_up(x, weight, kernel)
        return x if bias is None else x + bias.view(1, -1, 1, 1)
    if down == 2 and size == 1:
        return F.conv2d(downsample(x, kernel), weight, bias)
    if down == 2:
        pad = (size // 2 + (taps - 1) // 2, size // 2 + (taps - 2) // 2)
        return F.conv2d(fir(x, kernel, pad), weight, bias, stride=2)
    return F.conv2d(x, weight, bias, padding=size // 2)


def _conv_up(x: Tensor, weight: Tensor, kernel: Tensor) -> Tensor:
    size, taps = weight.shape[-1], kernel.shape[-1]
    if size == 1:
        return upsample(F.conv2d(x, weight), kernel)
    before = size // 2 + (taps + 1) // 2 - (size - 1)
    after = size // 2 + (taps - 2) // 2 - (size - 2)
    x = F.conv_transpose2d(x, weight.transpose(0, 1), stride=2)
    return fir(x, kernel, (before, after), gain=4)


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
        self.activation = check_activation(activation)
        self.weight = nn.Parameter(torch.randn(out_features, in_features) / lr_multiplier)
        self.bias = nn.Parameter(torch.full([out_features], float(bias_init)))
        self.weight_gain = lr_multiplier / math.sqrt(in_features)
        self.bias_gain = lr_multiplier

    def forward(self, x: Tensor) -> Tensor:
        """Map `(n, in_features)` to `(n, out_features)`."""
        before, after = split_gain(self.activation, activation_gain(self.activation))
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
        resample_filter: Sequence[float] | None = (1, 3, 3, 1),
        conv_clamp: float | None = None,
    ):
        super().__init__()
        self.activation, self.up, self.down = check_activation(activation), up, down
        self.conv_clamp = conv_clamp
        self.register_buffer("resample_filter", make_filter(resample_filter))
        self.weight = nn.Parameter(
            torch.randn(out_channels, in_channels, kernel_size, kernel_size)
        )
        self.bias = nn.Parameter(torch.zeros(out_channels)) if bias else None
        self.weight_gain = 1 / math.sqrt(in_channels * kernel_size**2)

    def forward(self, x: Tensor, gain: float = 1.0) -> Tensor:
        """Map `(n, in, h, w)` to `(n, out, h·up/down, w·up/down)`, times `gain`."""
        total = activation_gain(self.activation) * gain
        before, after = split_gain(self.activation, total)
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
            layer = Linear(sizes[i], sizes[i + 1], activation, lr_multiplier)
            self.add_module(f"fc{i}", layer)
        if num_ws is not None and w_avg_beta is not None:
            self.register_buffer("w_avg", torch.zeros(w_dim))

    def forward(
        self,
        z: Tensor | None,
        c: Tensor | None,
        truncation_psi: float = 1.0,
        truncation_cutoff: int | None = None,
    ) -> Tensor:
        """Return `w`; `truncation_psi` scales its distance from `w_avg` in the first layers."""
        w = self._map(z, c)
        if self.training and hasattr(self, "w_avg"):
            self.w_avg.copy_(w.detach().mean(dim=0).lerp(self.w_avg, self.w_avg_beta))
        if self.num_ws is not None:
            w = w.unsqueeze(1).repeat(1, self.num_ws, 1)
        return w if truncation_psi == 1 else self._truncate(w, truncation_psi, truncation_cutoff)

    def _map(self, z: Tensor | None, c: Tensor | None) -> Tensor:
        parts = [unit_second_moment(z.float())] if self.z_dim > 0 else []
        if self.c_dim > 0:
            parts.append(unit_second_moment(self.embed(c.float())))
        w = torch.cat(parts, dim=1)
        for i in range(self.num_layers):
            w = getattr(self, f"fc{i}")(w)
        return w

    def _truncate(self, w: Tensor, psi: float, cutoff: int | None) -> Tensor:
        if not hasattr(self, "w_avg"):
            raise StudyError("truncation needs w_avg: set w_avg_beta, or truncation to 1")
        if self.num_ws is None or cutoff is None:
            return self.w_avg.lerp(w, psi)
        return torch.cat([self.w_avg.lerp(w[:, :cutoff], psi), w[:, cutoff:]], dim=1)
