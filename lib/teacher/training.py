"""Train a class-conditional StyleGAN2-ADA teacher from scratch (Karras et al. 2020).

Non-saturating logistic loss, lazy R1 penalty, moving average of the generator's weights and
adaptive augmentation, with the settings of the official CIFAR-10 configuration: no path-length
penalty, no style mixing, no residual connections in the discriminator.
"""

import copy
import math
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lib.common.errors import StudyError
from lib.common.files import resolve, sha256_file, write_text
from lib.common.options import outcome
from lib.common.progress import progress
from lib.common.seeds import derive_seed, torch_generator
from lib.common.tensors import load_checkpoint, save_checkpoint, save_tensors
from lib.data.samples import SampleSet, to_uint8
from lib.gan.augment import AdaptiveProbability, Augment
from lib.gan.discriminator import Discriminator, DiscriminatorBlock
from lib.gan.generator import Generator, SynthesisBlock
from lib.teacher.batches import Batches, Snapshots
from lib.teacher.options import TeacherOptions
from lib.teacher.source import STATE, WEIGHTS, read_record

COLUMNS = ["step", "kimg", "loss_generator", "loss_discriminator", "r1", "real_sign", "augment_p"]
EMA_RAMPUP = 0.05
SUMMARY = "G {loss_generator:.6g} D {loss_discriminator:.6g} p {augment_p:.6g}"
LOG_ROWS = 100


def train_teacher(
    out: Path,
    *,
    real: Path,
    seed: int,
    options: TeacherOptions,
    start: str = "",
    start_sha256: str = "",
    device: str = "cpu",
) -> None:
    """Train on the sample set `real`; write the averaged generator, the log and snapshots.

    `out` receives `teacher.safetensors`, `log.csv`, `snapshots.safetensors`: `images
    (10, n, 3, 32, 32) uint8` from the same latents at `steps (10,)`, and their `labels (n,)`; and
    `training.safetensors`, the state in which the training ends. A longer one goes on from such a
    file, `start`, whose SHA-256 may be given, too. `options.kimg` counts from the very beginning:
    with the same settings, two trainings end in the weights of one. Killed and started again, a
    training continues from its last checkpoint and ends in the same bytes.
    """
    trainer = TeacherTrainer(SampleSet.load(real), seed, options, device)
    checkpoint = Path(out) / "checkpoint.safetensors"
    begin = trainer.go_on_from(start, start_sha256) if start else 0
    first = trainer.resume(checkpoint) or begin
    every = max(round(options.checkpoint_kimg * 1000 / options.batch_size), 1)
    numbers = range(first, trainer.steps)
    steps = progress(numbers, "teacher", trainer.steps, unit="step", initial=first)
    for step in steps:
        trainer.step(step)
        steps.set_postfix_str(trainer.summary)
        if (step + 1) % every == 0 and step + 1 < trainer.steps:
            trainer.save(checkpoint, step + 1)
    trainer.write(Path(out))
    checkpoint.unlink(missing_ok=True)


class TeacherTrainer:
    """The networks, optimizers and counters of one training run.

    `settings` is what decides the outcome beside the real images: a checkpoint must agree in it.
    """

    def __init__(self, real: SampleSet, seed: int, options: TeacherOptions, device: str = "cpu"):
        self.real, self.seed, self.options, self.device = real, seed, options, device
        self.settings = {"seed": seed, "start": "", "start_sha256": ""} | outcome(options)
        self.batches = Batches(real, seed, options.batch_size, options.z_dim, device)
        self.steps = max(math.ceil(options.kimg * 1000 / options.batch_size), 1)
        self.log_every = max(self.steps // LOG_ROWS, options.r1_interval)
        self.augment = Augment()
        self.adaptive = AdaptiveProbability(options.ada_target, options.ada_kimg)
        self.rows: list[str] = []
        self.sums: dict[str, list[float]] = {}
        self.summary = ""
        generator, discriminator = self._build_networks()
        average = copy.deepcopy(generator).eval().requires_grad_(False)
        self.networks = {"generator": generator, "discriminator": discriminator, "average": average}
        self.generator, self.discriminator, self.average = self.networks.values()
        # The lazy penalty scales the discriminator's settings (arXiv 1912.04958, appendix B).
        lazy = options.r1_interval / (options.r1_interval + 1)
        self.optimizers: dict[str, torch.optim.Optimizer] = {}
        for name, share in (("generator", 1.0), ("discriminator", lazy)):
            weights, rate = self.networks[name].parameters(), options.learning_rate * share
            adam = torch.optim.Adam(weights, rate, (0.0, 0.99**share), eps=1e-8, fused=True)
            self.optimizers[name] = adam
        self.snapshots = Snapshots(0, self.steps, self.batches.classes)

    def _build_networks(self) -> tuple[Generator, Discriminator]:
        o, classes = self.options, self.batches.classes
        mapping = {"num_layers": o.mapping_layers, "lr_multiplier": o.mapping_lr_multiplier}
        labels = mapping | {"lr_multiplier": o.label_lr_multiplier}
        widths = {"channel_base": o.channel_base, "channel_max": o.channel_max}
        channels, side = self.real.images.shape[1:3]
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(derive_seed(self.seed, "teacher networks"))
            generator = Generator(o.z_dim, classes, o.w_dim, side, channels, mapping, widths)
            discriminator = Discriminator(
                classes, side, channels, "orig", **widths, mapping_kwargs=labels
            )
        for block in [*generator.modules(), *discriminator.modules()]:
            if isinstance(block, SynthesisBlock | DiscriminatorBlock):
                block.precision = getattr(torch, o.precision)
        return generator.to(self.device).train(), discriminator.to(self.device).train()

    def step(self, step: int) -> None:
        """Update both networks once; every draw depends on (seed, step) alone."""
        if step in self.snapshots.due:
            self.take_snapshot(step)
        images, labels = self.batches.real(step)
        fake, fake_labels = self.generator_step(step)
        self.discriminator_step(step, images, labels, fake, fake_labels)
        if step % self.options.r1_interval == 0:
            self.r1_step(step, images, labels)
        self.update_average(step)
        self.adaptive.update(step)
        if (step + 1) % self.log_every == 0 or step + 1 == self.steps:
            self.log(step + 1)
        if step + 1 == self.steps:
            self.take_snapshot(step + 1)

    def draws(self, name: str, step: int) -> torch.Generator:
        """Return the generator of one step's random numbers."""
        return torch_generator(self.seed, "teacher training", name, step)

    def generator_step(self, step: int) -> tuple[Tensor, Tensor]:
        """Update the generator; return the images it made, for the discriminator."""
        z, c = self.batches.fake(step)
        self.discriminator.requires_grad_(False)
        fake = self.generator(z, c, noise_generator=self.draws("noise", step))
        augmented = self.augment(fake, self.adaptive.p, self.draws("augment generator", step))
        loss = F.softplus(-self.discriminator(augmented, c)).mean()
        self.update(self.optimizers["generator"], loss)
        self.record(step, "loss_generator", loss)
        return fake.detach(), c

    def discriminator_step(
        self, step: int, real: Tensor, real_c: Tensor, fake: Tensor, fake_c: Tensor
    ) -> None:
        """Update the discriminator on real and generated images in one pass."""
        self.discriminator.requires_grad_(True)
        draws = self.draws("augment discriminator", step)
        images = self.augment(interleave(real, fake), self.adaptive.p, draws)
        logits = self.discriminator(images, interleave(real_c, fake_c))
        real_logits, fake_logits = logits[0::2], logits[1::2]
        loss = F.softplus(-real_logits).mean() + F.softplus(fake_logits).mean()
        self.update(self.optimizers["discriminator"], loss)
        self.record(step, "loss_discriminator", loss)
        self.record(step, "real_sign", real_logits.detach().sign().mean())
        self.adaptive.observe(real_logits.detach())

    def r1_step(self, step: int, real: Tensor, c: Tensor) -> None:
        """Penalise the discriminator's gradient at real images (Mescheder et al. 2018)."""
        real = real.requires_grad_(True)
        images = self.augment(real, self.adaptive.p, self.draws("augment r1", step))
        logits = self.discriminator(images, c)
        (gradient,) = torch.autograd.grad(logits.sum(), real, create_graph=True)
        penalty = gradient.square().sum(dim=[1, 2, 3]).mean()
        weight = self.options.r1_gamma / 2 * self.options.r1_interval
        self.update(self.optimizers["discriminator"], penalty * weight)
        self.record(step, "r1", penalty)

    def update(self, optimizer: torch.optim.Optimizer, loss: Tensor) -> None:
        """Take one optimizer step."""
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()

    @torch.no_grad()
    def update_average(self, step: int) -> None:
        """Move the averaged generator: its half-life ramps up with the images seen."""
        batch = self.options.batch_size
        half_life = min(self.options.ema_kimg * 1000, (step + 1) * batch * EMA_RAMPUP)
        weight = 1 - 0.5 ** (batch / max(half_life, 1e-8))
        ours, theirs = list(self.average.parameters()), list(self.generator.parameters())
        torch._foreach_lerp_(ours, theirs, weight)
        for mine, other in zip(self.average.buffers(), self.generator.buffers(), strict=True):
            mine.copy_(other)

    def record(self, step: int, name: str, value: Tensor) -> None:
        """Add a value to the next row of the log; stop if it is not finite."""
        value = value.item()
        if not math.isfinite(value):
            remedy = "lower the learning rate or raise r1_gamma, and start again"
            raise StudyError(f"teacher training: {name} is {value} at step {step}: {remedy}")
        self.sums.setdefault(name, []).append(value)

    def log(self, step: int) -> None:
        """Write a row with the means since the last one."""
        means = {name: np.mean(values) for name, values in self.sums.items()}
        kimg = step * self.options.batch_size / 1000
        means |= {"step": step, "kimg": kimg, "augment_p": self.adaptive.p}
        self.rows.append(",".join(f"{means[k]:.6g}" if k in means else "" for k in COLUMNS))
        self.summary = SUMMARY.format_map(means)
        self.sums = {}

    @torch.no_grad()
    def take_snapshot(self, step: int) -> None:
        """Draw the averaged generator's images of the fixed latents."""
        labels = self.batches.one_hot(self.snapshots.labels)
        draws = torch_generator(self.seed, "teacher snapshot")
        z = torch.randn(len(labels), self.options.z_dim, generator=draws).to(self.device)
        images = to_uint8(self.average(z, labels, noise_mode="const")).cpu()
        self.snapshots.images[self.snapshots.steps == step] = images

    def save(self, path: Path, step: int) -> None:
        """Write a checkpoint from which training continues at `step`."""
        state = {
            "options": self.settings,
            "step": step,
            "adaptive": [self.adaptive.p, self.adaptive.signs, self.adaptive.count],
            "rows": self.rows,
            "sums": self.sums,
            "class_names": self.real.class_names,
        }
        modules = self.networks | {"snapshots": self.snapshots}
        save_checkpoint(path, modules, self.optimizers, state)

    def resume(self, path: Path) -> int:
        """Continue from the checkpoint, if there is one; return the next step."""
        if not path.exists():
            return 0
        state = self._load(path, {"snapshots": self.snapshots})
        if state["options"] != self.settings:
            raise StudyError(f"{path} was made with other parameters: delete it to start again")
        return state["step"]

    def _load(self, path: Path, more: dict[str, nn.Module]) -> dict:
        state = load_checkpoint(path, self.networks | more, self.optimizers)
        self.adaptive.p, self.adaptive.signs, self.adaptive.count = state["adaptive"]
        self.rows, self.sums = state["rows"], state["sums"]
        return state

    def go_on_from(self, start: str | Path, sha256: str = "") -> int:
        """Take over the state of another training; return the step at which this one begins.

        The optimizers keep their own settings.
        """
        path = resolve(start)
        if sha256 and sha256_file(path) != sha256:
            raise StudyError(f"{path} is not the file it was: mend it, or run again from the start")
        self.settings |= {"start": str(start), "start_sha256": sha256}
        before = read_record(path)
        shown = before.step * before.options.batch_size
        first = shown // self.options.batch_size
        if before.class_names != self.real.class_names:
            raise StudyError(f"{path} was trained on other classes than {self.real.class_names}")
        if first >= self.steps:
            done = f"{path} has been shown {shown / 1000:g} thousand images already"
            raise StudyError(f"{done}: raise teacher_kimg, which counts them")
        own = {name: dict(adam.param_groups[0]) for name, adam in self.optimizers.items()}
        try:
            self._load(path, {})
        except (KeyError, ValueError, IndexError) as error:
            raise StudyError(f"{path} does not fit this teacher: {error}") from error
        for name, settings in own.items():
            self.optimizers[name].param_groups[0].update(settings)
        self.snapshots = Snapshots(first, self.steps, self.batches.classes)
        return first

    def write(self, out: Path) -> None:
        """Write the final files."""
        record = {
            "generator": self.average.config,
            "class_names": self.real.class_names,
            "data": self.real.info["data"],
        }
        save_tensors(out / WEIGHTS, self.average, record)
        save_tensors(out / "snapshots.safetensors", self.snapshots, record)
        write_text(out / "log.csv", "\n".join([",".join(COLUMNS), *self.rows]) + "\n")
        self.save(out / STATE, self.steps)


def interleave(real: Tensor, fake: Tensor) -> Tensor:
    """Return real, fake, real, fake …: the minibatch statistics then mix no real with a fake.

    Their groups are images at the same place modulo an even number.
    """
    return torch.stack([real, fake], dim=1).flatten(0, 1)
