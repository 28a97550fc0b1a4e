"""The losses of the distillation, hinge, features and pixels, and the original's weights of them.

Hinge: Lim & Ye 2017, arXiv 1705.02894. Distillation by features: Chang & Lu 2020, arXiv 2009.13829.
Every loss is a scalar; logits are `(n, 1)`, feature lists run from the finest map on.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch.nn import functional as F

FEATURE_WEIGHTS = (1 / 16, 1 / 8, 1 / 4, 1.0)
RANDOM_WEIGHT = 0.2  # fresh latents against real images, relative to student against teacher
ORIGINAL_PIXEL_DECAY = 0.01  # the original takes this off the pixel weight after every update
ORIGINAL_RATE = 2e-4  # Adam's learning rate, of both networks
ORIGINAL_RATE_DECAY = 350_000  # the update at which the original lets its learning rate fall
Losses = dict[str, torch.Tensor]


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

    pixel, adversarial and random are its lambda_pixel (0.2, 0.19, …, 0), lambda_ganG and
    lambda_ganD; every interval-th update of an epoch is adversarial.
    """
    due = (update % updates_per_epoch + 1) % interval == 0
    pixel = max(0.0, pixel - ORIGINAL_PIXEL_DECAY * update)
    return Weights(pixel, adversarial if due else 0.0, random)


def original_learning_rate(start: float, update: int, total: int) -> float:
    """Return the original's learning rate, which falls from the 350,000th update on, if at all."""
    decayed = max(0, update + 1 - ORIGINAL_RATE_DECAY)
    return start * (1 - decayed / (total - ORIGINAL_RATE_DECAY)) if decayed else start


def feature_loss(student: Sequence[torch.Tensor], teacher: Sequence[torch.Tensor]) -> torch.Tensor:
    """Return the weighted sum of the mean absolute differences of the four feature maps."""
    pairs = zip(FEATURE_WEIGHTS, student, teacher, strict=True)
    return sum(weight * F.l1_loss(s, t) for weight, s, t in pairs)


def generator_loss(
    pixels: torch.Tensor,
    features: torch.Tensor,
    weights: Weights,
    adversarial: Sequence[torch.Tensor] = (),
) -> Losses:
    """Return the generator's loss "g_total" and its terms.

    `pixels` and `features` are the two L1 terms; `adversarial` holds the logits of the student
    on the teacher's latents and on fresh ones, in the updates that have them.
    """
    terms = {"g_pixels": pixels, "g_features": features}
    total = features + weights.pixel * pixels
    if adversarial:
        terms["g_student"], terms["g_random"] = (-logits.mean() for logits in adversarial)
        mixed = terms["g_student"] + RANDOM_WEIGHT * terms["g_random"]
        total = total + weights.adversarial * mixed
    return terms | {"g_total": total}


def discriminator_loss(
    teacher: torch.Tensor,
    student: torch.Tensor,
    real: torch.Tensor,
    random: torch.Tensor,
    random_weight: float = RANDOM_WEIGHT,
) -> Losses:
    """Return the discriminator's loss "d_total" and its terms, from the four kinds of logits.

    hinge(teacher, student) + random_weight · hinge(real, student on fresh latents), with
    hinge(true, fake) = E[max(0, 1 - D(true))] + E[max(0, 1 + D(fake))].
    """
    terms = {
        "d_teacher": F.relu(1 - teacher).mean(),
        "d_student": F.relu(1 + student).mean(),
        "d_real": F.relu(1 - real).mean(),
        "d_random": F.relu(1 + random).mean(),
    }
    distilled = terms["d_teacher"] + terms["d_student"]
    total = distilled + random_weight * (terms["d_real"] + terms["d_random"])
    return terms | {"d_total": total}
