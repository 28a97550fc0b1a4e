"""The student: steps a second of its training, images a second of its sampling.

Training: the study's loop beside a plain one of the same networks and losses, as a text-book has
it: feature maps in torch's own layout and float32, Adam without fusing, augmentation by torch's
functions image by image, one PNG and one latent file read an item. Both draw batches of the same
size by the settings of params/cifar10-cpu.yaml. Sampling: torch eager beside the exported student
in OpenVINO, FP32 and INT8, in batches of 64. Alternatives take turns within one run; medians are
printed.
"""

import argparse
import copy
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import openvino as ov
import openvino.properties.hint as hints
import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

from benchmarks.grouped_generator import grouped_images, plain_logits
from lib.app.export import draw_inputs, files, write_formats
from lib.common.files import ROOT
from lib.common.tensors import save_tensors
from lib.data.samples import SampleSet, to_float
from lib.gan.augment import Augment
from lib.quantization.models import read_ir
from lib.student.build import Student, build_student, student_record
from lib.student.options import StudentOptions
from lib.student.training import StudentTraining
from lib.study.params import read_profile, validate

IMAGES, Z_DIM, BATCH_64 = 1024, 128, 64
AUGMENTED = 0.1  # the augmentation's probability, in both loops


def settings() -> StudentOptions:
    """Return the settings of a training by params/cifar10-cpu.yaml."""
    return validate(read_profile(ROOT / "params" / "cifar10-cpu.yaml")).options("student")


def random_samples() -> SampleSet:
    """Return samples of noise of ten classes with their latents."""
    rng, labels = np.random.default_rng(0), np.arange(IMAGES) % 10
    images = rng.integers(0, 256, (IMAGES, 3, 32, 32), dtype=np.uint8)
    latents = rng.standard_normal((IMAGES, Z_DIM), dtype=np.float32)
    info = {"class_names": [str(k) for k in range(10)], "data": "noise"}
    return SampleSet(images, labels, latents, info)


def plain_loop(samples: SampleSet, options: StudentOptions) -> Iterator[None]:
    """Take a step of the plain loop each time, with the networks and losses of the study's."""
    same = StudentTraining(samples, None, 0, options)
    g, d, average = same.generator, same.discriminator, copy.deepcopy(same.generator)
    lazy, rate = options.r1_interval / (options.r1_interval + 1), options.learning_rate
    adam_g = torch.optim.Adam(g.parameters(), rate, (0.0, 0.99))
    adam_d = torch.optim.Adam(d.parameters(), rate * lazy, (0.0, 0.99**lazy))
    arrays = (torch.from_numpy(part) for part in (samples.images, samples.labels, samples.latents))
    data, step = TensorDataset(*arrays), 0
    while True:
        for pixels, labels, z in DataLoader(data, options.batch_size, shuffle=True, drop_last=True):
            real, c = to_float(pixels), F.one_hot(labels, 10).float()
            fake = grouped_images(g, z, c)
            _descend(adam_g, F.softplus(-plain_logits(d, augmented(fake), c)).mean())
            both = torch.stack([real, fake.detach()], 1).flatten(0, 1)
            logits = plain_logits(d, augmented(both), c.repeat_interleave(2, 0))
            loss = F.softplus(-logits[0::2]).mean() + F.softplus(logits[1::2]).mean()
            _descend(adam_d, loss)
            if step % options.r1_interval == 0:
                real.requires_grad_(True)
                total = plain_logits(d, augmented(real), c).sum()
                (gradient,) = torch.autograd.grad(total, real, create_graph=True)
                penalty = gradient.square().sum([1, 2, 3]).mean()
                _descend(adam_d, penalty * options.r1_gamma / 2 * options.r1_interval)
            with torch.no_grad():
                for mine, other in zip(average.parameters(), g.parameters(), strict=True):
                    mine.lerp_(other, 0.001)
            step += 1
            yield


def augmented(images: Tensor) -> Tensor:
    """Augment images one by one."""
    draws = torch.Generator().manual_seed(0)
    return torch.cat([Augment()(image, AUGMENTED, draws) for image in images.split(1)])


def _descend(adam: torch.optim.Adam, loss: Tensor) -> None:
    adam.zero_grad()
    loss.backward()
    adam.step()


def study_loop(samples: SampleSet, options: StudentOptions) -> Iterator[None]:
    """Take a step of the study's loop each time."""
    training, step = StudentTraining(samples, None, 0, options), 0
    while True:
        training.adaptive.p = AUGMENTED
        training.note(step, training.step(step))
        step += 1
        yield


def interleave(work: dict[str, Callable[[], object]], turns: int) -> dict[str, list[float]]:
    """Call every function in turn, once to warm up and `turns` times measured; return seconds."""
    seconds: dict[str, list[float]] = {name: [] for name in work}
    for turn in range(turns + 1):
        for name, call in work.items():
            started = time.perf_counter()
            call()
            if turn:
                seconds[name].append(time.perf_counter() - started)
    return seconds


def report(title: str, unit: str, amount: float, seconds: dict[str, list[float]]) -> None:
    """Print the medians, and how many times the first alternative's rate each has."""
    print(title)
    base = next(iter(seconds.values()))
    for name, values in seconds.items():
        ratio = np.median(np.array(base) / np.array(values))
        rate = amount / np.median(values)
        print(f"  {name:36} {rate:10.3g} {unit}, {ratio:.2f} times the first")


def measure_training(turns: int, options: StudentOptions) -> None:
    """Print the steps a second of the loops, the pairing of the first images left out."""
    options, samples = replace(options, pairing_weight=0.0), random_samples()
    loops = {
        "plain loop, float32": plain_loop(samples, options),
        "this study, float32": study_loop(samples, replace(options, precision="float32")),
        "this study, bfloat16": study_loop(samples, replace(options, precision="bfloat16")),
    }
    work = {name: _turn(loop, options.r1_interval) for name, loop in loops.items()}
    seconds = interleave(work, turns)
    title = f"Training, batch {options.batch_size}, {options.r1_interval} steps in turn"
    report(title, "images/s", options.r1_interval * options.batch_size, seconds)


def _turn(loop: Iterator[None], steps: int) -> Callable[[], None]:
    def run() -> None:
        for _ in range(steps):
            next(loop)

    return run


def measure_sampling(folder: Path, turns: int, options: StudentOptions, calls: int = 8) -> None:
    """Print the images a second of an untrained student of these settings."""
    torch.manual_seed(0)
    record = student_record(random_samples(), options)
    network = build_student(record).eval()
    network.config = record
    save_tensors(folder / "student.safetensors", network, network.config)
    write_formats(folder / "export", network, 0)
    z, c, psi = draw_inputs(network, BATCH_64, 0, "benchmark")
    work: dict[str, Callable[[], object]] = {
        "torch eager": _eager(network, z, c, calls),
    }
    for name in ("fp32", "int8"):
        path = files(folder / "export")[name]
        work[f"OpenVINO {name.upper()}"] = _compiled(path, {"z": z, "c": c, "psi": psi}, calls)
    title = f"Sampling, {sum(p.numel() for p in network.parameters()):,} parameters, batch 64"
    report(f"{title}, {turns} turns", "images/s", calls * BATCH_64, interleave(work, turns))


def _eager(network: Student, z: torch.Tensor, c: torch.Tensor, calls: int) -> Callable[[], None]:
    @torch.inference_mode()
    def run() -> None:
        for _ in range(calls):
            network(z, c)

    return run


def _compiled(path: Path, inputs: dict[str, torch.Tensor], calls: int) -> Callable[[], None]:
    model = read_ir(path)
    model.reshape({name: list(tensor.shape) for name, tensor in inputs.items()})
    arrays = {name: tensor.numpy() for name, tensor in inputs.items()}
    config = {
        hints.inference_precision: ov.Type.f32,
        hints.performance_mode: hints.PerformanceMode.THROUGHPUT,
        hints.enable_cpu_pinning: False,
        ov.properties.inference_num_threads: torch.get_num_threads(),
    }
    queue = ov.AsyncInferQueue(ov.compile_model(model, "CPU", config))

    def run() -> None:
        for _ in range(calls):
            queue.start_async(arrays)
        queue.wait_all()

    return run


def main(arguments: list[str] | None = None) -> None:
    """Run both measurements."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.student", description=__doc__)
    parser.add_argument("--turns", type=int, default=10, help="measured turns of each alternative")
    parser.add_argument("--part", choices=("training", "sampling"), help="one measurement alone")
    options, _ = parser.parse_known_args(arguments)
    print(f"torch {torch.__version__}, OpenVINO {ov.__version__}, {os.cpu_count()} CPUs", end=", ")
    print(f"{torch.get_num_threads()} threads", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        if options.part != "sampling":
            measure_training(options.turns, settings())
        if options.part != "training":
            measure_sampling(Path(folder), options.turns, settings())


if __name__ == "__main__":
    main()
