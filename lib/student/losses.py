"""The losses of the distillation: hinge, features and pixels.

Hinge: Lim & Ye 2017, arXiv 1705.02894. Distillation by features: Chang & Lu 2020, arXiv 2009.13829.
Every function returns scalars; logits are `(n, 1)`, feature lists run from the finest map on.
"""

from collections.abc import Sequence

import torch
from torch.nn import functional as F

FEATURE_WEIGHTS = (1 / 16, 1 / 8, 1 / 4, 1.0)
RANDOM_WEIGHT = 0.2  # fresh latents against real images, relative to student against teacher
ORIGINAL_PIXEL_DECAY = 0.01  # the original takes this off the pixel weight after every update
ORIGINAL_RATE = 2e-4  # Adam's learning rate, of both networks
ORIGINAL_RATE_DECAY = 350_000  # the update at which the original lets its learning rate fall


def hinge_discriminator(true: torch.Tensor, fake: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """Return E[max(0, 1 - D(true))] and E[max(0, 1 + D(fake))]."""
    return F.relu(1 - true).mean(), F.relu(1 + fake).mean()


def hinge_generator(fake: torch.Tensor) -> torch.Tensor:
    """Return -E[D(fake)]."""
    return -fake.mean()


def feature_loss(student: Sequence[torch.Tensor], teacher: Sequence[torch.Tensor]) -> torch.Tensor:
    """Return the weighted sum of the mean absolute differences of the four feature maps."""
    pairs = zip(FEATURE_WEIGHTS, student, teacher, strict=True)
    return sum(weight * F.l1_loss(s, t) for weight, s, t in pairs)


def original_pixel_weight(start: float, update: int) -> float:
    """Return the original's pixel weight at the 0-based `update`: 0.2, 0.19, …, 0."""
    return max(0.0, start - ORIGINAL_PIXEL_DECAY * update)


def scheduled_pixel_weight(start: float, epoch: float, epochs: float) -> float:
    """Return `start` falling linearly to 0 over the first `epochs` (0: no pixel loss at all)."""
    return start * max(0.0, 1 - epoch / epochs) if epochs else 0.0


def original_learning_rate(start: float, update: int, total: int) -> float:
    """Return the original's learning rate, which falls from the 350,000th update on, if at all."""
    decayed = max(0, update + 1 - ORIGINAL_RATE_DECAY)
    return start * (1 - decayed / (total - ORIGINAL_RATE_DECAY)) if decayed else start


def adversarial_due(update: int, interval: int) -> bool:
    """Tell whether the 0-based `update` of the generator is an adversarial one: every n-th."""
    return (update + 1) % interval == 0


def generator_loss(
    pixels: torch.Tensor,
    features: torch.Tensor,
    pixel_weight: float,
    adversarial: tuple[torch.Tensor, torch.Tensor] | None = None,
    adversarial_weight: float = 0.01,
) -> dict[str, torch.Tensor]:
    """Return the generator's loss "g_total" and its terms.

    `pixels` and `features` are the two L1 terms; `adversarial` holds the logits of the student
    on the teacher's latents and on fresh ones, in the updates that have them.
    """
    terms = {"g_pixels": pixels, "g_features": features}
    total = features + pixel_weight * pixels
    if adversarial is not None:
        terms["g_student"] = hinge_generator(adversarial[0])
        terms["g_random"] = hinge_generator(adversarial[1])
        mixed = terms["g_student"] + RANDOM_WEIGHT * terms["g_random"]
        total = total + adversarial_weight * mixed
    return terms | {"g_total": total}


def discriminator_loss(
    teacher: torch.Tensor,
    student: torch.Tensor,
    real: torch.Tensor,
    random: torch.Tensor,
    random_weight: float = RANDOM_WEIGHT,
) -> dict[str, torch.Tensor]:
    """Return the discriminator's loss "d_total" and its terms, from the four kinds of logits.

    hinge(teacher, student) + random_weight · hinge(real, student on fresh latents).
    """
    terms = {}
    terms["d_teacher"], terms["d_student"] = hinge_discriminator(teacher, student)
    terms["d_real"], terms["d_random"] = hinge_discriminator(real, random)
    distilled = terms["d_teacher"] + terms["d_student"]
    total = distilled + random_weight * (terms["d_real"] + terms["d_random"])
    return terms | {"d_total": total}
