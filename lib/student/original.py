"""The original DiStyleGAN's training: its losses, its update of both networks, its schedule.

Hinge: Lim & Ye 2017, arXiv 1705.02894. Distillation by features: Chang & Lu 2020, arXiv 2009.13829.
Every loss is a scalar; logits are `(n, 1)`, feature lists run from the finest map on.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import Adam

from lib.common.processes import divide, share_batch_norm
from lib.common.seeds import derive_seed
from lib.data.samples import SampleSet
from lib.gan.training import Losses, Training, auc, descend
from lib.student.batches import Batch, DistillationData, first_latents
from lib.student.build import build_student, student_record
from lib.student.networks import Discriminator
from lib.student.options import StudentOptions

FEATURE_WEIGHTS = (1 / 16, 1 / 8, 1 / 4, 1.0)
RANDOM_WEIGHT = 0.2  # fresh latents against real images, relative to student against teacher
ORIGINAL_PIXEL_DECAY = 0.01  # the original takes this off the pixel weight after every update
ORIGINAL_RATE = 2e-4  # Adam's learning rate, of both networks
ORIGINAL_RATE_DECAY = 350_000  # the update at which the original lets its learning rate fall
BETAS = (0.5, 0.999)


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


def generator_loss(
    pixels: Tensor,
    features: Sequence[Tensor],
    target: Sequence[Tensor],
    weights: Weights,
    adversarial: Sequence[Tensor] = (),
) -> Losses:
    """Return the generator's loss "g_total" and its terms.

    pixels: the mean absolute difference of the pixels; features and target: the student's and the
    teacher's four feature maps; adversarial: the logits of the student on the teacher's latents
    and on fresh ones, in the updates that have them.
    """
    maps = zip(FEATURE_WEIGHTS, features, target, strict=True)
    distance = sum(weight * F.l1_loss(s, t.detach()) for weight, s, t in maps)
    terms = {"g_pixels": pixels, "g_features": distance}
    total = distance + weights.pixel * pixels
    if adversarial:
        terms["g_student"], terms["g_random"] = (-logits.mean() for logits in adversarial)
        mixed = terms["g_student"] + RANDOM_WEIGHT * terms["g_random"]
        total = total + weights.adversarial * mixed
    return terms | {"g_total": total}


def discriminator_loss(
    teacher: Tensor, student: Tensor, real: Tensor, random: Tensor, weight: float = RANDOM_WEIGHT
) -> Losses:
    """Return the discriminator's loss "d_total" and its terms, from the four kinds of logits.

    hinge(teacher, student) + weight · hinge(real, student on fresh latents), with
    hinge(true, fake) = E[max(0, 1 - D(true))] + E[max(0, 1 + D(fake))].
    """
    terms = {
        "d_teacher": F.relu(1 - teacher).mean(),
        "d_student": F.relu(1 + student).mean(),
        "d_real": F.relu(1 - real).mean(),
        "d_random": F.relu(1 + random).mean(),
    }
    distilled = terms["d_teacher"] + terms["d_student"]
    return terms | {"d_total": distilled + weight * (terms["d_real"] + terms["d_random"])}


class Networks:
    """The two networks in training, and Adam for each.

    What the networks hold is kept, so that a training can start from given weights. On a GPU both
    compute in bfloat16 where autocast allows it; what comes out is float32.
    """

    def __init__(
        self, generator: nn.Module, discriminator: nn.Module, learning_rate: float = ORIGINAL_RATE
    ) -> None:
        self.generator, self.discriminator = generator, discriminator
        self.modules = {"generator": generator, "discriminator": discriminator}
        self.optimizers = {
            name: Adam(network.parameters(), learning_rate, BETAS)
            for name, network in self.modules.items()
        }

    def generate(self, latents: Tensor, labels: Tensor) -> Tensor:
        """Make images `(n, nc, 32, 32)`."""
        with mixed_precision(latents.device.type):
            return self.generator(latents, labels).float()

    def judge(self, images: Tensor, labels: Tensor) -> tuple[list[Tensor], Tensor]:
        """Return the discriminator's four feature maps and its logits `(n, 1)`."""
        with mixed_precision(images.device.type):
            features, logits = self.discriminator(images, labels)
            return [feature.float() for feature in features], logits.float()

    def descend(self, name: str, loss: Tensor) -> None:
        """Take one step of a network down the gradient of `loss`, its mean over the processes."""
        descend(self.optimizers[name], loss)


def mixed_precision(device: str) -> torch.autocast:
    """Return the context of a forward pass: bfloat16 on a GPU, float32 elsewhere."""
    return torch.autocast(device, torch.bfloat16, enabled=device == "cuda")


def original_step(networks: Networks, batch: Batch, weights: Weights) -> Losses:
    """Train both networks once as the original did.

    Every image is made twice, in the generator's update from other fresh latents; at the start of
    a later epoch the generator is still in eval mode when the discriminator sees it; the teacher's
    features are older than the student's by one update of the discriminator.
    """
    n = len(batch.images) // 2
    generate, judge = networks.generate, networks.judge
    networks.discriminator.train().requires_grad_(True)
    networks.generator.train(batch.position > 0 or batch.epoch == 0)
    (z, fresh, fresh_again), (labels, real_labels) = batch.latents.split(n), batch.labels.split(n)
    teacher, real = batch.images.split(n)
    with torch.no_grad():
        student, random = generate(z, labels), generate(fresh, real_labels)
    target, on_teacher = judge(teacher, labels)
    _, on_student = judge(student, labels)
    _, on_real = judge(real, real_labels)
    _, on_random = judge(random, real_labels)
    losses = discriminator_loss(on_teacher, on_student, on_real, on_random, weights.random)
    networks.descend("discriminator", losses["d_total"])

    networks.generator.train()
    networks.discriminator.requires_grad_(False)
    student = generate(z, labels)
    features, logits = judge(student, labels)
    adversarial = ()
    if weights.adversarial:
        adversarial = logits, judge(generate(fresh_again, real_labels), real_labels)[1]
    pixels = F.l1_loss(student, teacher)
    losses |= generator_loss(pixels, features, target, weights, adversarial)
    networks.descend("generator", losses["g_total"])
    return losses | {"auc": auc(on_teacher.detach(), on_student.detach())}


class OriginalTraining(Training):
    """The original's whole training; its student is the generator as it is, not an average."""

    columns = ("step", "kimg", "d_total", "d_teacher", "d_student", "d_real", "d_random")
    columns += ("g_total", "g_pixels", "g_features", "g_student", "g_random", "auc")
    keeps_moments = True

    def __init__(
        self,
        samples: SampleSet,
        real: SampleSet,
        seed: int,
        options: StudentOptions,
        device: str = "cpu",
    ) -> None:
        self.data = DistillationData(samples, real, seed, options.batch_size, device)
        record = student_record(samples, options)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(derive_seed(seed, "distillation weights"))
            generator = share_batch_norm(build_student(record))
            classes = len(samples.class_names)
            discriminator = Discriminator(options.ndf, classes, options.project_dim, 3)
        for network in (generator, discriminator):
            network.to(device, memory_format=torch.channels_last)
        self.pair = Networks(generator, discriminator)
        super().__init__("student", seed, options, self.pair.modules, record, device)
        self.optimizers = self.pair.optimizers
        self.latents = first_latents(samples, self.snapshots.labels)

    def step(self, step: int) -> Losses:
        """Train on the batch of the 0-based `step`."""
        rate = original_learning_rate(ORIGINAL_RATE, step, self.steps)
        for optimizer in self.optimizers.values():
            optimizer.param_groups[0]["lr"] = rate
        batch = self.data.batch(step).share(divide(self.options.batch_size, "batch_size"))
        weights = original_weights(step, self.data.updates_per_epoch)
        return original_step(self.pair, batch, weights)

    def take_snapshot(self, out: Path, step: int) -> None:
        """Draw the generator's snapshot."""
        self.average.load_state_dict(self.generator.state_dict())
        super().take_snapshot(out, step)
