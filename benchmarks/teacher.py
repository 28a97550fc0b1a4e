"""Images per second of the teacher at the official CIFAR-10 configuration, random weights.

The backends of teacher sampling and a plain grouped-convolution implementation take turns; each
figure is a median over the turns. The achieved GFLOP/s (two operations a multiply-add of the plain
convolutions) stand beside those of a float32 matrix product. Writes outputs/bench/teacher.csv.
"""

import argparse
import os
import time
from collections.abc import Callable
from functools import partial

import pandas as pd
import torch
from torch import Tensor

from benchmarks.grouped_generator import grouped_images
from lib.common.files import ROOT, write_text
from lib.common.machine import describe_environment
from lib.gan.generator import Generator, SynthesisLayer, ToRGB
from lib.teacher.sampling import BACKENDS, choose_backend

OFFICIAL = dict(
    z_dim=512,
    c_dim=10,
    w_dim=512,
    img_resolution=32,
    img_channels=3,
    mapping_kwargs=dict(num_layers=2),
    synthesis_kwargs=dict(channel_base=32768, channel_max=512, conv_clamp=256),
)
MATRIX = 2048
REFERENCE, PRODUCT = "grouped convolution", "matrix product"


def official_generator() -> Generator:
    """Return a generator of the official configuration with random weights, noise included."""
    torch.manual_seed(0)
    generator = Generator(**OFFICIAL).eval().requires_grad_(False)
    for name, parameter in generator.named_parameters():
        if name.endswith("noise_strength"):
            parameter.fill_(0.1)
    return generator


def multiply_adds(generator: Generator) -> int:
    """Return the multiply-adds of one image's convolutions, the ×2 ones taken as transposed."""
    total = 0
    for resolution in generator.synthesis.block_resolutions:
        for part in getattr(generator.synthesis, f"b{resolution}").children():
            if isinstance(part, SynthesisLayer | ToRGB):
                side = resolution // getattr(part, "up", 1)
                total += part.weight.numel() * side**2
    return total


def measure(contenders: dict[str, Callable[[], object]], turns: int) -> pd.DataFrame:
    """Return the seconds of each contender (columns) in each turn (rows), after a warm-up."""
    rows = []
    for _ in range(turns + 1):
        row = {}
        for name, work in contenders.items():
            start = time.perf_counter()
            work()
            row[name] = time.perf_counter() - start
        rows.append(row)
    return pd.DataFrame(rows[1:])


def compare(batch_size: int, turns: int) -> pd.DataFrame:
    """Return one row a contender: images/s, ratio to the reference, GFLOP/s, difference."""
    generator = official_generator()
    z, c = torch.randn(batch_size, 512), torch.eye(10)[torch.arange(batch_size) % 10]
    renderers = {name: choose_backend(generator, name, batch_size=batch_size) for name in BACKENDS}
    calls = {name: partial(render, z, c, None) for name, render in renderers.items()}
    calls[REFERENCE] = torch.no_grad()(partial(grouped_images, generator, z, c))
    expected = calls[REFERENCE]()
    factors = torch.randn(2, MATRIX, MATRIX)
    seconds = measure(calls | {PRODUCT: lambda: factors[0] @ factors[1]}, turns).median()
    product = 2 * MATRIX**3 / 1e9 / seconds[PRODUCT]
    operations = 2 * multiply_adds(generator) * batch_size / 1e9
    rows = [
        {
            "implementation": name,
            "images_per_s": batch_size / seconds[name],
            "times_reference": seconds[REFERENCE] / seconds[name],
            "gflop_per_s": operations / seconds[name],
            "share_of_matrix_product": operations / seconds[name] / product,
            "largest_difference": largest_difference(call(), expected),
        }
        for name, call in calls.items()
    ]
    rows.append({"implementation": PRODUCT, "gflop_per_s": product})
    return pd.DataFrame(rows)


def largest_difference(images: Tensor, expected: Tensor) -> float:
    """Return the largest absolute difference between images of about [-1, 1]."""
    return float((images - expected).abs().max())


def main(arguments: list[str] | None = None) -> None:
    """Measure, print the table, write it."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.teacher", description=__doc__)
    parser.add_argument("--batch-size", type=int, default=32, help="images a call (32)")
    parser.add_argument("--turns", type=int, default=5, help="turns; medians are kept (5)")
    options = parser.parse_args([] if arguments is None else arguments)
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    table = compare(options.batch_size, options.turns)
    about = describe_environment()
    versions = {name: about["versions"][name] for name in ("torch", "openvino")}
    facts = {"cpu": about["cpu"], "threads": torch.get_num_threads(), **versions}
    facts |= {"batch_size": options.batch_size, "turns": options.turns}
    print(table.to_string(index=False, na_rep="", float_format="{:.3g}".format))
    print(", ".join(f"{name} {value}" for name, value in facts.items()))
    write_text(ROOT / "outputs/bench/teacher.csv", table.assign(**facts).to_csv(index=False))


if __name__ == "__main__":
    import sys

    main(sys.argv[1:])
