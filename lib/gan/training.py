"""A training of generator and discriminator: its steps, log, snapshots, checkpoints, resuming."""

import copy
import math
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from lib.common.errors import StudyError
from lib.common.files import write_text
from lib.common.options import outcome
from lib.common.processes import average_gradients, mean, rank, wait
from lib.common.progress import progress
from lib.common.seeds import torch_generator
from lib.common.tensors import load_checkpoint, save_checkpoint, save_tensors
from lib.data.samples import to_uint8
from lib.gan.batches import Snapshots

EMA_RAMPUP = 0.05  # half-life of the running average, at most, in images shown so far
LOG_ROWS = 200
Losses = dict[str, Tensor]


class Training:
    """A run of `steps` steps, whose every draw depends on (seed, step) alone.

    A subclass says by `step` what a step does. networks: by name, among them "generator", whose
    running average joins them as "average". options: with `kimg`, `batch_size`, `ema_kimg` and
    `checkpoint_kimg`. settings: what decides the outcome beside the images; a checkpoint must
    agree in it. record: what is written beside the weights.
    """

    columns: tuple[str, ...]
    keeps_moments = False
    """Whether the averaged generator of each snapshot is written, too."""

    def __init__(
        self,
        name: str,
        seed: int,
        options: Any,
        networks: dict[str, nn.Module],
        record: dict[str, Any],
        device: str,
    ) -> None:
        self.name, self.seed, self.options, self.device = name, seed, options, device
        self.record = record
        average = copy.deepcopy(networks["generator"]).eval().requires_grad_(False)
        self.networks = networks | {"average": average}
        self.generator, self.discriminator, self.average = self.networks.values()
        self.optimizers: dict[str, torch.optim.Optimizer] = {}
        self.settings = {"seed": seed} | outcome(options)
        self.steps = max(math.ceil(options.kimg * 1000 / options.batch_size), 1)
        self.log_every = -(-self.steps // LOG_ROWS)
        self.rows: list[str] = []
        self.sums: dict[str, list[float]] = {}
        self.snapshots = Snapshots(0, self.steps, len(record["class_names"]))
        self.latents = torch.empty(0)
        """Those of the snapshots."""

    def run(self, out: Path, begin: int = 0) -> None:
        """Train from step `begin`, or the checkpoint in `out`, to the end; write the results.

        They are `<name>.safetensors`, the averaged generator; `log.csv`; and
        `snapshots.safetensors`: `images (16, n, 3, 32, 32) uint8` of the same latents at
        `steps (16,)`, and their `labels (n,)`; where moments are kept, their generators in
        `moments/<kimg>.safetensors`. Killed and started again, a run ends in the same
        bytes.
        """
        checkpoint = out / "checkpoint.safetensors"
        first = self.resume(checkpoint) if checkpoint.exists() else begin
        wait()  # for all to have looked
        every = max(round(self.options.checkpoint_kimg * 1000 / self.options.batch_size), 1)
        numbers = range(first, self.steps)
        bar = progress(numbers, self.name, self.steps, unit="step", initial=first)
        for step in bar:
            if step in self.snapshots.due:
                self.take_snapshot(out, step)
            self.note(step, self.step(step))
            if (step + 1) % self.log_every == 0 or step + 1 == self.steps:
                bar.set_postfix_str(self.log(step + 1))
            if (step + 1) % every == 0 and step + 1 < self.steps:
                self.save(checkpoint, step + 1)
        self.take_snapshot(out, self.steps)
        self.check_weights(self.steps)
        self.write(out)
        wait()
        if rank() == 0:
            checkpoint.unlink(missing_ok=True)

    def step(self, step: int) -> Losses:
        """Update the networks once; return scalars for the log."""
        raise NotImplementedError

    def draws(self, name: str, step: int) -> torch.Generator:
        """Return the generator of one step's random numbers."""
        return torch_generator(self.seed, f"{self.name} training", name, step)

    @torch.no_grad()
    def update_average(self, step: int) -> None:
        """Move the averaged generator: its half-life ramps up with the images shown.

        BatchNorm's statistics are averaged like weights; other buffers are copied.
        """
        batch = self.options.batch_size
        half_life = min(self.options.ema_kimg * 1000, (step + 1) * batch * EMA_RAMPUP)
        weight = 1 - 0.5 ** (batch / max(half_life, 1e-8))
        ours, theirs = list(self.average.parameters()), list(self.generator.parameters())
        torch._foreach_lerp_(ours, theirs, weight)
        buffers = zip(self.average.named_buffers(), self.generator.buffers(), strict=True)
        for (name, mine), other in buffers:
            statistic = name.endswith(("running_mean", "running_var"))
            mine.lerp_(other, weight) if statistic else mine.copy_(other)

    def note(self, step: int, losses: Losses) -> None:
        """Add the step's scalars to the next row of the log; stop if one is not finite."""
        values = mean(torch.stack([value.detach().float() for value in losses.values()])).tolist()
        for name, value in zip(losses, values, strict=True):
            if not math.isfinite(value):
                raise self._diverged(f"{name} is {value}", step)
            total, n = self.sums.get(name, (0.0, 0))
            self.sums[name] = [total + value, n + 1]

    def log(self, step: int) -> str:
        """Close a row of the log: the means since the last one; return its losses as text."""
        means = {name: total / n for name, (total, n) in self.sums.items()}
        shown = {"step": step, "kimg": step * self.options.batch_size / 1000} | means
        self.rows.append(",".join(f"{shown[k]:.6g}" if k in shown else "" for k in self.columns))
        self.sums = {}
        return " ".join(f"{name} {value:.3g}" for name, value in means.items())

    def take_snapshot(self, out: Path, step: int) -> None:
        """Draw the averaged generator's images of the snapshots' latents."""
        labels = nn.functional.one_hot(self.snapshots.labels, len(self.record["class_names"]))
        with torch.no_grad():
            images = to_uint8(
                self.render(self.latents.to(self.device), labels.float().to(self.device))
            )
        self.snapshots.images[self.snapshots.steps == step] = images.cpu()
        if self.keeps_moments and rank() == 0:
            kimg = step * self.options.batch_size / 1000
            save_tensors(out / "moments" / f"{kimg:09.3f}.safetensors", self.average, self.record)

    def render(self, z: Tensor, c: Tensor) -> Tensor:
        """Draw the averaged generator's images `(n, 3, 32, 32)` in [-1, 1]."""
        return self.average(z, c)

    def state(self, step: int) -> dict[str, Any]:
        """Return what a checkpoint holds beside networks and optimizers; JSON-able."""
        return {
            "options": self.settings,
            "step": step,
            "rows": self.rows,
            "sums": self.sums,
            "class_names": self.record["class_names"],
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Take over what `state` returned."""
        self.rows, self.sums = state["rows"], state["sums"]

    def save(self, path: Path, step: int) -> None:
        """Write a checkpoint from which training continues at `step`; never a spoilt one."""
        self.check_weights(step)
        if rank() == 0:
            modules = self.networks | {"snapshots": self.snapshots}
            save_checkpoint(path, modules, self.optimizers, self.state(step))

    def check_weights(self, step: int) -> None:
        """Raise `StudyError` if a weight or a statistic is no longer finite."""
        for name, network in self.networks.items():
            for key, tensor in network.state_dict().items():
                if not tensor.isfinite().all():
                    raise self._diverged(f"{name}'s {key} is not finite", step)

    def resume(self, path: Path) -> int:
        """Continue from a checkpoint; return the next step."""
        modules = self.networks | {"snapshots": self.snapshots}
        state = load_checkpoint(path, modules, self.optimizers)
        if state["options"] != self.settings:
            raise StudyError(f"{path} was made with other parameters: delete it to start again")
        self.restore(state)
        return state["step"]

    def write(self, out: Path) -> None:
        """Write the results."""
        if rank() == 0:
            save_tensors(out / f"{self.name}.safetensors", self.average, self.record)
            save_tensors(out / "snapshots.safetensors", self.snapshots, self.record)
            write_text(out / "log.csv", "\n".join([",".join(self.columns), *self.rows]) + "\n")

    def _diverged(self, what: str, step: int) -> StudyError:
        remedy = "lower the learning rate or raise r1_gamma, and start again"
        return StudyError(f"{self.name} training: {what} at step {step}: {remedy}")


def descend(optimizer: torch.optim.Optimizer, loss: Tensor) -> None:
    """Take one step down the gradient of `loss`, its mean over the processes."""
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    average_gradients(optimizer.param_groups[0]["params"])
    optimizer.step()


def auc(true: Tensor, fake: Tensor) -> Tensor:
    """Return how often a true image's logit is the higher, over all pairs of `(n, 1)`, `(m, 1)`.

    A tie counts half; a discriminator that is blind has 0.5.
    """
    return ((true > fake.T).float() + (true == fake.T) / 2).mean()
