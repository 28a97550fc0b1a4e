"""StyleGAN2-ADA discriminator with label projection (Karras et al. 2020, arXiv 2006.06676)."""

import math

import torch
from torch import Tensor, nn

from lib.common.errors import StudyError
from lib.gan.generator import block_resolutions
from lib.gan.layers import Conv, Linear, MappingNetwork
from lib.gan.resampling import FILTER, downsample, make_filter


def minibatch_std(x: Tensor, group_size: int | None, maps: int) -> Tensor:
    """Append the standard deviation over groups of images to `(n, c, h, w)`, as `maps` more maps.

    With m groups, image i belongs to group i mod m; n must be a multiple of the group's size.
    """
    n, c, h, w = x.shape
    size = n if group_size is None else min(group_size, n)
    if n % size:
        raise StudyError(f"a batch of {n} images does not divide into groups of {size}")
    groups = x.reshape(size, n // size, maps, c // maps, h, w)
    std = (groups.var(dim=0, correction=0) + 1e-8).sqrt().mean(dim=[2, 3, 4])
    std = std.repeat(size, 1)[:, :, None, None].expand(-1, -1, h, w)
    return torch.cat([x, std.to(x.dtype)], dim=1)


class DiscriminatorBlock(nn.Module):
    """The layers of one resolution: image input, convolution, ÷2 convolution.

    `options` are those of `Conv`. `precision` is that of the feature maps; None: of the input.
    """

    precision: torch.dtype | None = None

    def __init__(
        self, inputs: int, width: int, outputs: int, img_channels: int, architecture: str, **options
    ):
        super().__init__()
        self.architecture = architecture
        options = {"activation": "lrelu", "resample_filter": FILTER, **options}
        self.register_buffer("resample_filter", make_filter(options["resample_filter"]))
        if inputs == 0 or architecture == "skip":
            self.fromrgb = Conv(img_channels, width, 1, **options)
        self.conv0 = Conv(width, width, 3, **options)
        self.conv1 = Conv(width, outputs, 3, down=2, **options)
        if architecture == "resnet":
            options = {"resample_filter": options["resample_filter"]}
            self.skip = Conv(width, outputs, 1, bias=False, down=2, **options)

    def forward(self, x: Tensor | None, img: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """Return features at half the resolution, and the image there (skip architecture)."""
        x = x if x is None or self.precision is None else x.to(self.precision)
        if hasattr(self, "fromrgb"):
            y = self.fromrgb(img if self.precision is None else img.to(self.precision))
            x = y if x is None else x + y
            img = downsample(img, self.resample_filter) if self.architecture == "skip" else None
        if self.architecture != "resnet":
            return self.conv1(self.conv0(x)), img
        half = math.sqrt(0.5)
        return self.skip(x, gain=half) + self.conv1(self.conv0(x), gain=half), img


class DiscriminatorEpilogue(nn.Module):
    """The layers at 4×4: minibatch statistics, convolution, logits or label projection."""

    def __init__(
        self,
        in_channels: int,
        cmap_dim: int,
        img_channels: int,
        architecture: str,
        mbstd_group_size: int | None = 4,
        mbstd_num_channels: int = 1,
        activation: str = "lrelu",
        conv_clamp: float | None = None,
    ):
        super().__init__()
        self.cmap_dim, self.architecture = cmap_dim, architecture
        if architecture == "skip":
            self.fromrgb = Conv(img_channels, in_channels, 1, activation=activation)
        self.groups = mbstd_group_size, mbstd_num_channels
        options = dict(activation=activation, conv_clamp=conv_clamp)
        self.conv = Conv(in_channels + mbstd_num_channels, in_channels, 3, **options)
        self.fc = Linear(in_channels * 16, in_channels, activation=activation)
        self.out = Linear(in_channels, cmap_dim if cmap_dim > 0 else 1)

    def forward(self, x: Tensor, img: Tensor | None, cmap: Tensor | None) -> Tensor:
        """Map `(n, in, 4, 4)` and the embedded label `(n, cmap_dim)` to logits `(n, 1)`."""
        x = x.float() if x.dtype == torch.bfloat16 else x
        if self.architecture == "skip":
            x = x + self.fromrgb(img)
        x = minibatch_std(x, *self.groups) if self.groups[1] > 0 else x
        x = self.out(self.fc(self.conv(x).flatten(1)))
        if self.cmap_dim == 0:
            return x
        return (x * cmap).sum(dim=1, keepdim=True) / math.sqrt(self.cmap_dim)


class Discriminator(nn.Module):
    """Tell real images from generated ones, given their labels; any resolution from 8 on."""

    def __init__(
        self,
        c_dim: int,
        img_resolution: int,
        img_channels: int,
        architecture: str = "resnet",
        channel_base: int = 32768,
        channel_max: int = 512,
        conv_clamp: float | None = None,
        cmap_dim: int | None = None,
        block_kwargs: dict | None = None,
        mapping_kwargs: dict | None = None,
        epilogue_kwargs: dict | None = None,
    ):
        super().__init__()
        self.c_dim = c_dim
        self.block_resolutions = block_resolutions(img_resolution, architecture)[:0:-1]
        width = {r: min(channel_base // r, channel_max) for r in [4, *self.block_resolutions]}
        cmap_dim = 0 if c_dim == 0 else width[4] if cmap_dim is None else cmap_dim
        common = dict(img_channels=img_channels, architecture=architecture, conv_clamp=conv_clamp)
        for r in self.block_resolutions:
            inputs = width[r] if r < img_resolution else 0
            options = common | (block_kwargs or {})
            self.add_module(f"b{r}", DiscriminatorBlock(inputs, width[r], width[r // 2], **options))
        if c_dim > 0:
            self.mapping = MappingNetwork(
                0, c_dim, cmap_dim, None, w_avg_beta=None, **(mapping_kwargs or {})
            )
        self.b4 = DiscriminatorEpilogue(width[4], cmap_dim, **common, **(epilogue_kwargs or {}))

    def forward(self, img: Tensor, c: Tensor | None = None) -> Tensor:
        """Return logits `(n, 1)` of images `(n, img_channels, res, res)`; real is positive."""
        return self.maps_and_logits(img, c)[1]

    def maps_and_logits(self, img: Tensor, c: Tensor | None = None) -> tuple[list[Tensor], Tensor]:
        """Return the feature maps at res/2 … 4×4, from the finest on, and the logits."""
        img = img.contiguous(memory_format=torch.channels_last)
        x, maps = None, []
        for resolution in self.block_resolutions:
            x, img = getattr(self, f"b{resolution}")(x, img)
            maps.append(x)
        cmap = self.mapping(None, c) if self.c_dim > 0 else None
        return maps, self.b4(x, img, cmap)
