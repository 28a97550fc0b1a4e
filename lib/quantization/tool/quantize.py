"""Quantize somebody's network to INT8 without its data, and say how far to trust the result."""

import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.metadata import version
from itertools import product
from pathlib import Path

import numpy as np
import openvino as ov

from lib.common.errors import StudyError
from lib.common.files import read_json, write_json
from lib.common.openvino import compile_model, save_ir
from lib.quantization.bias import TRIED
from lib.quantization.own.imports import named
from lib.quantization.own.parameters import content_hash
from lib.quantization.tool.checks import Check, alike, gather
from lib.quantization.tool.images import KINDS, make_images
from lib.quantization.tool.int8 import Candidate, quantize, read, restore
from lib.quantization.tool.measure import clipped_layers, compare, measure_speed
from lib.quantization.tool.network import Network, Takes, read_network
from lib.quantization.tool.report import PAGE, Report, not_checked, snippet, verdict
from lib.quantization.tool.scale import wrong_scale

PLAIN = Takes()


def quantize_file(
    path: Path | str,
    *,
    calibrate: Sequence[str] = ("mixed",),
    takes: Takes = PLAIN,
    images: int = 300,
    check: Sequence[str] = (),
    out: Path | str | None = None,
    max_drop: float | None = None,
    bias_correction: str = "fast",
    seed: int = 0,
) -> Report:
    """Write `<name>_int8.xml`, `<name>_fp32.xml`, `report.json` and `report.md` of a network.

    path: .onnx, .xml or .tflite, in floating point, with one input of images of 1 or 3 channels.
    calibrate: kinds of images (`lib.quantization.tool.images.KINDS`) or folders of them; of
    several, that one is kept which keeps most where it is checked. images: how many of each.
    check: folders or kinds to check on; without, photographs and fractals. out: the folder to
    write to, by default `<name>_int8` beside the file. max_drop: largest share of the judging
    images whose class may change; operations go back to floating point until that holds.
    bias_correction: fast, none or best. What cannot be used is a `StudyError` of one line, before
    any work begins but where NNCF itself fails.
    """
    file, clock = Path(path), Clock()
    network = read_network(file, takes)
    if max_drop is not None and not any(network.classifies):
        raise StudyError(f"--max-drop counts changed classes, and {file} gives none: leave it out")
    if max_drop is not None and not 0 < max_drop < 1:
        raise StudyError(f"--max-drop {max_drop:g} is no share of images: choose 0.01 or the like")
    files = {"int8": f"{file.stem}_int8.xml", "fp32": f"{file.stem}_fp32.xml"}
    folder = Path(out) if out else file.with_name(f"{file.stem}_int8")
    check_outputs(network)
    check_free(folder, files)
    check_writable(folder)
    tried = TRIED if bias_correction == "best" else (bias_correction,)
    with clock.part("images"):
        decide = max_drop is not None or len(tried) * len(set(calibrate)) > 1
        sets, checks = gather(network, calibrate, images, check, seed, decide)
    with clock.part("quantization"):
        candidates = [
            Candidate(kind, correction, quantize(network, sets[kind], correction))
            for kind, correction in product(sets, tried)
        ]
        best = choose(network, candidates, checks)
        if max_drop is not None:
            best = restore(network, best, sets[best.kind], checks, max_drop)
    with clock.part("measurement"):
        shown = {c.kind: c.model for c in candidates if c.bias_correction == best.bias_correction}
        rows = list(check_rows(network, shown | {best.kind: best.model}, checks))
        every = np.concatenate([one.reported for one in checks.values()])
        clipped = clipped_layers(network, best.model, every[:: max(1, len(every) // 50)])
        speed = measure_speed(network, best.model, every)
    write_json(folder / PAGE, {"files": files})  # that they are the tool's, should it be broken off
    for name, model in (("int8", best.model), ("fp32", network.model)):
        save_ir(folder / files[name], model.clone())
    own = [row for row in rows if row["calibrated"] == best.kind and row["counts"]]
    given = best.kind not in KINDS, any(name not in KINDS for name in checks)
    report = Report(
        name=file.name,
        files=files,
        sha256=content_hash(file),
        fed=network.words,
        chosen=best.kind,
        bias_correction=best.bias_correction,
        images_read=read(network, sets[best.kind]),
        restored=best.restored,
        checks=rows,
        size={n: (folder / f).with_suffix(".bin").stat().st_size for n, f in files.items()},
        speed=speed,
        clipped=clipped,
        verdict=verdict(own, *given),
        doubt=wrong_scale(network),
        unchecked=not_checked(*given, network.words),
        seconds=clock.seconds,
        versions={package: version(package) for package in ("openvino", "nncf")},
        snippet=snippet(folder / files["int8"], network),
    )
    report.write(folder)
    return report


class Clock:
    """Seconds by part of the work."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        """Count a block's seconds."""
        start = time.perf_counter()
        yield
        self.seconds[name] = round(time.perf_counter() - start, 2)


def check_free(folder: Path, files: dict[str, str]) -> None:
    """Raise `StudyError` where results would replace files that are not the tool's.

    Its own results of a network of this name, which `report.json` names as `files`, are replaced.
    """
    names = [*files.values(), *(Path(file).with_suffix(".bin") for file in files.values())]
    found = [n for n in (*names, PAGE, "report.md") if (folder / n).exists()]
    try:
        own = not found or read_json(folder / PAGE)["files"] == files
    except (StudyError, OSError, KeyError, TypeError):
        own = False
    if not own:
        raise StudyError(
            f"{folder / found[0]} is of something else: delete it or name another by --out"
        )


def check_writable(folder: Path) -> None:
    """Make the folder for the results; `StudyError` where that cannot be written to."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / ".writable"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise StudyError(
            f"{folder} cannot be written to ({error}): name another by --out"
        ) from error
    if shutil.disk_usage(folder).free < 2**20:
        raise StudyError(f"{folder} has no space left: name another by --out")


def check_outputs(network: Network) -> None:
    """Raise `StudyError` unless outputs are finite, and have a row for each image of a batch."""
    images = make_images("photographs", 2 * network.batch, network.size, 0)
    request = compile_model(network.model).create_infer_request()
    with named(network.file, "does not run"):
        for batch, _ in network.batches(images):
            request.infer([batch])
            for name, tensor in zip(network.outputs, request.output_tensors, strict=True):
                if tensor.data.ndim == 0 or len(tensor.data) != network.batch:
                    fault = f"output {name!r} is {list(tensor.data.shape)}, not a row an image"
                    raise StudyError(f"{network.file}: {fault}: export it without its last steps")
                if not np.isfinite(tensor.data).all():
                    fault = f"output {name!r} has NaN or infinity for plain images"
                    raise StudyError(f"{network.file}: {fault}: export it again")


def choose(network: Network, candidates: list[Candidate], checks: dict[str, Check]) -> Candidate:
    """Return the candidate that keeps most on the judging images; the first of equals."""
    if len(candidates) == 1:
        return candidates[0]
    models = {str(k): candidate.model for k, candidate in enumerate(candidates)}
    scores = np.zeros(len(candidates))
    for one in (one for one in checks.values() if one.counts):
        found = compare(network, models, one.judged)
        scores += [score(found[name]) for name in models]
    return candidates[int(scores.argmax())]


def score(outputs: list[dict]) -> float:
    """Return the share of images of the same class, or else the worst output's decibels."""
    shares = [row["agreement"] for row in outputs if row["classes"] > 1]
    decibels = [np.inf if row["snr_db"] is None else row["snr_db"] for row in outputs]
    return min(shares) if shares else float(min(min(decibels), 1e3))


def check_rows(
    network: Network, models: dict[str, ov.Model], checks: dict[str, Check]
) -> Iterator[dict]:
    """Yield a row for each check, INT8 network and output, as `Report.checks` has them."""
    for name, one in checks.items():
        for kind, outputs in compare(network, models, one.reported).items():
            for output, found in zip(network.outputs, outputs, strict=True):
                row = {"calibrated": kind, "checked": name, "images": len(one.reported)}
                row |= {"alike": alike(kind, name), "counts": one.counts, "output": output}
                yield row | found
