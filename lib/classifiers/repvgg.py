"""RepVGG for 32x32 images, with its fusion for deployment (Ding et al. 2021, arXiv 2101.03697)."""

import copy

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class ConvBN(nn.Sequential):
    """A convolution without bias, then batch normalisation."""

    def __init__(self, channels_in: int, channels_out: int, kernel: int, stride: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(
            channels_in, channels_out, kernel, stride, padding=kernel // 2, bias=False
        )
        self.bn = nn.BatchNorm2d(channels_out)


class RepVGGBlock(nn.Module):
    """Sum a 3x3, a 1x1 and (where the shape stays) an identity branch, each normalised; then ReLU.

    `fuse` replaces the branches by one 3x3 convolution with bias, `rbr_reparam`.
    """

    def __init__(self, channels_in: int, channels_out: int, stride: int) -> None:
        super().__init__()
        same_shape = stride == 1 and channels_in == channels_out
        self.rbr_identity = nn.BatchNorm2d(channels_in) if same_shape else None
        self.rbr_dense = ConvBN(channels_in, channels_out, 3, stride)
        self.rbr_1x1 = ConvBN(channels_in, channels_out, 1, stride)
        self.rbr_reparam: nn.Conv2d | None = None

    def forward(self, x: Tensor) -> Tensor:
        """Map `(n, channels_in, h, w)` to `(n, channels_out, h / stride, w / stride)`."""
        if self.rbr_reparam is not None:
            return F.relu(self.rbr_reparam(x))
        total = self.rbr_dense(x) + self.rbr_1x1(x)
        if self.rbr_identity is not None:
            total = total + self.rbr_identity(x)
        return F.relu(total)

    @torch.no_grad()
    def fuse(self) -> None:
        """Replace the branches by their sum as one 3x3 convolution; running statistics are used."""
        if self.rbr_reparam is not None:
            return
        dense, point = self.rbr_dense.conv, F.pad(self.rbr_1x1.conv.weight, (1, 1, 1, 1))
        branches = [_fold(dense.weight, self.rbr_dense.bn), _fold(point, self.rbr_1x1.bn)]
        if self.rbr_identity is not None:
            same = nn.init.dirac_(torch.empty_like(dense.weight))
            branches.append(_fold(same, self.rbr_identity))
        kernel, bias = (sum(part) for part in zip(*branches, strict=True))
        fused = nn.Conv2d(dense.in_channels, dense.out_channels, 3, dense.stride, padding=1)
        fused.to(dense.weight.device)
        fused.weight.copy_(kernel)
        fused.bias.copy_(bias)
        self.rbr_reparam = fused
        self.rbr_identity = self.rbr_dense = self.rbr_1x1 = None


class RepVGG(nn.Module):
    """Classify 32x32 images with a first block and four stages at 32, 16, 8 and 4 pixels.

    `widths` are the channels of the first block and of the stages; `blocks` counts the stages'.
    """

    def __init__(self, blocks: tuple[int, ...], widths: tuple[int, ...], num_classes: int) -> None:
        super().__init__()
        self.stage0 = RepVGGBlock(3, widths[0], stride=1)
        self.stage1 = _stage(widths[0], widths[1], blocks[0], stride=1)
        self.stage2 = _stage(widths[1], widths[2], blocks[1], stride=2)
        self.stage3 = _stage(widths[2], widths[3], blocks[2], stride=2)
        self.stage4 = _stage(widths[3], widths[4], blocks[3], stride=2)
        self.gap = nn.AdaptiveAvgPool2d(1)
        self.linear = nn.Linear(widths[4], num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """Map normalised images `(n, 3, 32, 32)` to logits `(n, num_classes)`."""
        x = self.stage2(self.stage1(self.stage0(x)))
        x = self.stage4(self.stage3(x))
        return self.linear(torch.flatten(self.gap(x), 1))


def fuse_repvgg(model: nn.Module) -> nn.Module:
    """Return a copy of `model` in eval mode whose RepVGG blocks are one 3x3 convolution each."""
    fused = copy.deepcopy(model).eval()
    for module in fused.modules():
        if isinstance(module, RepVGGBlock):
            module.fuse()
    return fused


def _fold(kernel: Tensor, bn: nn.BatchNorm2d) -> tuple[Tensor, Tensor]:
    """Fold a normalisation into the kernel before it; float64 `(out, in, k, k)` and `(out,)`."""
    scale = bn.weight.double() / torch.sqrt(bn.running_var.double() + bn.eps)
    bias = bn.bias.double() - bn.running_mean.double() * scale
    return kernel.double() * scale[:, None, None, None], bias


def _stage(channels_in: int, channels_out: int, blocks: int, stride: int) -> nn.Sequential:
    rest = [RepVGGBlock(channels_out, channels_out, 1) for _ in range(blocks - 1)]
    return nn.Sequential(RepVGGBlock(channels_in, channels_out, stride), *rest)
