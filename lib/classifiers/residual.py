"""ResNet and RepVGG for 32x32 images, and the latter's fusion for deployment.

He et al. 2016, arXiv 1512.03385, section 4.2; Ding et al. 2021, arXiv 2101.03697.
"""

import copy
from collections import OrderedDict

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def stage(
    block: type[nn.Module], channels_in: int, channels_out: int, blocks: int, stride: int
) -> nn.Sequential:
    """Chain blocks; the first has the stride and changes the number of channels."""
    rest = [block(channels_out, channels_out, 1) for _ in range(blocks - 1)]
    return nn.Sequential(block(channels_in, channels_out, stride), *rest)


class BasicBlock(nn.Module):
    """Add two 3x3 convolutions to a shortcut: a 1x1 convolution where the shape changes."""

    def __init__(self, channels_in: int, channels_out: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels_in, channels_out, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels_out)
        self.conv2 = nn.Conv2d(channels_out, channels_out, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels_out)
        self.downsample: nn.Module | None = None
        if stride != 1 or channels_in != channels_out:
            self.downsample = nn.Sequential(
                nn.Conv2d(channels_in, channels_out, 1, stride, bias=False),
                nn.BatchNorm2d(channels_out),
            )

    def forward(self, x: Tensor) -> Tensor:
        """Map `(n, channels_in, h, w)` to `(n, channels_out, h / stride, w / stride)`."""
        shortcut = x if self.downsample is None else self.downsample(x)
        x = F.relu(self.bn1(self.conv1(x)))
        return F.relu(self.bn2(self.conv2(x)) + shortcut)


class ResNet(nn.Module):
    """Classify 32x32 images with three stages of basic blocks at 32, 16 and 8 pixels.

    The depth is `6 * blocks + 2`; `widths` are the channels of the three stages.
    """

    def __init__(self, blocks: int, widths: tuple[int, int, int], num_classes: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, widths[0], 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(widths[0])
        self.layer1 = stage(BasicBlock, widths[0], widths[0], blocks, 1)
        self.layer2 = stage(BasicBlock, widths[0], widths[1], blocks, 2)
        self.layer3 = stage(BasicBlock, widths[1], widths[2], blocks, 2)
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(widths[2], num_classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x: Tensor) -> Tensor:
        """Map normalised images `(n, 3, 32, 32)` to logits `(n, num_classes)`."""
        x = F.relu(self.bn1(self.conv1(x)))
        x = self.layer3(self.layer2(self.layer1(x)))
        return self.fc(torch.flatten(self.avgpool(x), 1))


def conv_bn(channels_in: int, channels_out: int, kernel: int, stride: int) -> nn.Sequential:
    """Return a convolution without bias, then batch normalisation."""
    conv = nn.Conv2d(channels_in, channels_out, kernel, stride, padding=kernel // 2, bias=False)
    return nn.Sequential(OrderedDict(conv=conv, bn=nn.BatchNorm2d(channels_out)))


class RepVGGBlock(nn.Module):
    """Sum a 3x3, a 1x1 and (where the shape stays) an identity branch, each normalised; then ReLU.

    `fuse` replaces the branches by one 3x3 convolution with bias, `rbr_reparam`.
    """

    def __init__(self, channels_in: int, channels_out: int, stride: int) -> None:
        super().__init__()
        same_shape = stride == 1 and channels_in == channels_out
        self.rbr_identity = nn.BatchNorm2d(channels_in) if same_shape else None
        self.rbr_dense = conv_bn(channels_in, channels_out, 3, stride)
        self.rbr_1x1 = conv_bn(channels_in, channels_out, 1, stride)
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
        self.stage1 = stage(RepVGGBlock, widths[0], widths[1], blocks[0], 1)
        self.stage2 = stage(RepVGGBlock, widths[1], widths[2], blocks[1], 2)
        self.stage3 = stage(RepVGGBlock, widths[2], widths[3], blocks[2], 2)
        self.stage4 = stage(RepVGGBlock, widths[3], widths[4], blocks[3], 2)
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
