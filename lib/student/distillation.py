"""Distillation: train the student on a teacher's images, with the teacher as a black box.

`distill` writes three files: `student.safetensors` (the generator), `log.csv` (losses) and
`progress.safetensors` (the same latents rendered during the training).
"""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from lib.common.errors import StudyError
from lib.common.files import write_text
from lib.common.options import outcome
from lib.common.processes import divide, launch, mean, rank, share_batch_norm, wait
from lib.common.progress import progress
from lib.common.seeds import derive_seed, torch_generator
from lib.common.tensors import load_checkpoint, load_tensors, save_checkpoint, save_tensors
from lib.student import steps
from lib.student.batches import DistillationData
from lib.student.networks import Discriminator
from lib.student.options import StudentOptions, parse_recipe
from lib.student.sampling import build_student, generate
from lib.student.steps import Losses, Networks, Weights

CONSTANT_SHARE = 0.5  # of the training; then the learning rate falls linearly to 0
AVERAGE_RAMP = 0.05  # half-life of the running average, at most, in images seen so far
RENDERS = 24  # over the whole training, at most
LOG_ROWS = 200  # over the whole training, at most
GRID_IMAGES = 80
DIVERGED = 1e4  # a loss beyond it has run away; they start below 10
LOG_COLUMNS = (
    "update epoch learning_rate pixel_weight d_total d_teacher d_student d_real d_random "
    "g_total g_pixels g_features g_student g_random"
)


def distill(
    out: Path,
    *,
    samples: Path,
    real: Path,
    seed: int,
    options: StudentOptions,
    device: str = "cpu",
    num_processes: int = 1,
) -> None:
    """Train a student on the teacher's SampleSet `samples` and the real SampleSet `real`.

    A run that was killed resumes from the last of its checkpoints and ends in the same bytes.
    `num_processes` share each batch on this machine; `accelerate launch` starts processes on
    several. Raises `StudyError` where the sets do not fit or a loss is no longer finite.
    """
    if num_processes > 1:
        given = {"samples": samples, "real": real, "seed": seed, "options": options}
        return launch(distill, num_processes, out, device=device, **given)
    data = DistillationData(samples, real, seed, options, device)
    Distillation(out, data, options).run()


class Distillation:
    """One training run in the folder `out`."""

    def __init__(self, out: Path, data: DistillationData, options: StudentOptions) -> None:
        self.out, self.data, self.options = out, data, options
        self.checkpoint = out / "checkpoint.safetensors"
        self.changes = parse_recipe(options.recipe)
        self.total = options.epochs * data.updates_per_epoch
        self.log_interval = -(-self.total // LOG_ROWS)
        renders = min(RENDERS, options.epochs + 1)
        self.render_at = {self.total * k // (renders - 1) for k in range(renders)}
        self.config = {
            "z_dim": data.z_dim,
            "c_dim": len(data.class_names),
            "nc": 3,
            "ngf": options.ngf,
            "project_dim": options.project_dim,
            "residual": "residual" in self.changes,
            "recipe": options.recipe,
            "class_names": data.class_names,
            "data": data.info["data"],
            "latent_distribution": "normal",
        }
        self.networks = self._build_networks()
        made_from = outcome(options) | {"seed": data.seed}
        self.state: dict[str, Any] = {"update": 0, "rows": [], "sums": {}, "options": made_from}

    def _build_networks(self) -> Networks:
        """Build both networks from the seed, alike on every device, and their optimizers."""
        o, classes = self.options, self.config["c_dim"]
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(derive_seed(self.data.seed, "distillation weights"))
            generator = share_batch_norm(build_student(self.config))
            projection = "projection" in self.changes
            discriminator = Discriminator(o.ndf, classes, o.project_dim, 3, projection)
        for network in (generator, discriminator):
            network.to(self.data.device, memory_format=torch.channels_last)
        return Networks(generator, discriminator, o.learning_rate)

    def run(self) -> None:
        """Train to the end and write the results; the checkpoint goes with them."""
        parts = self.networks.modules, self.networks.optimizers
        if self.checkpoint.exists():
            state = load_checkpoint(self.checkpoint, *parts)
            if state["options"] != self.state["options"]:
                raise StudyError(
                    f"{self.checkpoint} was made with other parameters: delete it to start anew"
                )
            self.state = state
        wait()  # for all to have looked
        done = self.state["update"]
        if done == 0:
            self._render(0)
        for update in progress(range(done, self.total), "student", self.total, "update", done):
            self.step(update)
            self.state["update"] = update + 1
            if update + 1 in self.render_at:
                self._render(update + 1)
            if (update + 1) % self.options.checkpoint_updates == 0:
                self._check_weights()
                if rank() == 0:
                    save_checkpoint(self.checkpoint, *parts, self.state)
        self._finish()

    def step(self, update: int) -> None:
        """Train on the batch of the 0-based `update`, average the weights, note the losses."""
        rate, weights = self.schedule(update)
        for optimizer in self.networks.optimizers.values():
            optimizer.param_groups[0]["lr"] = rate
        batch = self.data.batch(update).share(divide(self.options.batch_size, "batch_size"))
        if "one_pass" in self.changes:
            losses = steps.one_pass_step(self.networks, batch, weights)
        else:
            losses = steps.original_step(self.networks, batch, weights, self.changes)
        self._note(update, losses, {"learning_rate": rate, "pixel_weight": weights.pixel})
        steps.update_average(self.networks.average, self.networks.generator, self.decay(update))

    def schedule(self, update: int) -> tuple[float, Weights]:
        """Return the learning rate and the weights of the losses at `update`."""
        o, changes = self.options, self.changes
        start = o.learning_rate if "learning_rate" in changes else steps.ORIGINAL_RATE
        rate = steps.original_learning_rate(start, update, self.total)
        if "rate_decay" in changes:
            left = 1 - update / self.total
            rate = start * min(1.0, left / (1 - CONSTANT_SHARE))
        weights = steps.original_weights(update, self.data.updates_per_epoch)
        if "pixel_epochs" in changes:
            left = 1 - update / self.data.updates_per_epoch / o.pixel_epochs
            weights = replace(weights, pixel=o.pixel_weight * max(0.0, left))
        if "adversarial" in changes:
            due = (update + 1) % o.adversarial_interval == 0
            weights = replace(weights, adversarial=o.adversarial_weight if due else 0.0)
        return rate, weights

    def decay(self, update: int) -> float:
        """Return the running average's factor after `update`; 0 without the change "average"."""
        if "average" not in self.changes:
            return 0.0
        seen = (update + 1) * self.options.batch_size
        half_life = min(self.options.ema_kimg * 1000, seen * AVERAGE_RAMP)
        return 0.5 ** (self.options.batch_size / half_life)

    def _note(self, update: int, losses: Losses, constants: dict[str, float]) -> None:
        """Add to the running means; close a row of the log at the end of its interval."""
        values = mean(torch.stack([loss.detach() for loss in losses.values()])).tolist()
        sums = self.state["sums"]
        for name, value in zip(losses, values, strict=True):
            if not abs(value) < DIVERGED:
                raise self._diverged(f"{name} is {value:g}", update)
            total, n = sums.get(name, (0.0, 0))
            sums[name] = (total + value, n + 1)
        if (update + 1) % self.log_interval == 0 or update + 1 == self.total:
            epoch = (update + 1) / self.data.updates_per_epoch
            means = {name: total / n for name, (total, n) in sums.items()}
            self.state["rows"].append({"update": update + 1, "epoch": epoch} | constants | means)
            self.state["sums"] = {}

    def _diverged(self, what: str, update: int) -> StudyError:
        return StudyError(
            f"distillation: {what} at update {update}: lower the learning rate "
            f"({self.schedule(update)[0]:g}) and start again"
        )

    def _check_weights(self) -> None:
        """Raise `StudyError` if a weight or a BatchNorm statistic is no longer finite."""
        for name, module in self.networks.modules.items():
            for key, tensor in module.state_dict().items():
                if not tensor.isfinite().all():
                    raise self._diverged(f"{name}'s {key} is not finite", self.state["update"])

    def _render(self, update: int) -> None:
        """Add the averaged generator's images of the fixed latents to progress.safetensors.

        They run class by class. Images of a killed run that lie after its last checkpoint are made
        again.
        """
        if rank() > 0:
            return
        path, data, classes = self.out / "progress.safetensors", self.data, self.config["c_dim"]
        labels = torch.arange(classes).repeat_interleave(max(1, GRID_IMAGES // classes))
        generator = torch_generator(data.seed, "distillation grid")
        latents = torch.randn(len(labels), data.z_dim, generator=generator)
        images = torch.from_numpy(generate(self.networks.average, latents, labels))[None]
        updates = [update]
        if update > 0:
            earlier, record = load_tensors(path)
            kept = [k for k, value in enumerate(record["updates"]) if value < update]
            images = torch.cat([earlier["images"][kept], images])
            updates = [record["updates"][k] for k in kept] + updates
        tensors = {"images": images, "latents": latents, "labels": labels}
        tensors["epochs"] = torch.tensor(updates) / data.updates_per_epoch
        save_tensors(path, tensors, {"updates": updates, "class_names": data.class_names})

    def _finish(self) -> None:
        self._check_weights()
        if rank() == 0:
            save_tensors(self.out / "student.safetensors", self.networks.average, self.config)
            log = pd.DataFrame(self.state["rows"], columns=LOG_COLUMNS.split())
            write_text(self.out / "log.csv", log.to_csv(index=False, float_format="%.6g"))
        wait()
        if rank() == 0:
            self.checkpoint.unlink(missing_ok=True)
