"""The StyleGAN2 networks against numbers of the original implementation."""

import json

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from lib.common.errors import StudyError
from lib.gan.discriminator import Discriminator, minibatch_std
from lib.gan.generator import Generator
from lib.gan.resampling import conv_resample, downsample, fir, make_filter, upsample
from tests.gan.conftest import DATA, fill, read_keys, tiny_generator, tiny_inputs


@pytest.fixture(scope="module")
def small() -> tuple[Generator, dict]:
    generator = fill(Generator(**read_keys("small")["init_kwargs"])).eval()
    with np.load(DATA / "small.npz") as file:
        return generator, {name: torch.from_numpy(file[name]) for name in file}


@pytest.mark.parametrize("name", ["small", "cifar"])
def test_names_shapes_and_counts_are_those_of_the_original(name):
    keys = read_keys(name)
    with torch.device("meta"):
        generator = Generator(**keys["init_kwargs"])
    found = [[k, list(v.shape), str(v.dtype)[6:]] for k, v in generator.state_dict().items()]
    assert found == keys["state_dict"]
    assert [k for k, _ in generator.named_parameters()] == keys["parameters"]
    assert [k for k, _ in generator.named_buffers()] == keys["buffers"]
    assert sum(p.numel() for p in generator.parameters()) == keys["num_params"]
    assert generator.num_ws == keys["num_ws"]
    blocks = {r: getattr(generator.synthesis, f"b{r}") for r in keys["use_fp16"]}
    assert {r: block.use_fp16 for r, block in blocks.items()} == keys["use_fp16"]


@pytest.mark.parametrize(
    ("expected", "options"),
    [
        ("img_psi1_const", {"noise_mode": "const"}),
        ("img_psi0.7_const", {"noise_mode": "const", "truncation_psi": 0.7}),
        ("img_psi1_none", {"noise_mode": "none"}),
    ],
)
def test_images_are_those_of_the_original(small, expected, options):
    generator, reference = small
    with torch.no_grad():
        images = generator(reference["z"], reference["labels"], **options)
    torch.testing.assert_close(images, reference[expected], rtol=0, atol=2e-5)


def test_w_is_that_of_the_original(small):
    generator, reference = small
    for psi, name in ((1, "w"), (0.7, "w_psi0.7")):
        w = generator.mapping(reference["z"], reference["labels"], psi)
        assert w.shape == (6, 8, 64)
        torch.testing.assert_close(w[:, 5], reference[name], rtol=0, atol=2e-5)


def test_config_builds_the_same_network(small):
    generator, _ = small
    again = Generator(**json.loads(json.dumps(generator.config)))
    again.load_state_dict(generator.state_dict())
    assert again.config == read_keys("small")["init_kwargs"]


@pytest.mark.parametrize(
    "options",
    [
        {"img_resolution": 4, "c_dim": 0},
        {"img_resolution": 64, "img_channels": 1},
        {"synthesis": {"architecture": "orig"}},
        {"synthesis": {"architecture": "resnet"}},
        {"synthesis": {"resample_filter": [1, 2, 1]}},
        {"synthesis": {"resample_filter": [1, 3, 5, 7, 5, 3, 1, 1, 1]}},
        {"synthesis": {"resample_filter": None}},
        {"synthesis": {"activation": "swish", "use_noise": False}},
        {"synthesis": {"activation": "tanh", "conv_clamp": 0.5, "kernel_size": 1}},
        {"mapping_kwargs": {"num_layers": 3, "embed_features": 4, "layer_features": 9}},
        {"mapping_kwargs": {"activation": "relu", "lr_multiplier": 0.02, "w_avg_beta": None}},
    ],
    ids=str,
)
def test_shared_weights_equal_weights_per_image(options):
    generator = tiny_generator(**options)
    z, c = tiny_inputs()
    with torch.no_grad():
        expected = slow_images(generator, generator.mapping(z, c))
        images = generator(z, c, noise_mode="const")
    assert images.std() > 0.01
    torch.testing.assert_close(images, expected, rtol=1e-4, atol=1e-5)


def slow_images(generator: Generator, ws: torch.Tensor) -> torch.Tensor:
    """Synthesise in the textbook way: zeros inserted, a filter, one weight for each image."""
    ws, x, image = list(ws.unbind(1)), None, None
    for resolution in generator.synthesis.block_resolutions:
        block = getattr(generator.synthesis, f"b{resolution}")
        residual = block.architecture == "resnet" and x is not None
        gain = 0.5**0.5 if residual else 1.0
        before = x
        if x is None:
            x = block.const.expand(len(ws[0]), *block.const.shape)
        else:
            x = slow_layer(block.conv0, x, ws.pop(0))
        x = slow_layer(block.conv1, x, ws.pop(0), gain)
        if residual:
            weight = block.skip.weight * block.skip.weight_gain
            x = x + gain * slow_up(F.conv2d(before, weight), block.skip.resample_filter)
        if image is not None:
            image = slow_up(image, block.resample_filter)
        if block.num_torgb:
            rgb = slow_rgb(block.torgb, x, ws[0])
            image = rgb if image is None else image + rgb
    return image


def slow_layer(layer, x, w, gain=1.0):
    styles = layer.affine(w)
    weight = layer.weight[None] * styles[:, None, :, None, None]
    weight = weight / (weight.square().sum(dim=[2, 3, 4], keepdim=True) + 1e-8).sqrt()
    pad = weight.shape[-1] // 2
    if layer.up == 2:  # a true convolution: the kernel is flipped
        x, weight, pad = slow_up(x, layer.resample_filter, pad), weight.flip([3, 4]), 0
    x = torch.cat([F.conv2d(a[None], b, padding=pad) for a, b in zip(x, weight, strict=True)])
    if layer.use_noise:
        x = x + layer.noise_const * layer.noise_strength
    x = x + layer.bias[:, None, None]
    x = {
        "lrelu": lambda: F.leaky_relu(x, 0.2) * 2**0.5,
        "swish": lambda: x * x.sigmoid() * 2**0.5,
        "tanh": lambda: x.tanh(),
    }[layer.activation]()
    x = x * gain
    return x if layer.conv_clamp is None else x.clamp(-layer.conv_clamp, layer.conv_clamp)


def slow_rgb(layer, x, w):
    styles = layer.affine(w) / layer.weight[0].numel() ** 0.5
    image = torch.einsum("nihw,ni,oi->nohw", x, styles, layer.weight[:, :, 0, 0])
    image = image + layer.bias[:, None, None]
    return image if layer.conv_clamp is None else image.clamp(-layer.conv_clamp, layer.conv_clamp)


def slow_up(x, kernel, margin=0):
    kernel = torch.outer(kernel, kernel) if kernel.ndim == 1 else kernel
    n, c, h, w = x.shape
    large = x.new_zeros(n, c, 2 * h, 2 * w)
    large[:, :, ::2, ::2] = x
    taps = kernel.shape[-1]
    before, after = margin + (taps + 1) // 2, margin + (taps - 2) // 2
    large = F.pad(large, (before, after, before, after)).flatten(0, 1)[:, None]
    large = 4 * F.conv2d(large, kernel.flip([0, 1])[None, None])
    return large.view(n, c, *large.shape[2:])


def test_noise_modes():
    generator = tiny_generator()
    z, c = tiny_inputs()

    def images(mode, seed=0, rows=slice(None)):
        many = [torch.Generator().manual_seed(seed + i) for i in range(4)]
        options = {"noise_mode": mode, "noise_generator": many[rows]}
        with torch.no_grad():
            return generator(z[rows], c[rows], **options)

    assert torch.equal(images("const"), images("const", seed=9))
    assert torch.equal(images("random"), images("random"))
    assert not torch.allclose(images("random"), images("random", seed=9), atol=1e-3)
    assert not torch.allclose(images("random"), images("const"), atol=1e-3)
    part = images("random", rows=slice(2, 4))
    torch.testing.assert_close(part, images("random")[2:], rtol=1e-4, atol=1e-5)
    with pytest.raises(StudyError, match="noise_mode 'loud'"):
        generator(z, c, noise_mode="loud")


def test_w_avg_follows_training_only():
    generator = tiny_generator(mapping_kwargs={"w_avg_beta": 0.9})
    z, c = tiny_inputs()
    before = generator.mapping.w_avg.clone()
    generator(z, c)
    assert torch.equal(generator.mapping.w_avg, before)
    generator.train()
    mean = generator.mapping(z, c)[:, 0].mean(dim=0).detach()
    torch.testing.assert_close(generator.mapping.w_avg, mean + 0.9 * (before - mean))


def test_every_parameter_learns():
    generator = tiny_generator().train()
    z, c = tiny_inputs()
    generator(z, c, noise_mode="const").square().sum().backward()
    silent = [name for name, p in generator.named_parameters() if not p.grad.abs().sum() > 0]
    assert silent == []


def test_fresh_networks_start_as_the_original():
    generator = Generator(64, 10, 64, 16, 3, {"num_layers": 2}, {"channel_max": 64})
    state = generator.state_dict()
    assert torch.equal(state["synthesis.b8.conv0.affine.bias"], torch.ones(64))
    assert all(v == 0 for k, v in state.items() if k.endswith("noise_strength"))
    assert state["mapping.fc0.weight"].std() == pytest.approx(100, rel=0.05)
    assert state["synthesis.b8.conv0.weight"].std() == pytest.approx(1, rel=0.05)
    images = generator(torch.randn(32, 64), torch.eye(10)[torch.arange(32) % 10])
    assert 0.3 < images.std() < 3


def test_half_precision_stays_close(small, monkeypatch):
    generator, reference = small
    inputs = reference["z"][:2], reference["labels"][:2]
    for resolution in (8, 16, 32):
        block = getattr(generator.synthesis, f"b{resolution}")
        monkeypatch.setattr(block, "precision", torch.float16)
    with torch.no_grad():
        images = generator(*inputs, noise_mode="const")
    difference = (images - reference["img_psi1_const"][:2]).abs()
    assert 0 < difference.max() < 0.02


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"img_resolution": 24}, "img_resolution 24"),
        ({"synthesis": {"architecture": "dense"}}, "architecture 'dense'"),
        ({"mapping_kwargs": {"w_avg_beta": None}}, "w_avg"),
    ],
)
def test_impossible_networks_and_truncation_are_refused(options, message):
    with pytest.raises(StudyError, match=message):
        tiny_generator(**options)(*tiny_inputs(), truncation_psi=0.5)


@pytest.mark.parametrize("taps", [[1, 3, 3, 1], [1, 2, 1], [1, 2], None])
def test_resampling_has_exact_derivatives(taps):
    kernel = make_filter(taps).double()
    draws = torch.Generator().manual_seed(0)
    x = torch.randn(1, 2, 4, 5, generator=draws, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(1, 2, 3, 3, generator=draws, dtype=torch.float64)
    maps = [
        lambda x: upsample(x, kernel),
        lambda x: downsample(x, kernel),
        lambda x: fir(x, kernel, (2, 1)),
        lambda x: conv_resample(x, weight, kernel, up=2),
        lambda x: conv_resample(x, weight, kernel, down=2),
    ]
    for resample in maps:
        assert torch.autograd.gradcheck(resample, x, fast_mode=True)
        assert torch.autograd.gradgradcheck(lambda x, f=resample: f(x).square(), x, fast_mode=True)


def test_a_constant_image_keeps_its_value_when_resampled():
    kernel, flat = make_filter([1, 3, 3, 1]), torch.full((1, 1, 8, 8), 3.0)
    for resample in (upsample, downsample):
        inner = resample(flat, kernel)[:, :, 1:-1, 1:-1]
        torch.testing.assert_close(inner, torch.full_like(inner, 3.0))


def test_minibatch_statistics_by_hand():
    x = torch.arange(8.0).view(8, 1, 1, 1) ** 2
    found = minibatch_std(x, 4, 1)[:, 1, 0, 0]
    even, odd = x[0::2].std(correction=0), x[1::2].std(correction=0)
    torch.testing.assert_close(found, torch.stack([even, odd]).repeat(4))
    with pytest.raises(StudyError, match="batch of 6"):
        minibatch_std(x[:6], 4, 1)


@pytest.mark.parametrize("architecture", ["orig", "resnet", "skip"])
@pytest.mark.parametrize(("side", "classes"), [(8, 0), (32, 10)])
def test_discriminator_has_a_second_derivative(architecture, side, classes):
    torch.manual_seed(0)
    discriminator = Discriminator(
        classes, side, 3, architecture, channel_base=256, channel_max=16, cmap_dim=None
    )
    images = torch.randn(8, 3, side, side, requires_grad=True)
    labels = torch.eye(10)[torch.arange(8)] if classes else None
    logits = discriminator(images, labels)
    assert logits.shape == (8, 1)
    (gradient,) = torch.autograd.grad(logits.sum(), images, create_graph=True)
    penalty = gradient.square().sum()
    penalty.backward()
    weight = discriminator.b4.conv.weight.grad
    assert penalty > 0 and weight.isfinite().all() and weight.abs().sum() > 0


def test_r1_gradient_equals_finite_differences():
    torch.manual_seed(0)
    discriminator = Discriminator(0, 8, 3, channel_base=64, channel_max=8).double()
    images = torch.randn(4, 3, 8, 8, dtype=torch.float64)

    def penalty(weight):
        values = {"b8.conv0.weight": weight}
        x = images.clone().requires_grad_(True)
        logits = torch.func.functional_call(discriminator, values, (x,))
        return torch.autograd.grad(logits.sum(), x, create_graph=True)[0].square().sum()

    weight = discriminator.b8.conv0.weight.detach().requires_grad_(True)
    direction = torch.randn_like(weight)
    (gradient,) = torch.autograd.grad(penalty(weight), weight)
    step = 1e-6 * direction
    expected = (penalty(weight + step) - penalty(weight - step)).detach() / 2e-6
    torch.testing.assert_close((gradient * direction).sum(), expected, rtol=1e-4, atol=1e-8)


@pytest.mark.parametrize("architecture", ["orig", "resnet", "skip"])
@pytest.mark.parametrize("classes", [0, 3])
def test_discriminator_equals_the_textbook(architecture, classes):
    torch.manual_seed(0)
    options = {"architecture": architecture, "channel_base": 200, "channel_max": 13}
    options |= {"conv_clamp": 2.0, "epilogue_kwargs": {"mbstd_group_size": 2}}
    if classes:
        options["mapping_kwargs"] = {"num_layers": 2}
    network = Discriminator(classes, 16, 3, **options).requires_grad_(False)
    for name, parameter in network.named_parameters():
        if name.endswith("bias"):
            parameter.normal_(std=0.2)
    images = 3 * torch.randn(4, 3, 16, 16)
    labels = torch.eye(3)[torch.arange(4) % 3] if classes else None
    expected = slow_logits(network, images, labels)
    assert expected.std() > 0.01
    torch.testing.assert_close(network(images, labels), expected, rtol=1e-4, atol=1e-5)


def slow_logits(network, image, labels):
    """Judge images in the textbook way: filter everything, keep every second sample."""
    x = None
    for resolution in network.block_resolutions:
        block = getattr(network, f"b{resolution}")
        if hasattr(block, "fromrgb"):
            y = slow_conv(block.fromrgb, image)
            x = y if x is None else x + y
        if block.architecture == "skip":
            image = slow_filter(image, block.resample_filter, 0)[:, :, ::2, ::2]
        gain = 0.5**0.5 if block.architecture == "resnet" else 1.0
        main = slow_conv(block.conv1, slow_conv(block.conv0, x), gain)
        x = main + slow_conv(block.skip, x, gain) if hasattr(block, "skip") else main
    last = network.b4
    x = x + slow_conv(last.fromrgb, image) if hasattr(last, "fromrgb") else x
    pairs = x.view(2, 2, *x.shape[1:])  # image i and image i + 2 are one group of two
    spread = (pairs.var(dim=0, correction=0) + 1e-8).sqrt().mean(dim=[1, 2, 3])
    x = torch.cat([x, spread.repeat(2).view(4, 1, 1, 1).expand(-1, 1, 4, 4)], dim=1)
    x = slow_conv(last.conv, x).flatten(1)
    x = F.leaky_relu(x @ last.fc.weight.T / x.shape[1] ** 0.5 + last.fc.bias, 0.2) * 2**0.5
    x = x @ last.out.weight.T / x.shape[1] ** 0.5 + last.out.bias
    if labels is None:
        return x
    w = labels @ network.mapping.embed.weight.T / labels.shape[1] ** 0.5
    w = w + network.mapping.embed.bias
    w = w / (w.square().mean(dim=1, keepdim=True) + 1e-8).sqrt()
    for layer in (network.mapping.fc0, network.mapping.fc1):
        w = 0.01 * (w @ layer.weight.T / w.shape[1] ** 0.5 + layer.bias)
        w = F.leaky_relu(w, 0.2) * 2**0.5
    return (x * w).sum(dim=1, keepdim=True) / w.shape[1] ** 0.5


def slow_conv(layer, x, gain=1.0):
    fan_in = layer.weight[0].numel()
    size = layer.weight.shape[-1]
    if layer.down == 2:
        x = F.conv2d(slow_filter(x, layer.resample_filter, size // 2), layer.weight / fan_in**0.5)
        x = x[:, :, ::2, ::2]
    else:
        x = F.conv2d(x, layer.weight / fan_in**0.5, padding=size // 2)
    if layer.bias is not None:
        x = x + layer.bias[:, None, None]
    if layer.activation == "lrelu":
        x = F.leaky_relu(x, 0.2) * 2**0.5
    x = x * gain
    limit = None if layer.conv_clamp is None else layer.conv_clamp * gain
    return x if limit is None else x.clamp(-limit, limit)


def slow_filter(x, kernel, margin):
    """Filter so that every second sample, from the first on, is the halved image."""
    before, after = margin + (kernel.shape[-1] - 1) // 2, margin + (kernel.shape[-1] - 2) // 2
    n, c, h, w = x.shape
    x = F.pad(x, (before, after, before, after)).flatten(0, 1)[:, None]
    x = F.conv2d(x, kernel.flip([0, 1])[None, None])
    return x.view(n, c, *x.shape[2:])
