"""Train a class-conditional StyleGAN2-ADA teacher on real images."""

from itertools import starmap
from pathlib import Path

import torch
from torch import Tensor

from lib.common.errors import StudyError
from lib.common.files import resolve, sha256_file
from lib.common.processes import launch
from lib.common.seeds import derive_seed, torch_generator
from lib.common.tensors import load_checkpoint
from lib.data.samples import SampleSet
from lib.gan.adversarial import AdversarialTraining, build_discriminator, build_generator
from lib.gan.batches import Batches, Snapshots
from lib.gan.generator import draw_noise, noise_sides
from lib.teacher.options import TeacherOptions
from lib.teacher.source import STATE, read_record


def train_teacher(
    out: Path,
    *,
    real: Path,
    seed: int,
    options: TeacherOptions,
    start: str = "",
    start_sha256: str = "",
    device: str = "cpu",
    num_processes: int = 1,
) -> None:
    """Train on the sample set `real`; write `teacher.safetensors` and more, see `Training.run`.

    `training.safetensors` is the state in which the training ends. A longer one goes on from such
    a file, `start`, whose SHA-256 may be given, too. `options.kimg` counts from the very
    beginning: with the same settings, two trainings end in the weights of one. `num_processes`
    share each batch.
    """
    if num_processes > 1:
        given = {"real": real, "seed": seed, "options": options, "device": device}
        given |= {"start": start, "start_sha256": start_sha256}
        return launch(train_teacher, num_processes, out, **given)
    training = TeacherTraining(SampleSet.load(real), seed, options, device)
    training.run(Path(out), training.go_on_from(start, start_sha256) if start else 0)


class TeacherTraining(AdversarialTraining):
    """The game with real images, from normal latents."""

    def __init__(self, real: SampleSet, seed: int, options: TeacherOptions, device: str = "cpu"):
        batches = Batches(real, "teacher", seed, options.batch_size, device)
        side, classes = real.images.shape[-1], batches.classes
        widths = options.channel_base, options.channel_max
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(derive_seed(seed, "teacher networks"))
            networks = {
                "generator": build_generator(options, options.z_dim, classes, side),
                "discriminator": build_discriminator(options, classes, side, *widths),
            }
        record = {"generator": networks["generator"].config}
        record |= {"class_names": real.class_names, "data": real.info["data"]}
        super().__init__(batches, options, networks, record, device)
        self.settings |= {"start": "", "start_sha256": ""}
        draws = torch_generator(seed, "teacher snapshot")
        self.latents = torch.randn(len(self.snapshots.labels), options.z_dim, generator=draws)

    def generate(self, step: int, labels: Tensor) -> Tensor:
        """Draw images of fresh latents and fresh noise."""
        batches, draws = self.batches, self.draws("noise", step)
        z = batches.latents(step, self.options.z_dim)
        sizes = [(batches.batch_size, side, draws) for side in noise_sides(self.generator)]
        noise = (whole[batches.rows] for whole in starmap(draw_noise, sizes))
        return self.generator(z, labels, noise_generator=noise)

    def render(self, z: Tensor, c: Tensor) -> Tensor:
        """Draw the averaged generator's images with its stored noise."""
        return self.average(z, c, noise_mode="const")

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
        if before.class_names != self.record["class_names"]:
            names = self.record["class_names"]
            raise StudyError(f"{path} was trained on other classes than {names}")
        if first >= self.steps:
            done = f"{path} has been shown {shown / 1000:g} thousand images already"
            raise StudyError(f"{done}: raise teacher_kimg, which counts them")
        own = {name: dict(adam.param_groups[0]) for name, adam in self.optimizers.items()}
        try:
            self.restore(load_checkpoint(path, self.networks, self.optimizers))
        except (KeyError, ValueError, IndexError) as error:
            raise StudyError(f"{path} does not fit this teacher: {error}") from error
        for name, settings in own.items():
            self.optimizers[name].param_groups[0].update(settings)
        self.snapshots = Snapshots(first, self.steps, self.batches.classes)
        return first

    def write(self, out: Path) -> None:
        """Write the results and the state."""
        super().write(out)
        self.save(out / STATE, self.steps)
