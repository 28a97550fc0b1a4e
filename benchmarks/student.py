"""The student: updates a second of its training, images a second of its sampling.

Training: the study's loop beside a plain one in the original's manner, which reads one PNG and one
latent file an item and makes the student's images separately for each network's update. Both train
the original's networks with the original's losses, on the same data and batch size. Sampling: torch
eager beside the exported student in OpenVINO, FP32 and INT8, in batches of 64. Alternatives take
turns within one run; medians are printed.
"""

import argparse
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import openvino as ov
import openvino.properties.hint as hints
import torch
from PIL import Image
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset
from torchvision.transforms.functional import normalize, to_tensor

from lib.app.export import draw_inputs, files, plain_form, write_formats
from lib.common.tensors import save_tensors
from lib.data.samples import SampleSet
from lib.quantization.models import read_ir
from lib.student.batches import Batch, DistillationData
from lib.student.distillation import Distillation
from lib.student.networks import Discriminator, Generator
from lib.student.options import StudentOptions
from lib.student.sampling import build_student
from lib.student.steps import Networks, original_step, original_weights

SIZES = {"z_dim": 512, "c_dim": 10, "ngf": 256, "project_dim": 128, "nc": 3}  # the original's
NDF, BATCH, IMAGES = 128, 128, 1024
INFO = {"class_names": [str(k) for k in range(10)], "data": "noise"}
BATCH_64 = 64


class Files(Dataset):
    """`class_<k>/image_<i>.png` with `noise_<i>.pt`, read item by item."""

    def __init__(self, folder: Path) -> None:
        self.paths = sorted(folder.glob("class_*/image_*.png"))

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, ...]:
        path = self.paths[index]
        image = normalize(to_tensor(Image.open(path).convert("RGB")), [0.5] * 3, [0.5] * 3)
        latent = torch.load(path.with_name(f"noise_{path.stem.split('_')[1]}.pt"))
        label = F.one_hot(torch.tensor(int(path.parent.name.split("_")[1])), 10).float()
        return latent, image, label


def write_data(folder: Path) -> None:
    """Write the same images as files and as sample sets."""
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (IMAGES, 3, 32, 32), dtype=np.uint8)
    latents = rng.standard_normal((IMAGES, SIZES["z_dim"]), dtype=np.float32)
    labels = np.arange(IMAGES) % 10
    SampleSet(images, labels, latents, INFO).save(folder / "samples")
    SampleSet(images[::-1].copy(), labels[::-1].copy(), info=INFO).save(folder / "real")
    for k in range(IMAGES):
        place = folder / "files" / f"class_{labels[k]}"
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray(images[k].transpose(1, 2, 0)).save(place / f"image_{k}.png")
        torch.save(torch.from_numpy(latents[k]), place / f"noise_{k}.pt")


def plain_loop(folder: Path) -> Iterator[object]:
    """Yield after every update of the plain loop."""
    torch.manual_seed(0)
    generator = plain_form(Generator(**SIZES))
    networks = Networks(generator, Discriminator(NDF, 10, SIZES["project_dim"], 3))
    loader = DataLoader(Files(folder / "files"), BATCH, shuffle=True, drop_last=True)
    update = 0
    while True:
        real = iter(DataLoader(Files(folder / "files"), BATCH, shuffle=True, drop_last=True))
        for position, (z, teacher, c) in enumerate(loader):
            _, image, rc = next(real)
            latents = torch.cat([z, torch.randn(2 * BATCH, SIZES["z_dim"])])
            batch = Batch(torch.cat([teacher, image]), torch.cat([c, rc]), latents, 0, position)
            yield original_step(networks, batch, original_weights(update, len(loader)))
            update += 1


def study_loop(folder: Path, recipe: str) -> Iterator[object]:
    """Yield after every update of the study's loop."""
    options = StudentOptions(
        recipe=recipe,
        epochs=1000,
        batch_size=BATCH,
        ngf=SIZES["ngf"],
        ndf=NDF,
        project_dim=SIZES["project_dim"],
        learning_rate=2e-4,
        pixel_weight=0.2,
        pixel_epochs=75,
        adversarial_weight=0.01,
        adversarial_interval=10,
        ema_kimg=20.0,
        augment="none",
    )
    data = DistillationData(folder / "samples", folder / "real", 0, options)
    training, update = Distillation(folder / "run", data, options), 0
    while True:
        yield training.step(update)
        update += 1


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


def measure_training(folder: Path, turns: int) -> None:
    """Print the updates a second of the loops at the original's sizes."""
    write_data(folder)
    loops = {
        "plain loop": plain_loop(folder),
        "this study, the same networks": study_loop(
            folder, "original+one_state+train_mode+one_pass"
        ),
        "this study, default recipe": study_loop(folder, "default"),
    }
    seconds = interleave({name: loop.__next__ for name, loop in loops.items()}, turns)
    sizes = f"ngf {SIZES['ngf']}, ndf {NDF}, batch {BATCH}"
    report(f"Training, {sizes}, {turns} updates each in turn", "updates/s", 1, seconds)


def measure_sampling(folder: Path, turns: int, calls: int = 8) -> None:
    """Print the images a second of an untrained student of the original's size."""
    torch.manual_seed(0)
    network = build_student(SIZES).eval()
    network.config = SIZES | INFO
    save_tensors(folder / "student.safetensors", network, network.config)
    write_formats(folder / "export", network, 0)
    z, c = draw_inputs(network, BATCH_64, 0, "benchmark")
    work: dict[str, Callable[[], object]] = {
        "torch eager, the original's form": _eager(plain_form(network), z, c, calls),
        "torch eager, upsampling fused": _eager(network, z, c, calls),
    }
    for name in ("fp32", "int8"):
        path = files(folder / "export")[name]
        work[f"OpenVINO {name.upper()}"] = _compiled(path, z.numpy(), c.numpy(), calls)
    title = f"Sampling, {sum(p.numel() for p in network.parameters()):,} parameters, batch 64"
    report(f"{title}, {turns} turns", "images/s", calls * BATCH_64, interleave(work, turns))


def _eager(network: Generator, z: torch.Tensor, c: torch.Tensor, calls: int) -> Callable[[], None]:
    @torch.inference_mode()
    def run() -> None:
        for _ in range(calls):
            network(z, c)

    return run


def _compiled(path: Path, z: np.ndarray, c: np.ndarray, calls: int) -> Callable[[], None]:
    model = read_ir(path)
    model.reshape({"z": list(z.shape), "c": list(c.shape)})
    config = {
        hints.inference_precision: ov.Type.f32,
        hints.performance_mode: hints.PerformanceMode.THROUGHPUT,
        hints.enable_cpu_pinning: False,
        ov.properties.inference_num_threads: torch.get_num_threads(),
    }
    queue = ov.AsyncInferQueue(ov.compile_model(model, "CPU", config))

    def run() -> None:
        for _ in range(calls):
            queue.start_async({"z": z, "c": c})
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
            measure_training(Path(folder), options.turns)
        if options.part != "training":
            measure_sampling(Path(folder), options.turns)


if __name__ == "__main__":
    main()
