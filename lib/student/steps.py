"""One update of discriminator and generator: the study's own and the original's."""

from copy import deepcopy
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional as F
from torch.optim import Adam, Optimizer

from lib.common.processes import average_gradients
from lib.student.batches import Batch
from lib.student.diffaugment import Draws, augment_images
from lib.student.losses import (
    ORIGINAL_RATE,
    RANDOM_WEIGHT,
    adversarial_due,
    discriminator_loss,
    feature_loss,
    generator_loss,
    original_pixel_weight,
)

BETAS = (0.5, 0.999)
Losses = dict[str, torch.Tensor]


@dataclass(frozen=True)
class Networks:
    """The two networks in training, their optimizers and the generator's running average.

    On a GPU both compute in bfloat16 where autocast allows it; what comes out is float32.
    """

    generator: nn.Module
    discriminator: nn.Module
    average: nn.Module
    optimizers: dict[str, Optimizer]

    def generate(self, latents: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """Make images `(n, nc, 32, 32)`."""
        with mixed_precision(latents.device.type):
            return self.generator(latents, labels).float()

    def judge(
        self, images: torch.Tensor, labels: torch.Tensor
    ) -> tuple[list[torch.Tensor], torch.Tensor]:
        """Return the discriminator's four feature maps and its logits `(n, 1)`."""
        with mixed_precision(images.device.type):
            features, logits = self.discriminator(images, labels)
            return [feature.float() for feature in features], logits.float()

    def modules(self) -> dict[str, nn.Module]:
        """Return the networks by name, for checkpoints."""
        names = ("generator", "discriminator", "average")
        return {name: getattr(self, name) for name in names}


def make_networks(
    generator: nn.Module, discriminator: nn.Module, learning_rate: float = ORIGINAL_RATE
) -> Networks:
    """Give two networks their Adam optimizers and the generator a copy to be its average.

    What the networks hold is kept, so that a training can start from given weights.
    """
    return Networks(
        generator,
        discriminator,
        deepcopy(generator).eval().requires_grad_(False),
        {
            "generator": Adam(generator.parameters(), learning_rate, BETAS),
            "discriminator": Adam(discriminator.parameters(), learning_rate, BETAS),
        },
    )


def mixed_precision(device: str) -> torch.autocast:
    """Return the context of a forward pass: bfloat16 on a GPU, float32 elsewhere."""
    return torch.autocast(device, torch.bfloat16, enabled=device == "cuda")


@dataclass(frozen=True)
class Weights:
    """The weights of one update's losses.

    pixel: of the pixel loss; adversarial: of the generator's hinge terms, 0 in an update without
    them; random: of the discriminator's pair of real images and fresh latents.
    """

    pixel: float
    adversarial: float
    random: float = RANDOM_WEIGHT


def original_weights(
    update: int,
    updates_per_epoch: int,
    pixel: float = 0.2,
    adversarial: float = 0.01,
    interval: int = 10,
    random: float = RANDOM_WEIGHT,
) -> Weights:
    """Return the original's weights at the 0-based `update` of the whole training.

    pixel, adversarial and random are its lambda_pixel, lambda_ganG and lambda_ganD; every
    interval-th update of an epoch is adversarial.
    """
    due = adversarial_due(update % updates_per_epoch, interval)
    return Weights(original_pixel_weight(pixel, update), adversarial if due else 0.0, random)


def one_pass_step(
    networks: Networks, batch: Batch, weights: Weights, draws: Draws | None = None
) -> Losses:
    """Train both networks once on images that the generator makes once.

    The teacher's and the student's features come from one state of the discriminator, which
    sees a pair under the same augmentation (`draws`, for the 2n rows of the batch). Images of
    fresh latents, which only the adversarial loss sends gradients through, need none without it.
    """
    n = len(batch.images) // 2
    networks.generator.train()
    student = networks.generate(batch.latents[:n], batch.labels[:n])
    with torch.set_grad_enabled(weights.adversarial > 0):
        random = networks.generate(batch.latents[n : 2 * n], batch.labels[n:])
    fakes = torch.cat([student, random])
    shown_images, shown_fakes = _show(batch.images, draws), _show(fakes, draws)
    losses = _train_discriminator(
        networks, shown_images, shown_fakes.detach(), batch.labels, weights.random
    )

    networks.discriminator.eval().requires_grad_(False)
    used = 2 * n if weights.adversarial else n
    target, _ = networks.judge(shown_images[:n], batch.labels[:n])
    features, logits = networks.judge(shown_fakes[:used], batch.labels[:used])
    losses |= generator_loss(
        F.l1_loss(fakes[:n], batch.images[:n]),
        feature_loss([feature[:n] for feature in features], target),
        weights.pixel,
        logits.split(n) if weights.adversarial else None,
        weights.adversarial,
    )
    descend(networks.optimizers["generator"], losses["g_total"])
    return losses


def _train_discriminator(
    networks: Networks,
    images: torch.Tensor,
    fakes: torch.Tensor,
    labels: torch.Tensor,
    random_weight: float,
) -> Losses:
    networks.discriminator.train().requires_grad_(True)
    _, logits = networks.judge(torch.cat([images, fakes]), labels.repeat(2, 1))
    teacher, real, student, random = logits.chunk(4)
    losses = discriminator_loss(teacher, student, real, random, random_weight)
    descend(networks.optimizers["discriminator"], losses["d_total"])
    return losses


def original_step(
    networks: Networks,
    batch: Batch,
    weights: Weights,
    draws: Draws | None = None,
    changes: frozenset[str] = frozenset(),
) -> Losses:
    """Train both networks once as the original did.

    Every image is made twice, in the generator's update from other fresh latents; at the start of
    a later epoch the generator is still in eval mode when the discriminator sees it; the teacher's
    features are older than the student's by one update of the discriminator. `changes` may hold
    "train_mode" and "one_state", which mend the latter two (see `lib.student.recipes`); `draws`
    augment what the discriminator sees.
    """
    n = len(batch.images) // 2
    generate, judge = networks.generate, networks.judge
    networks.discriminator.train().requires_grad_(True)
    networks.generator.train("train_mode" in changes or batch.position > 0 or batch.epoch == 0)
    (z, fresh, fresh_again), (labels, real_labels) = batch.latents.split(n), batch.labels.split(n)
    teacher, real = _show(batch.images, draws).split(n)
    with torch.no_grad():
        fakes = torch.cat([generate(z, labels), generate(fresh, real_labels)])
    student, random = _show(fakes, draws).split(n)
    target, teacher_logits = judge(teacher, labels)
    losses = discriminator_loss(
        teacher_logits,
        judge(student, labels)[1],
        judge(real, real_labels)[1],
        judge(random, real_labels)[1],
        weights.random,
    )
    descend(networks.optimizers["discriminator"], losses["d_total"])

    networks.generator.train()
    networks.discriminator.requires_grad_(False)
    if "one_state" in changes:
        networks.discriminator.eval()
        target, _ = judge(teacher, labels)
    student = generate(z, labels)
    features, logits = judge(_show(student, draws, slice(n)), labels)
    adversarial = None
    if weights.adversarial:
        random = _show(generate(fresh_again, real_labels), draws, slice(n, None))
        adversarial = logits, judge(random, real_labels)[1]
    losses |= generator_loss(
        F.l1_loss(student, batch.images[:n]),
        feature_loss(features, [feature.detach() for feature in target]),
        weights.pixel,
        adversarial,
        weights.adversarial,
    )
    descend(networks.optimizers["generator"], losses["g_total"])
    return losses


def _show(images: torch.Tensor, draws: Draws | None, rows: slice = slice(None)) -> torch.Tensor:
    """Return what the discriminator sees of the images, which are these rows of the batch."""
    return augment_images(images, {name: draw[rows] for name, draw in (draws or {}).items()})


def descend(optimizer: Optimizer, loss: torch.Tensor) -> None:
    """Take one step down the gradient of `loss`, its mean over the processes."""
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    average_gradients(optimizer.param_groups[0]["params"])
    optimizer.step()


@torch.no_grad()
def update_average(average: nn.Module, network: nn.Module, decay: float) -> None:
    """Move the running average towards the network: average ← decay·average + (1 - decay)·new.

    BatchNorm's running statistics are averaged like weights (Karras et al. 2018, 1710.10196).
    """
    for mean, new in zip(average.state_dict().values(), network.state_dict().values(), strict=True):
        if mean.is_floating_point():
            mean.lerp_(new, 1 - decay)
        else:
            mean.copy_(new)
