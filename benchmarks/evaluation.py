"""The evaluation of an INT8 network: images a second, beside benchmark_app and the original's way.

One INT8 IR (ResNet-20, quantized by the study's own code) is run over the same images by

- the study's `Predictor`: asynchronous batches with the THROUGHPUT hint, pixels in, logits out;
- OpenVINO's `benchmark_app`: the same IR, batch, hint, precision and threads, inputs that it makes
  itself; its own figure, which leaves out loading and compiling, counts;
- the original notebooks' way: one image, its PNG decoded, one synchronous call; and the same with
  the torch FP32 network.

They take turns within one run; the ratios are medians over the turns.
"""

import argparse
import io
import os
import re
import subprocess
import sysconfig
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import openvino as ov
import openvino.properties.hint as hints
import pandas as pd
import torch
from PIL import Image
from torch import nn

from lib.classifiers.build import NormalizedClassifier, build_classifier
from lib.common.errors import StudyError
from lib.common.files import ROOT, write_json, write_text
from lib.common.machine import describe_environment
from lib.common.openvino import read_ir, save_ir
from lib.data.samples import SampleSet
from lib.quantization.models import BATCH_SIZE, Predictor, export_ir
from lib.quantization.nncf import quantize_default
from lib.quantization.options import QuantizationOptions

IMAGES, ONE_BY_ONE = 10_000, 500
OURS, APP = "the study's Predictor, INT8", "benchmark_app, INT8"
ORIGINAL, TORCH = "one PNG, one call, INT8", "one PNG, one call, torch FP32"
TARGETS = {APP: 0.9, ORIGINAL: 3.0, TORCH: 10.0}
"""How many times as fast the Predictor is to be, at least."""


def make_network(xml: Path, images: np.ndarray) -> nn.Module:
    """Write a ResNet-20 in INT8 to `xml`, its batch fixed; return it in FP32 in torch.

    Weights do not matter for speed: those of its BatchNorms are set by `images`, no more.
    """
    torch.manual_seed(0)
    network = NormalizedClassifier(build_classifier("resnet20"))
    with torch.no_grad():
        for _ in range(3):
            network(torch.from_numpy(images[:64]).float())
    network.eval()
    fp32 = xml.with_name("fp32.xml")
    export_ir(fp32, network, images[:8])
    names = {"class_names": [str(k) for k in range(10)]}
    samples = SampleSet(images[:20], np.arange(20) % 10, info=names)
    options = QuantizationOptions(bias_correction="none")
    int8 = quantize_default(read_ir(fp32), samples, options).model
    int8.reshape([BATCH_SIZE, 3, 32, 32])
    save_ir(xml, int8)
    return network


def encode(images: np.ndarray) -> list[bytes]:
    """Return images `(n, 3, 32, 32) uint8` as PNG files in memory."""
    files = []
    for image in images:
        buffer = io.BytesIO()
        Image.fromarray(image.transpose(1, 2, 0)).save(buffer, "PNG")
        files.append(buffer.getvalue())
    return files


def decode(png: bytes) -> np.ndarray:
    """Read a PNG as pixels `(1, 3, 32, 32) float32`."""
    with Image.open(io.BytesIO(png)) as image:
        return np.asarray(image.convert("RGB"), np.float32).transpose(2, 0, 1)[None]


def predictor_rate(xml: Path, images: np.ndarray) -> Callable[[], float]:
    """Return a call that measures the Predictor, in images/s."""
    predictor = Predictor(xml)
    return lambda: len(images) / seconds(lambda: predictor(images))


def app_rate(xml: Path, time_s: int) -> Callable[[], float]:
    """Return a call that runs benchmark_app for `time_s` seconds and gives its images/s."""
    program = Path(sysconfig.get_path("scripts")) / "benchmark_app"
    command = [str(program), "-m", str(xml), "-d", "CPU", "-hint", "throughput"]
    settings = xml.with_name("settings.json")  # pinning is not among the options beside a hint
    write_json(settings, {"CPU": {"ENABLE_CPU_PINNING": "NO"}})
    command += ["-infer_precision", "f32", "-load_config", str(settings), "-t", str(time_s)]

    def measure() -> float:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        found = re.search(r"Throughput:\s*([\d.]+) FPS", done.stdout)
        if found is None:
            raise StudyError(f"benchmark_app failed: {' '.join(done.stdout.split())[-300:]}")
        return float(found[1])

    return measure


def one_by_one_rate(run: Callable[[np.ndarray], object], files: list[bytes]) -> Callable:
    """Return a call that measures decoding and running one image after the other, in images/s."""

    def work() -> None:
        for png in files:
            np.argmax(run(decode(png)))

    return lambda: len(files) / seconds(work)


def int8_call(xml: Path) -> Callable[[np.ndarray], np.ndarray]:
    """Return the network for one image as the original compiled it: no hint, synchronous calls."""
    model = read_ir(xml)
    model.reshape([1, 3, 32, 32])
    request = ov.compile_model(model, "CPU", {hints.inference_precision: ov.Type.f32})
    return lambda pixels: request(pixels)[0]


def torch_call(network: nn.Module) -> Callable[[np.ndarray], np.ndarray]:
    """Return the torch network for one image."""

    @torch.inference_mode()
    def run(pixels: np.ndarray) -> np.ndarray:
        return network(torch.from_numpy(pixels)).numpy()

    return run


def seconds(work: Callable[[], object]) -> float:
    """Return how long `work` takes."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def measure(rates: dict[str, Callable[[], float]], turns: int) -> pd.DataFrame:
    """Return the images/s of each contender (columns) in each turn (rows), after a warm-up."""
    for rate in rates.values():
        rate()
    rows = [{name: rate() for name, rate in rates.items()} for _ in range(turns)]
    return pd.DataFrame(rows)


def compare(turns: int, images: int, time_s: int) -> pd.DataFrame:
    """Return a row a contender: images/s, how many times as fast the Predictor is, the target."""
    pixels = np.random.default_rng(0).integers(0, 256, (images, 3, 32, 32), dtype=np.uint8)
    files = encode(pixels[:ONE_BY_ONE])
    with tempfile.TemporaryDirectory() as folder:
        xml = Path(folder) / "int8.xml"
        network = make_network(xml, pixels)
        rates = {
            OURS: predictor_rate(xml, pixels),
            APP: app_rate(xml, time_s),
            ORIGINAL: one_by_one_rate(int8_call(xml), files),
            TORCH: one_by_one_rate(torch_call(network), files),
        }
        return summarise(measure(rates, turns))


def summarise(found: pd.DataFrame) -> pd.DataFrame:
    """Return medians and targets of the images/s that `measure` found."""
    ratios = found.rdiv(found[OURS], axis=0).median()
    table = pd.DataFrame({"images_per_s": found.median(), "predictor_times": ratios})
    table["target"] = table.index.map(TARGETS)
    table["reached"] = table["predictor_times"] >= table["target"].fillna(0)
    return table.rename_axis("way").reset_index()


def main(arguments: list[str] | None = None) -> None:
    """Measure, print the table, write it."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.evaluation", description=__doc__)
    parser.add_argument("--turns", type=int, default=7, help="turns; medians are kept (7)")
    parser.add_argument("--images", type=int, default=IMAGES, help="images a turn (10,000)")
    parser.add_argument("--seconds", type=int, default=2, help="of benchmark_app a turn (2)")
    options = parser.parse_args([] if arguments is None else arguments)
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    table = compare(options.turns, options.images, options.seconds)
    about = describe_environment()
    versions = {name: about["versions"][name] for name in ("torch", "openvino", "nncf")}
    facts = {"cpu": about["cpu"], "threads": torch.get_num_threads(), **versions}
    facts |= {"batch_size": BATCH_SIZE, "turns": options.turns, "load": os.getloadavg()[0]}
    print(table.to_string(index=False, na_rep="", float_format="{:.3g}".format))
    print(", ".join(f"{name} {value}" for name, value in facts.items()))
    write_text(ROOT / "outputs/bench/evaluation.csv", table.assign(**facts).to_csv(index=False))


if __name__ == "__main__":
    import sys

    main(sys.argv[1:])
