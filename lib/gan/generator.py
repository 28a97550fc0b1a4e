"""StyleGAN2-ADA generator (Karras et al. 2020, arXiv 1912.04958 and 2006.06676).

Parameter and buffer names, shapes and numbers agree with the official PyTorch implementation.
A modulated convolution scales its input by the style and its output by the demodulation, so
that one shared weight serves the whole batch: the same image as with a weight per image, but
faster. Feature maps are kept channels-last.
"""

import math
from collections.abc import Iterator, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lib.common.errors import StudyError
from lib.gan.layers import Conv, Linear, MappingNetwork, activate, gains, scaled
from lib.gan.resampling import FILTER, conv_resample, make_filter, upsample

ARCHITECTURES = ("orig", "skip", "resnet")
NOISE_MODES = ("const", "random", "none")
NoiseSource = torch.Generator | Sequence[torch.Generator] | Iterator[Tensor] | None


def block_resolutions(img_resolution: int, architecture: str) -> list[int]:
    """Return 4, 8, … up to `img_resolution`, which must be a power of two of at least 4."""
    if architecture not in ARCHITECTURES:
        raise StudyError(f"architecture {architecture!r} is unknown: choose {ARCHITECTURES}")
    levels = img_resolution.bit_length() - 1
    if img_resolution != 2**levels or levels < 2:
        raise StudyError(f"img_resolution {img_resolution} must be a power of two from 4 on")
    return [2**level for level in range(2, levels + 1)]


def draw_noise(n: int, side: int, source: NoiseSource) -> Tensor:
    """Return standard normal `(n, 1, side, side)` from one generator or from one an image.

    An iterator gives noise that was drawn before, layer by layer.
    """
    if isinstance(source, Iterator):
        return next(source)
    if isinstance(source, Sequence):
        return torch.cat([draw_noise(1, side, generator) for generator in source])
    device = None if source is None else source.device
    return torch.randn(n, 1, side, side, generator=source, device=device)


class SynthesisLayer(nn.Module):
    """Modulated convolution, noise, bias and activation."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        w_dim: int,
        resolution: int,
        kernel_size: int = 3,
        up: int = 1,
        use_noise: bool = True,
        activation: str = "lrelu",
        resample_filter: Sequence[float] | None = FILTER,
        conv_clamp: float | None = None,
    ):
        super().__init__()
        self.resolution, self.up, self.use_noise = resolution, up, use_noise
        self.activation, self.conv_clamp = activation, conv_clamp
        self.register_buffer("resample_filter", make_filter(resample_filter))
        self.affine = Linear(w_dim, in_channels, bias_init=1)
        self.weight = nn.Parameter(torch.randn(out_channels, in_channels, kernel_size, kernel_size))
        if use_noise:
            self.register_buffer("noise_const", torch.randn(resolution, resolution))
            self.noise_strength = nn.Parameter(torch.zeros([]))
        self.bias = nn.Parameter(torch.zeros(out_channels))

    def forward(
        self, x: Tensor, w: Tensor, noise_mode: str, noise_generator: NoiseSource, gain: float = 1
    ) -> Tensor:
        """Map `x (n, in, h, w)` under `w (n, w_dim)` to `(n, out, h·up, w·up)`, times `gain`."""
        weight, styles = self.weight, self.affine(w)
        if x.dtype == torch.float16:  # limit the range; the demodulation cancels this scale
            largest = weight.abs().amax(dim=[1, 2, 3], keepdim=True)
            weight = weight / (largest * math.sqrt(weight[0].numel()))
            styles = styles / styles.abs().amax(dim=1, keepdim=True)
        # The demodulation: 1 / ‖styles · weight‖ for each image and output channel (eq. 3).
        energy = weight.float().square().sum(dim=[2, 3])
        scale = (styles.float().square() @ energy.T + 1e-8).rsqrt()
        x = x * styles.to(x.dtype)[:, :, None, None]
        x = conv_resample(x, weight.to(x.dtype), self.resample_filter, self.up)
        before, after = gains(self.activation, gain)
        x = scaled(x, (scale * before).to(x.dtype)[:, :, None, None])
        x = x.add_((self.bias * before).to(x.dtype).view(1, -1, 1, 1))
        if self.use_noise and noise_mode != "none":
            noise = self.noise_const
            if noise_mode == "random":
                noise = draw_noise(len(x), self.resolution, noise_generator).to(x.device)
            x = x.add_((noise * self.noise_strength * before).to(x.dtype))
        clamp = None if self.conv_clamp is None else self.conv_clamp * gain
        return activate(x, self.activation, after, clamp)


class ToRGB(nn.Module):
    """Modulated 1×1 convolution to image channels, without demodulation."""

    def __init__(
        self, in_channels: int, out_channels: int, w_dim: int, conv_clamp: float | None = None
    ):
        super().__init__()
        self.conv_clamp = conv_clamp
        self.affine = Linear(w_dim, in_channels, bias_init=1)
        self.weight = nn.Parameter(torch.randn(out_channels, in_channels, 1, 1))
        self.bias = nn.Parameter(torch.zeros(out_channels))
        self.weight_gain = 1 / math.sqrt(in_channels)

    def forward(self, x: Tensor, w: Tensor) -> Tensor:
        """Map `x (n, in, h, w)` to `(n, img_channels, h, w)`."""
        styles = (self.affine(w) * self.weight_gain).to(x.dtype)
        weight, bias = self.weight.to(x.dtype), self.bias.to(x.dtype)
        x = F.conv2d(x * styles[:, :, None, None], weight, bias)
        return activate(x, "linear", clamp=self.conv_clamp)


class SynthesisBlock(nn.Module):
    """The layers of one resolution: ×2 convolution, convolution, image output.

    `precision` is that of its feature maps; `use_fp16` marks blocks that may have float16 on a GPU.
    """

    precision = torch.float32

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        w_dim: int,
        resolution: int,
        img_channels: int,
        is_last: bool,
        architecture: str = "skip",
        resample_filter: Sequence[float] | None = FILTER,
        conv_clamp: float | None = None,
        use_fp16: bool = False,
        **layer_kwargs,
    ):
        super().__init__()
        self.in_channels, self.architecture, self.use_fp16 = in_channels, architecture, use_fp16
        self.register_buffer("resample_filter", make_filter(resample_filter))
        common = dict(resample_filter=resample_filter, conv_clamp=conv_clamp)
        style = dict(w_dim=w_dim, resolution=resolution, **common, **layer_kwargs)
        if in_channels == 0:
            self.const = nn.Parameter(torch.randn(out_channels, resolution, resolution))
        else:
            self.conv0 = SynthesisLayer(in_channels, out_channels, up=2, **style)
        self.conv1 = SynthesisLayer(out_channels, out_channels, **style)
        self.num_conv = 1 if in_channels == 0 else 2
        self.num_torgb = int(is_last or architecture == "skip")
        if self.num_torgb:
            self.torgb = ToRGB(out_channels, img_channels, w_dim, conv_clamp=conv_clamp)
        if in_channels != 0 and architecture == "resnet":
            resample = dict(up=2, resample_filter=resample_filter)
            self.skip = Conv(in_channels, out_channels, 1, bias=False, **resample)

    def forward(
        self, x: Tensor | None, img: Tensor | None, ws: Tensor, **noise
    ) -> tuple[Tensor, Tensor | None]:
        """Return the features `(n, out, r, r)` and the image so far `(n, img_channels, r, r)`."""
        gain = math.sqrt(0.5) if hasattr(self, "skip") else 1.0
        if self.in_channels == 0:
            y = self.const.to(self.precision).expand(ws.shape[0], *self.const.shape)
            y = y.contiguous(memory_format=torch.channels_last)
        else:
            x = x.to(self.precision)
            y = self.conv0(x, ws[:, 0], **noise)
        y = self.conv1(y, ws[:, self.num_conv - 1], gain=gain, **noise)
        x = self.skip(x, gain=gain) + y if hasattr(self, "skip") else y
        if img is not None:
            img = upsample(img, self.resample_filter)
        if self.num_torgb:
            rgb = self.torgb(x, ws[:, self.num_conv]).float()
            img = rgb if img is None else img + rgb
        return x, img


class SynthesisNetwork(nn.Module):
    """Map `ws (n, num_ws, w_dim)` to images through blocks of growing resolution."""

    def __init__(
        self,
        w_dim: int,
        img_resolution: int,
        img_channels: int,
        channel_base: int = 32768,
        channel_max: int = 512,
        num_fp16_res: int = 0,
        **block_kwargs,
    ):
        super().__init__()
        block_kwargs.pop("fp16_channels_last", None)  # feature maps are always channels-last
        architecture = block_kwargs.get("architecture", "skip")
        self.block_resolutions = block_resolutions(img_resolution, architecture)
        half_from = max(2 ** (img_resolution.bit_length() - num_fp16_res), 8)  # the highest ones
        channels, self.num_ws = 0, 0
        for resolution in self.block_resolutions:
            width = min(channel_base // resolution, channel_max)
            last = resolution == img_resolution
            block = SynthesisBlock(
                channels,
                width,
                w_dim,
                resolution,
                img_channels,
                is_last=last,
                use_fp16=num_fp16_res > 0 and resolution >= half_from,
                **block_kwargs,
            )
            self.add_module(f"b{resolution}", block)
            self.num_ws += block.num_conv + (block.num_torgb if last else 0)
            channels = width

    def forward(self, ws: Tensor, **noise) -> Tensor:
        """Return images `(n, img_channels, res, res) float32`, about [-1, 1]."""
        x = img = None
        first, ws = 0, ws.float()
        for resolution in self.block_resolutions:
            block = getattr(self, f"b{resolution}")
            x, img = block(x, img, ws[:, first : first + block.num_conv + 1], **noise)
            first += block.num_conv
        return img


class Generator(nn.Module):
    """Mapping and synthesis network; the arguments are those of the official class.

    `config` holds them, JSON-able, to build the same network again.
    """

    def __init__(
        self,
        z_dim: int,
        c_dim: int,
        w_dim: int,
        img_resolution: int,
        img_channels: int,
        mapping_kwargs: dict | None = None,
        synthesis_kwargs: dict | None = None,
    ):
        super().__init__()
        mapping, synthesis = dict(mapping_kwargs or {}), dict(synthesis_kwargs or {})
        self.config = {"z_dim": z_dim, "c_dim": c_dim, "w_dim": w_dim}
        self.config |= {"img_resolution": img_resolution, "img_channels": img_channels}
        self.config |= {"mapping_kwargs": mapping, "synthesis_kwargs": synthesis}
        self.z_dim, self.c_dim = z_dim, c_dim
        self.synthesis = SynthesisNetwork(w_dim, img_resolution, img_channels, **synthesis)
        self.num_ws = self.synthesis.num_ws
        self.mapping = MappingNetwork(z_dim, c_dim, w_dim, self.num_ws, **mapping)

    def forward(
        self,
        z: Tensor,
        c: Tensor | None = None,
        truncation_psi: float = 1.0,
        noise_mode: str = "random",
        noise_generator: NoiseSource = None,
    ) -> Tensor:
        """Return images `(n, img_channels, res, res) float32`, about [-1, 1].

        `z (n, z_dim)` is standard normal, `c (n, c_dim)` one-hot. `noise_mode` is `const` (the
        stored noise: an image depends on z and c alone), `random` (from `noise_generator`, one or
        one an image, by default the global one, or the noise itself, layer by layer) or `none`.
        """
        if noise_mode not in NOISE_MODES:
            raise StudyError(f"noise_mode {noise_mode!r} is unknown: choose one of {NOISE_MODES}")
        ws = self.mapping(z, c, truncation_psi)
        return self.synthesis(ws, noise_mode=noise_mode, noise_generator=noise_generator)


def noise_sides(generator: Generator) -> list[int]:
    """Return the sides of the noise maps that a generator draws, in their order."""
    layers = [part for part in generator.modules() if isinstance(part, SynthesisLayer)]
    return [layer.resolution for layer in layers if layer.use_noise]
