"""Adaptive augmentation of what the discriminator sees."""

import pytest
import torch

from lib.gan.augment import AdaptiveProbability, Augment, grid_sample

NEUTRAL = {name: 0 for name in Augment.__dataclass_fields__}


def draws(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def unit_images(n: int = 4, side: int = 16) -> torch.Tensor:
    return torch.rand(n, 3, side, side, generator=draws()) * 2 - 1


def test_no_augmentation_at_probability_zero():
    images = unit_images()
    assert Augment()(images, 0.0, draws()) is images


def test_weakest_augmentation_is_the_identity():
    images, still = unit_images(), Augment(**NEUTRAL)
    torch.testing.assert_close(still(images, 1.0, draws()), images, rtol=0, atol=1e-5)


def test_every_augmentation_changes_images_and_keeps_them_finite():
    images = unit_images()
    for name, field in Augment.__dataclass_fields__.items():
        changed = Augment(**NEUTRAL | {name: field.default})(images, 1.0, draws(1))
        assert changed.shape == images.shape and changed.isfinite().all()
        assert (changed - images).abs().max() > 0.01, name


def test_probability_is_the_share_of_changed_images():
    images, only = torch.zeros(2000, 3, 4, 4), Augment(**NEUTRAL | {"brightness_std": 1.0})
    changed = only(images, 0.3, draws()).flatten(1).any(dim=1)
    assert changed.float().mean() == pytest.approx(0.3, abs=0.04)


def test_integer_shifts_move_whole_pixels():
    images = unit_images(400, side=16)
    changed = Augment(**NEUTRAL | {"integer_shift": 0.125})(images, 1.0, draws())
    centres = changed[:, :, 4:12, 4:12]
    windows = images.unfold(2, 8, 1).unfold(3, 8, 1)[:, :, 2:7, 2:7]
    distance = (windows - centres[:, :, None, None]).abs().amax(dim=[1, 4, 5]).flatten(1)
    assert distance.amin(dim=1).max() < 1e-4
    assert distance.argmin(dim=1).unique().numel() == 25


def test_augmentation_depends_on_the_generator_alone():
    images = unit_images()
    one, same, other = (Augment()(images, 0.8, draws(seed)) for seed in (1, 1, 2))
    assert torch.equal(one, same) and not torch.allclose(one, other, atol=1e-2)


def test_sampling_has_exact_second_derivatives():
    turn = torch.tensor([[[0.8, -0.3, 0.1], [0.2, 0.9, -0.2]]], dtype=torch.float64)
    grid = torch.nn.functional.affine_grid(turn, [1, 2, 4, 4], align_corners=False)
    x = torch.randn(1, 2, 4, 4, generator=draws(), dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: grid_sample(x, grid), x)
    assert torch.autograd.gradgradcheck(lambda x: grid_sample(x, grid).square(), x)


def test_r1_passes_through_the_augmentation():
    images = unit_images().requires_grad_(True)
    weight = torch.randn(3, 16, 16, generator=draws(1), requires_grad=True)
    logits = (Augment()(images, 1.0, draws()) * weight).square().sum()
    (gradient,) = torch.autograd.grad(logits, images, create_graph=True)
    gradient.square().sum().backward()
    assert weight.grad.isfinite().all() and weight.grad.abs().sum() > 0


def test_probability_follows_overfitting():
    adaptive = AdaptiveProbability(target=0.6, kimg=1, interval=2)
    for step in range(4):
        adaptive.observe(1.0, 10)
        adaptive.update(step)
    assert adaptive.p == pytest.approx(0.04)
    for step in range(4, 6):
        adaptive.observe(0.4, 10)
        adaptive.update(step)
    assert adaptive.p == pytest.approx(0.02)
    still = AdaptiveProbability(target=0, kimg=1, interval=1)
    still.observe(1.0, 10)
    still.update(0)
    assert still.p == 0
