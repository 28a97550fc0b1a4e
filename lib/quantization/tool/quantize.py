"""Quantize somebody's network to INT8 without its data, and say how far to trust the result."""

import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from importlib.metadata import version
from itertools import permutations, product
from pathlib import Path
from types import ModuleType

import numpy as np
import openvino as ov

from lib.common.errors import StudyError
from lib.common.openvino import compile_model, save_ir
from lib.quantization.bias import TRIED
from lib.quantization.fake_quantize import activation_quantizers
from lib.quantization.nncf import quiet_nncf, validate
from lib.quantization.own.imports import named
from lib.quantization.own.parameters import content_hash
from lib.quantization.tool.images import KINDS, NATURAL, Folder, find_kind, make_images
from lib.quantization.tool.measure import answers, clipped_layers, compare, measure_speed
from lib.quantization.tool.network import Network, Takes, read_network
from lib.quantization.tool.report import Report, not_checked, snippet, verdict

CHECKED = 100  # images of each kind that decide, and as many others that the report is of
PLAIN = Takes()


@dataclass(frozen=True)
class Candidate:
    """An INT8 network and what it was calibrated with."""

    kind: str
    bias_correction: str
    model: ov.Model
    restored: int = 0  # layers' inputs that went back to floating point


@dataclass(frozen=True)
class Check:
    """Images `(n, 3, height, width) uint8` to judge candidates by, and others for the report."""

    judged: np.ndarray
    reported: np.ndarray
    counts: bool
    """False: the images are like those that a candidate was calibrated with."""


def quantize_file(
    path: Path | str,
    *,
    calibrate: Sequence[str] = ("photographs",),
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
    folder = Path(out) if out else file.with_name(f"{file.stem}_int8")
    check_writable(folder)
    check_outputs(network)
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
    files = {"int8": f"{file.stem}_int8.xml", "fp32": f"{file.stem}_fp32.xml"}
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
        verdict=verdict(own, calibrated=given[0]),
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


def gather(
    network: Network,
    calibrate: Sequence[str],
    n: int,
    check: Sequence[str],
    seed: int,
    decide: bool = True,
) -> tuple[dict[str, np.ndarray], dict[str, Check]]:
    """Return the images of each calibration set, and those to check on, by their names.

    An image of a folder that is named for both is in one of them alone. `decide`: something is to
    be chosen by half of the images that are checked on, and the report is of the other half.
    """
    wanted = 2 * CHECKED if decide else CHECKED
    kinds, tested = (
        [find_kind(name) for name in dict.fromkeys(names)] for names in (calibrate, check)
    )
    if n < 1 or not kinds:
        raise StudyError("give at least one kind of images, and one image of it")
    paths = [kind.resolve() for kind in (*kinds, *tested) if isinstance(kind, Path)]
    for one, other in permutations(dict.fromkeys(paths), 2):
        if one.is_relative_to(other):
            raise StudyError(f"{one} lies in {other}: name folders that share no images")
    folders = {kind: Folder(kind, seed) for kind in (*kinds, *tested) if isinstance(kind, Path)}
    sets, used = {}, {}
    for kind in kinds:
        if isinstance(kind, str):
            sets[kind] = make_images(kind, n, network.size, seed)
            continue
        most = len(folders[kind])
        if kind in tested:
            if most < 2:
                raise StudyError(f"{kind} has one image: to calibrate and to check takes two")
            most = used[kind] = max(most - wanted, most // 2)
        sets[str(kind)] = folders[kind].read(0, min(n, most), network.size)
    names, checks = tested or NATURAL, {}
    others = [name for name in names if not any(alike(kind, str(name)) for kind in sets)]
    for kind in names:
        if isinstance(kind, Path):
            first = used.get(kind, 0)
            images = folders[kind].read(first, first + wanted, network.size)
        else:
            images = make_images(kind, wanted, network.size, seed + 1)
        halves = (images[::2], images[1::2]) if decide and len(images) > 1 else (images, images)
        checks[str(kind)] = Check(*halves, counts=kind in others or not others)
    return sets, checks


def alike(calibrated: str, checked: str) -> bool:
    """Tell whether a network is checked on images like those that it was calibrated with."""
    made = NATURAL if calibrated == "mixed" else (calibrated,)
    return checked in KINDS and checked in made


def read(network: Network, images: np.ndarray) -> int:
    """Return how many images calibration reads: whole batches."""
    return min(len(images), len(Items(network, images)) * network.batch)


class Items:
    """Calibration items of NNCF: the network's input, a batch each."""

    def __init__(self, network: Network, images: np.ndarray) -> None:
        self.network, self.images = network, images

    def __len__(self) -> int:
        return max(1, len(self.images) // self.network.batch)

    def __getitem__(self, number: int) -> np.ndarray:
        if not 0 <= number < len(self):
            raise IndexError(number)
        size = self.network.batch
        some = self.images[number * size : (number + 1) * size]
        return next(self.network.batches(some))[0]


@contextmanager
def quantizing(file: Path) -> Iterator[ModuleType]:
    """Give NNCF; whatever it raises becomes one line."""
    with quiet_nncf() as nncf:
        try:
            yield nncf
        except (OSError, MemoryError):
            raise
        except Exception as error:  # its own are of no common kind
            reason = " ".join(str(error).split())[-200:]
            raise StudyError(f"{file} cannot be quantized by NNCF ({reason})") from error


def quantize(network: Network, images: np.ndarray, bias_correction: str) -> ov.Model:
    """Return the network in INT8, by NNCF's default quantization."""
    items = Items(network, images)
    with quantizing(network.file) as nncf:
        model = nncf.quantize(
            network.model.clone(),
            nncf.Dataset(items),
            advanced_parameters=_advanced(nncf, network, bias_correction),
            **_common(nncf, items),
        )
    if not activation_quantizers(model):
        raise StudyError(f"{network.file} has no layer that INT8 would make faster")
    return model


def _advanced(nncf, network: Network, bias_correction: str):
    return nncf.AdvancedQuantizationParameters(
        disable_bias_correction=bias_correction == "none",
        batchwise_statistics=network.batch > 1 or None,
    )


def _common(nncf, items: Items) -> dict:
    return {"preset": nncf.QuantizationPreset.MIXED, "subset_size": len(items)}


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


def restore(
    network: Network,
    best: Candidate,
    images: np.ndarray,
    checks: dict[str, Check],
    max_drop: float,
) -> Candidate:
    """Return operations to floating point until at most `max_drop` of the classes change.

    NNCF's quantization with accuracy control, whose accuracy is agreement with FP32 on the judging
    images.
    """
    judged = np.concatenate([one.judged for one in checks.values() if one.counts])
    classes, first = answers(network, judged), network.classifies.index(True)
    starts = np.cumsum([0] + [count for _, count in network.batches(judged)])
    batches = [
        (batch, classes[start : start + count])
        for start, (batch, count) in zip(starts[:-1], network.batches(judged), strict=True)
    ]

    items = Items(network, images)
    with quantizing(network.file) as nncf:
        model = nncf.quantize_with_accuracy_control(
            network.model.clone(),
            nncf.Dataset(items),
            nncf.Dataset(batches, lambda batch: batch[0]),
            partial(validate, output=first),
            max_drop=max_drop,
            drop_type=nncf.DropType.ABSOLUTE,
            advanced_quantization_parameters=_advanced(nncf, network, best.bias_correction),
            **_common(nncf, items),
        )
    lost = len(activation_quantizers(best.model)) - len(activation_quantizers(model))
    return replace(best, model=model, restored=lost)


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
