"""Adversarial training as StyleGAN2-ADA's (Karras et al. 2020, arXiv 2006.06676).

Non-saturating logistic loss, lazy R1 penalty, running average of the generator's weights and
adaptive augmentation, with the settings of the official CIFAR-10 configuration: no path-length
penalty, no style mixing, no residual connections in the discriminator.
"""

import contextlib
from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lib.common.machine import working_precision
from lib.common.processes import mean
from lib.gan.augment import AdaptiveProbability, Augment
from lib.gan.batches import Batches
from lib.gan.discriminator import Discriminator, DiscriminatorBlock
from lib.gan.generator import Generator, SynthesisBlock
from lib.gan.options import TrainingOptions
from lib.gan.training import Losses, Training, auc, descend


@contextlib.contextmanager
def in_float32(network: nn.Module) -> Iterator[None]:
    """Let the feature maps of a discriminator be float32 for a while."""
    blocks = [part for part in network.modules() if isinstance(part, DiscriminatorBlock)]
    before = [block.precision for block in blocks]
    try:
        for block in blocks:
            block.precision = torch.float32
        yield
    finally:
        for block, precision in zip(blocks, before, strict=True):
            block.precision = precision


class AdversarialTraining(Training):
    """The game of generator and discriminator; see `Training`."""

    columns = ("step", "kimg", "loss_generator", "loss_discriminator", "r1", "real_sign")
    columns += ("augment_p", "auc")

    def __init__(
        self,
        batches: Batches,
        options: TrainingOptions,
        networks: dict[str, nn.Module],
        record: dict[str, Any],
        device: str,
    ) -> None:
        precision = getattr(torch, working_precision(options.precision, device))
        for block in [part for network in networks.values() for part in network.modules()]:
            if isinstance(block, SynthesisBlock | DiscriminatorBlock):
                block.precision = precision
        networks = {name: network.to(device).train() for name, network in networks.items()}
        super().__init__(batches.name, batches.seed, options, networks, record, device)
        self.batches = batches
        self.augment = Augment()
        self.adaptive = AdaptiveProbability(options.ada_target, options.ada_kimg)
        # The lazy penalty scales the discriminator's settings (arXiv 1912.04958, appendix B).
        lazy = options.r1_interval / (options.r1_interval + 1)
        for name, share in (("generator", 1.0), ("discriminator", lazy)):
            weights, rate = networks[name].parameters(), options.learning_rate * share
            adam = torch.optim.Adam(weights, rate, (0.0, 0.99**share), eps=1e-8, fused=True)
            self.optimizers[name] = adam

    def step(self, step: int) -> Losses:
        """Update both networks once."""
        images, labels = self.batches.real(step)
        fake, losses = self.generator_step(step, images, labels)
        images = self.judged(step, images)
        losses |= self.discriminator_step(step, images, labels, fake)
        if step % self.options.r1_interval == 0:
            losses |= self.r1_step(step, images, labels)
        self.update_average(step)
        self.adaptive.update(step)
        return losses

    def generator_step(self, step: int, images: Tensor, labels: Tensor) -> tuple[Tensor, Losses]:
        """Update the generator; return the images it made, for the discriminator."""
        self.discriminator.requires_grad_(False)
        fake = self.generate(step, labels)
        shown = self.show(fake, "generator", step)
        maps, logits = self.discriminator.maps_and_logits(shown, labels)
        loss = F.softplus(-logits).mean()
        more, losses = self.pairing(step, fake, maps, images, labels)
        descend(self.optimizers["generator"], loss + more)
        return fake.detach(), {"loss_generator": loss} | losses

    def discriminator_step(self, step: int, real: Tensor, labels: Tensor, fake: Tensor) -> Losses:
        """Update the discriminator on real and generated images in one pass."""
        self.discriminator.requires_grad_(True)
        rows = interleave(2 * self.batches.rows, 2 * self.batches.rows + 1)
        n = 2 * self.options.batch_size
        images = self.show(interleave(real, fake), "discriminator", step, (n, rows))
        logits = self.discriminator(images, interleave(labels, labels))
        on_real, on_fake = logits[0::2], logits[1::2]
        loss = F.softplus(-on_real).mean() + F.softplus(on_fake).mean()
        descend(self.optimizers["discriminator"], loss)
        sign = mean(on_real.detach().sign().mean())
        self.adaptive.observe(float(sign), self.options.batch_size)
        found = {"loss_discriminator": loss, "real_sign": sign}
        return found | {"auc": auc(on_real.detach(), on_fake.detach())}

    def r1_step(self, step: int, real: Tensor, labels: Tensor) -> Losses:
        """Penalise the discriminator's gradient at real images (Mescheder et al. 2018).

        In float32 throughout: the weights' gradients of this gradient are convolutions whose kernel
        is as large as a map, and oneDNN's in bfloat16 are wrong on processors with AMX.
        """
        real = real.requires_grad_(True)
        with in_float32(self.discriminator):
            logits = self.discriminator(self.show(real, "r1", step), labels)
        (gradient,) = torch.autograd.grad(logits.sum(), real, create_graph=True)
        penalty = gradient.square().sum(dim=[1, 2, 3]).mean()
        weight = self.options.r1_gamma / 2 * self.options.r1_interval
        descend(self.optimizers["discriminator"], penalty * weight)
        return {"r1": penalty}

    def show(
        self, images: Tensor, name: str, step: int, of: tuple[int, Tensor] | None = None
    ) -> Tensor:
        """Augment images as the discriminator sees them; alike in each call for (name, step).

        of: the size of the whole batch and the rows of it that `images` are.
        """
        draws = self.draws(f"augment {name}", step)
        of = of or (self.options.batch_size, self.batches.rows)
        return self.augment(images, self.adaptive.p, draws, of)

    def generate(self, step: int, labels: Tensor) -> Tensor:
        """Draw the generator's images of the step."""
        raise NotImplementedError

    def judged(self, step: int, images: Tensor) -> Tensor:
        """Return the images that the discriminator is to take for real: the batch's, by default."""
        return images

    def pairing(
        self, step: int, fake: Tensor, maps: list[Tensor], images: Tensor, labels: Tensor
    ) -> tuple[Tensor | float, Losses]:
        """Return a loss that ties the generated images to the batch's, and its scalars: none."""
        return 0.0, {}

    def log(self, step: int) -> str:
        """Close a row of the log."""
        self.sums["augment_p"] = [self.adaptive.p, 1]
        return super().log(step)

    def state(self, step: int) -> dict[str, Any]:
        """Return what a checkpoint holds beside networks and optimizers."""
        adaptive = [self.adaptive.p, self.adaptive.signs, self.adaptive.count]
        return super().state(step) | {"adaptive": adaptive}

    def restore(self, state: dict[str, Any]) -> None:
        """Take over what `state` returned."""
        super().restore(state)
        self.adaptive.p, self.adaptive.signs, self.adaptive.count = state["adaptive"]


def interleave(real: Tensor, fake: Tensor) -> Tensor:
    """Return real, fake, real, fake …: the minibatch statistics then mix no real with a fake.

    Their groups are images at the same place modulo an even number.
    """
    return torch.stack([real, fake], dim=1).flatten(0, 1)


def build_discriminator(
    options: TrainingOptions, classes: int, side: int, base: int, largest: int
) -> Discriminator:
    """Build a discriminator with `base // r` channels at resolution r, at most `largest`."""
    labels = {"num_layers": options.mapping_layers, "lr_multiplier": options.label_lr_multiplier}
    widths = {"channel_base": base, "channel_max": largest}
    return Discriminator(classes, side, 3, "orig", **widths, mapping_kwargs=labels)


def build_generator(
    options: TrainingOptions, z_dim: int, classes: int, side: int, **layers: Any
) -> Generator:
    """Build the generator of training; `layers` are further arguments of its layers."""
    mapping = {
        "num_layers": options.mapping_layers,
        "lr_multiplier": options.mapping_lr_multiplier,
    }
    widths = {"channel_base": options.channel_base, "channel_max": options.channel_max}
    return Generator(z_dim, classes, options.w_dim, side, 3, mapping, widths | layers)
