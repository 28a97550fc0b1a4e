"""Resampling by 2 with FIR filters, as StyleGAN2 does around its convolutions.

The filters are depthwise convolutions: on channels-last feature maps the fastest form on a CPU.
"""

from collections.abc import Callable, Sequence
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd import Function

FILTER = (1, 3, 3, 1)


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
    return kernel.expand(int(x.shape[1]), 1, *kernel.shape)


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


def linear_map(x: Tensor, apply: Callable, transpose: Callable) -> Tensor:
    """Return `apply(x)`, differentiable by `transpose` where gradients are asked for."""
    wanted = x.requires_grad and torch.is_grad_enabled()
    return LinearMap.apply(x, apply, transpose) if wanted else apply(x)


def fir(x: Tensor, kernel: Tensor, pad: tuple[int, int], down: int = 1, gain: float = 1) -> Tensor:
    """Filter `(n, c, h, w)` padded by `pad` (before, after; negative crops), keep every `down`."""
    if pad[0] != pad[1] or pad[0] < 0:
        x, pad = F.pad(x, (*pad, *pad)), (0, 0)
    weight = _depthwise(kernel, x, gain).flip([2, 3])
    options = dict(weight=weight, stride=down, padding=pad[0], groups=x.shape[1])
    rest = [(side + 2 * pad[0] - weight.shape[-1]) % down for side in x.shape[2:]]
    transpose = partial(F.conv_transpose2d, output_padding=rest, **options)
    return linear_map(x, partial(F.conv2d, **options), transpose)


def upsample(x: Tensor, kernel: Tensor) -> Tensor:
    """Enlarge `(n, c, h, w)` ×2: insert zeros, filter with a gain of 4."""
    weight = _depthwise(kernel, x, 4)
    taps = weight.shape[-1]
    before = taps - 1 - (taps + 1) // 2
    after = taps - 2 - before
    inside = before if before == after >= 0 else 0
    options = dict(weight=weight, stride=2, padding=inside, groups=x.shape[1])
    x = linear_map(x, partial(F.conv_transpose2d, **options), partial(F.conv2d, **options))
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
        if size == 1:
            x = upsample(F.conv2d(x, weight), kernel)
        else:
            pad = ((taps + 1) // 2 - size // 2, (taps - 2) // 2 - size // 2 + 1)
            x = F.conv_transpose2d(x, weight.transpose(0, 1), stride=2)
            x = fir(x, kernel, pad, gain=4)
        return x if bias is None else x + bias.view(1, -1, 1, 1)
    if down == 2 and size == 1:
        return F.conv2d(downsample(x, kernel), weight, bias)
    if down == 2:
        pad = (size // 2 + (taps - 1) // 2, size // 2 + (taps - 2) // 2)
        return F.conv2d(fir(x, kernel, pad), weight, bias, stride=2)
    return F.conv2d(x, weight, bias, padding=size // 2)
