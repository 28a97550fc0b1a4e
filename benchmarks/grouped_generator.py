"""A plain StyleGAN2 synthesis with grouped convolutions: what the study's own is compared with.

The straightforward form of the paper (Karras et al. 2020, arXiv 1912.04958, section 2): each image
gets weights of its own, modulated and demodulated, and a batch is one convolution with as many
groups as images. Only the skip architecture with leaky ReLU, constant noise or none and a filter of
up to 7 taps, as in the official CIFAR-10 network. Beside it, the discriminator, plainly.
"""

import math

import torch.nn.functional as F
from torch import Tensor

from lib.gan.discriminator import Discriminator
from lib.gan.generator import Generator, SynthesisLayer, ToRGB
from lib.gan.layers import Conv


def grouped_images(generator: Generator, z: Tensor, c: Tensor) -> Tensor:
    """Return images `(n, 3, res, res) float32` of latents `(n, z_dim)`, one-hot `(n, c_dim)`."""
    ws = list(generator.mapping(z, c).unbind(1))
    x = image = None
    for resolution in generator.synthesis.block_resolutions:
        block = getattr(generator.synthesis, f"b{resolution}")
        if x is None:
            x = block.const.repeat(len(z), 1, 1, 1)
        else:
            x = _layer(block.conv0, x, ws.pop(0))
            image = _upsample(image, block.resample_filter)
        x = _layer(block.conv1, x, ws.pop(0))
        rgb = _to_rgb(block.torgb, x, ws[0])
        image = rgb if image is None else image + rgb
    return image


def plain_logits(discriminator: Discriminator, x: Tensor, c: Tensor) -> Tensor:
    """Return logits `(n, 1)`; only the architecture "orig", in torch's own layout."""
    for resolution in discriminator.block_resolutions:
        block = getattr(discriminator, f"b{resolution}")
        for name in ("fromrgb", "conv0", "conv1"):
            if hasattr(block, name):
                x = _conv(getattr(block, name), x)
    return discriminator.b4(x, None, discriminator.mapping(None, c))


def _conv(conv: Conv, x: Tensor) -> Tensor:
    size = conv.weight.shape[-1]
    x = F.pad(x, [size // 2] * 4)
    if conv.down == 2:
        x = _filter(x, conv.resample_filter, 1)
    x = F.conv2d(x, conv.weight * conv.weight_gain, conv.bias, stride=conv.down)
    return F.leaky_relu(x, 0.2) * math.sqrt(2)


def _layer(layer: SynthesisLayer, x: Tensor, w: Tensor) -> Tensor:
    weight = layer.weight * layer.affine(w)[:, None, :, None, None]
    weight = weight * (weight.square().sum(dim=[2, 3, 4], keepdim=True) + 1e-8).rsqrt()
    if layer.up == 2:
        x = _grouped(F.conv_transpose2d, x, weight.transpose(1, 2), stride=2)
        x = _filter(x, layer.resample_filter, 4)
    else:
        x = _grouped(F.conv2d, x, weight, padding=weight.shape[-1] // 2)
    x = x + layer.bias[:, None, None]
    if layer.use_noise:
        x = x + layer.noise_const * layer.noise_strength
    x = F.leaky_relu(x, 0.2) * math.sqrt(2)
    return x if layer.conv_clamp is None else x.clamp(-layer.conv_clamp, layer.conv_clamp)


def _to_rgb(layer: ToRGB, x: Tensor, w: Tensor) -> Tensor:
    styles = layer.affine(w) * layer.weight_gain
    x = _grouped(F.conv2d, x, layer.weight * styles[:, None, :, None, None])
    x = x + layer.bias[:, None, None]
    return x if layer.conv_clamp is None else x.clamp(-layer.conv_clamp, layer.conv_clamp)


def _grouped(convolve, x: Tensor, weight: Tensor, **options) -> Tensor:
    """Convolve image i of `x (n, in, h, w)` with `weight[i]`."""
    n = len(x)
    x = convolve(x.reshape(1, -1, *x.shape[2:]), weight.flatten(0, 1), groups=n, **options)
    return x.reshape(n, -1, *x.shape[2:])


def _filter(x: Tensor, kernel: Tensor, gain: float) -> Tensor:
    """Filter with one more line around; `(n, c, h, w)` becomes `(n, c, h - 1, w - 1)`."""
    weight = (kernel * gain).expand(x.shape[1], 1, *kernel.shape)
    return F.conv2d(F.pad(x, (1, 1, 1, 1)), weight.flip([2, 3]), groups=x.shape[1])


def _upsample(x: Tensor, kernel: Tensor) -> Tensor:
    """Enlarge ×2: a zero after each pixel, then the filter."""
    n, channels, height, width = x.shape
    zeros = x.new_zeros(n, channels, height, 2, width, 2)
    zeros[:, :, :, 0, :, 0] = x
    x = F.pad(zeros.reshape(n, channels, 2 * height, 2 * width), (2, 1, 2, 1))
    weight = (kernel * 4).expand(channels, 1, *kernel.shape)
    return F.conv2d(x, weight.flip([2, 3]), groups=channels)
