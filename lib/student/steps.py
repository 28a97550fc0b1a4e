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
    Losses,
    Weights,
    discriminator_loss,
    feature_loss,
    generator_loss,
)

BETAS = (0.5, 0.999)


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

    def descend(self, name: str, loss: torch.Tensor) -> None:
        """Take one step of a network down the gradient of `loss`, its mean over the processes."""
        optimizer = self.optimizers[name]
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        average_gradients(optimizer.param_groups[0]["params"])
        optimizer.step()

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
    networks = {"generator": generator, "discriminator": discriminator}
    return Networks(
        **networks,
        average=deepcopy(generator).eval().requires_grad_(False),
        optimizers={
            name: Adam(network.parameters(), learning_rate, BETAS)
            for name, network in networks.items()
        },
    )


def mixed_precision(device: str) -> torch.autocast:
    """Return the context of a forward pass: bfloat16 on a GPU, float32 elsewhere."""
    return torch.autocast(device, torch.bfloat16, enabled=device == "cuda")


def one_pass_step(
    networks: Networks, batch: Batch, weights: Weights, draws: Draws | None = None
) -> Losses:
    """Train both networks once on images that the generator makes once.

    The teacher's and the student's features come from one state of the discriminator, which
    sees a pair under the same augmentation (`draws`, for the 2n rows of the batch). Images of
    fresh latents, which only the adversarial loss sends gradients through, need none without it.
    """
    n, labels = len(batch.images) // 2, batch.labels
    networks.generator.train()
    student = networks.generate(batch.latents[:n], labels[:n])
    with torch.set_grad_enabled(weights.adversarial > 0):
        random = networks.generate(batch.latents[n : 2 * n], labels[n:])
    images, fakes = _show(batch.images, draws), _show(torch.cat([student, random]), draws)
    networks.discriminator.train().requires_grad_(True)
    _, logits = networks.judge(torch.cat([images, fakes.detach()]), labels.repeat(2, 1))
    on_teacher, on_real, on_student, on_random = logits.chunk(4)
    losses = discriminator_loss(on_teacher, on_student, on_real, on_random, weights.random)
    networks.descend("discriminator", losses["d_total"])

    networks.discriminator.eval().requires_grad_(False)
    used = 2 * n if weights.adversarial else n
    target, _ = networks.judge(images[:n], labels[:n])
    features, logits = networks.judge(fakes[:used], labels[:used])
    losses |= generator_loss(
        F.l1_loss(student, batch.images[:n]),
        feature_loss([feature[:n] for feature in features], target),
        weights,
        logits.split(n) if weights.adversarial else (),
    )
    networks.descend("generator", losses["g_total"])
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
    target, on_teacher = judge(teacher, labels)
    losses = discriminator_loss(
        on_teacher,
        judge(student, labels)[1],
        judge(real, real_labels)[1],
        judge(random, real_labels)[1],
        weights.random,
    )
    networks.descend("discriminator", losses["d_total"])

    networks.generator.train()
    networks.discriminator.requires_grad_(False)
    if "one_state" in changes:
        networks.discriminator.eval()
        target, _ = judge(teacher, labels)
    student = generate(z, labels)
    features, logits = judge(_show(student, draws, slice(n)), labels)
    adversarial = ()
    if weights.adversarial:
        random = _show(generate(fresh_again, real_labels), draws, slice(n, None))
        adversarial = logits, judge(random, real_labels)[1]
    losses |= generator_loss(
        F.l1_loss(student, batch.images[:n]),
        feature_loss(features, [feature.detach() for feature in target]),
        weights,
        adversarial,
    )
    networks.descend("generator", losses["g_total"])
    return losses


def _show(images: torch.Tensor, draws: Draws | None, rows: slice = slice(None)) -> torch.Tensor:
    """Return what the discriminator sees of the images, which are these rows of the batch."""
    return augment_images(images, {name: draw[rows] for name, draw in (draws or {}).items()})


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
