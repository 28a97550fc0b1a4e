"""Run the cells of a grid: make an INT8 network of each and measure it, side by side."""

import contextlib
import multiprocessing
import os
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import torch
from filelock import FileLock, Timeout
from joblib.externals.loky.process_executor import TerminatedWorkerError

from lib.common.errors import Skipped, StudyError, Unavailable
from lib.common.files import hash_tree, sha256_json, write_json
from lib.common.machine import cpu_flags
from lib.common.openvino import read_ir, save_ir
from lib.common.progress import progress
from lib.common.seeds import derive_seed
from lib.common.tensors import save_tensors
from lib.data.samples import SampleSet
from lib.quantization.bias import choose_bias_correction
from lib.quantization.cell import SYNTHETIC, Cell, Grid, measure
from lib.quantization.models import fixed_batch, predict_ir
from lib.quantization.nncf import VARIANTS, Quantized, quantize_accuracy_aware, quantize_variant
from lib.quantization.options import QuantizationOptions
from lib.quantization.own.parameters import read_input
from lib.quantization.pot.engine import (
    PINS,
    pot_python,
    quantize_pot,
    quantize_pot_accuracy_aware,
)

AWARE = ("accuracy_aware", SYNTHETIC)


def run_nncf(
    cell: Cell, grid: Grid, calibration: SampleSet, *, base: Quantized | None, **common: Any
) -> Quantized:
    """Quantize with NNCF by the cell's method: accuracy-aware or one of `VARIANTS`."""
    ir = read_ir(grid.ir(cell.model))
    if cell.method in AWARE:
        common |= {"default": base}
        return quantize_accuracy_aware(ir, calibration, validation_set(cell, grid), **common)
    return quantize_variant(ir, calibration, cell.method, base=base, **common)


def run_pot(
    cell: Cell, grid: Grid, calibration: SampleSet, *, base: Quantized | None, **common: Any
) -> Quantized:
    """Quantize with POT, from the model's ONNX form, with the images that NNCF reads."""
    ir = grid.ir(cell.model)
    onnx, common["takes"] = ir.with_suffix(".onnx"), read_input(ir.parent, ir.stem)
    if cell.method == "default":
        return quantize_pot(onnx, calibration, **common)
    if cell.method == "accuracy_aware":
        common |= {"reference": read_ir(ir), "default": base}
        return quantize_pot_accuracy_aware(onnx, calibration, validation_set(cell, grid), **common)
    raise Skipped(f"POT has no method {cell.method}: choose default or accuracy_aware")


def validation_set(cell: Cell, grid: Grid) -> SampleSet:
    """Return the images and labels by which a cell's accuracy is judged in quantization.

    The network's own answers in FP32 are the labels where the images are synthetic, or its classes
    are not those of the data.
    """
    samples = SampleSet.load(grid.validation if cell.method != SYNTHETIC else grid.synthetic)
    ir = read_ir(grid.ir(cell.model))
    classes = ir.output(0).partial_shape[1].get_length()
    if cell.method != SYNTHETIC and classes == len(samples.class_names):
        return samples
    return replace(samples, labels=predict_ir(ir, samples.images).argmax(axis=1))


ENGINES: dict[str, Callable[..., Quantized]] = {"nncf": run_nncf, "pot": run_pot}
"""Makers of INT8 networks by the name that cells give.

They take a cell, its grid and its calibration set, and by name the `options` with the size of the
cell's calibration, a `seed`, and the `base`, the network that the method starts from, if made.
"""


Made = dict[str, tuple[Quantized, float]]
"""INT8 networks by their method, each with the seconds that it took."""


def run_cells(cells: list[Cell], grid: Grid) -> dict[Cell, dict]:
    """Run cells that differ in their method alone, unless they are finished; return their rows.

    What an engine raises becomes the row's error, and no file is written, so that the cell is
    tried again next time. A full disk and the like are no fault of the cell: they end the run,
    which resumes once they are mended.
    """
    rows: dict[Cell, dict] = {}
    made: Made = {}
    for cell in cells:
        if not grid.is_finished(cell):
            try:
                _finish(cell, grid, *_quantized(cell, grid, made))
            except (OSError, MemoryError):
                raise
            except Exception as error:
                status = "skipped" if isinstance(error, Skipped) else "error"
                text = " ".join(f"{type(error).__name__}: {error}".split())
                rows[cell] = asdict(cell) | {"status": status, "error": text}
                continue
        rows[cell] = grid.read(cell)[0]
    return rows


def base_of(method: str) -> str:
    """Name the method whose network a method starts from, or itself."""
    return VARIANTS[method].base if method in VARIANTS else "default"


def test_set(model: str, grid: Grid) -> SampleSet:
    """Return the test images that a network is judged on."""
    test = SampleSet.load(grid.test)
    return test.subset(np.arange(min(len(test), grid.few.get(model, len(test)))))


def run_reference(model: str, grid: Grid) -> dict:
    """Evaluate a model in FP32, unless that is done; return its row."""
    cell = Cell(model)
    if not grid.is_finished(cell):
        ir, test = grid.ir(model), test_set(model, grid)
        logits = predict_ir(ir, test.images)
        row = asdict(cell) | measure(cell, logits, logits, test)
        row |= {"size_bytes": ir.with_suffix(".bin").stat().st_size, "quantizers": 0}
        save_tensors(grid.result(cell), {"logits": torch.from_numpy(logits)}, row)
    return grid.read(cell)[0]


def run_all(cells: list[Cell], grid: Grid, jobs: int, scheduler: str) -> list[dict]:
    """Run the cells; return one row each, in the order of `cells`.

    `jobs` local processes take them, or the workers of the dask `scheduler` at that address,
    where it is not "". Raises `StudyError` where the scheduler cannot be reached, or a process
    was killed.
    """
    groups: dict[Cell, list[Cell]] = {}
    for cell in cells:
        groups.setdefault(replace(cell, method=""), []).append(cell)
    cpus = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
    work = [joblib.delayed(_work)(group, grid, cpus, jobs) for group in groups.values()]
    rows: dict[Cell, dict] = {}
    try:
        with _backend(jobs, scheduler):
            results = joblib.Parallel(return_as="generator_unordered", batch_size=1)(work)
            for group in progress(results, "quantization", total=len(work), unit="group"):
                rows |= group
    except TerminatedWorkerError as error:
        raise StudyError(
            "a quantization process was killed, perhaps for want of memory: lower jobs and run "
            "again, finished cells are kept"
        ) from error
    return [rows[cell] for cell in cells]


def missing_engines(cells: list[Cell], grid: Grid, scheduler: str) -> dict[str, str]:
    """Make POT's environment where it is needed, once; return why that cannot be, by engine.

    The workers of a cluster may run on other machines: each sees to its own.
    """
    if scheduler or all(cell.engine != "pot" or grid.is_finished(cell) for cell in cells):
        return {}
    try:
        pot_python(again=True)
    except Unavailable as reason:
        return {"pot": str(reason)}
    return {}


def _work(cells: list[Cell], grid: Grid, cpus: list[int], jobs: int) -> dict[Cell, dict]:
    """Run cells in a loky process that has its own share of the processors.

    NNCF leaves no say over OpenVINO's threads: two processes side by side would each start one on
    every core and take 1.7 times as long. The results do not depend on the number of threads.
    """
    if not multiprocessing.current_process().name.startswith("LokyProcess"):
        return run_cells(cells, grid)
    with own_share(grid.store, jobs) as number:
        if share := cpus[number::jobs]:
            os.sched_setaffinity(0, share)
        return run_cells(cells, grid)


@contextlib.contextmanager
def own_share(store: Path, jobs: int) -> Iterator[int]:
    """Yield the number, below `jobs`, of a share of the processors that no other process has.

    Processes come and go, as their memory grows: a number of their own would be another's, too.
    """
    store.mkdir(parents=True, exist_ok=True)
    for number in range(jobs):
        with contextlib.suppress(Timeout), FileLock(store / f".share-{number}", timeout=0):
            yield number
            return
    yield 0


@contextlib.contextmanager
def _backend(jobs: int, scheduler: str) -> Iterator[None]:
    """Have joblib use local processes, or a dask cluster where its scheduler's address is given."""
    if not scheduler:
        local = joblib.parallel_config("loky", n_jobs=jobs, inner_max_num_threads=1)
        with local, warnings.catch_warnings():
            # loky replaces a worker whose memory has grown
            warnings.filterwarnings("ignore", "A worker stopped while some jobs")
            yield
        return
    from dask.distributed import Client  # slow, and seldom used

    try:
        client = Client(scheduler)
    except (OSError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise StudyError(f"scheduler {scheduler} cannot be reached: {reason}") from error
    with client, joblib.parallel_config("dask"):
        yield


def _quantized(cell: Cell, grid: Grid, made: Made) -> tuple[Quantized, float]:
    """Return a cell's INT8 network and its seconds, with those of the network it starts from.

    `made` keeps the networks that several methods start from, of cells that differ in it alone. One
    whose own cell was finished before is left to the engine, which makes it where it is needed.
    """
    base, start, seconds = replace(cell, method=base_of(cell.method)), None, 0.0
    if cell.method in made:
        return made[cell.method]
    if cell != base and (base.method in made or not grid.is_finished(base)):
        start, seconds = _quantized(base, grid, made)
    correction = grid.options.bias_correction
    if correction == "best" and cell.method != "default":
        default, _ = _quantized(replace(cell, method="default"), grid, made)
        correction = default.bias_correction
    begun = time.perf_counter()
    quantized = _quantize(cell, grid, start, correction)
    seconds += time.perf_counter() - begun
    if cell == base:
        made[cell.method] = quantized, seconds
    return quantized, seconds


def _quantize(cell: Cell, grid: Grid, base: Quantized | None, correction: str) -> Quantized:
    if cell.engine not in ENGINES:
        raise StudyError(f"engine {cell.engine!r} is unknown: choose one of {', '.join(ENGINES)}")
    if cell.engine in grid.missing:
        raise Unavailable(grid.missing[cell.engine])
    calibration = SampleSet.load(grid.calibration_folder(cell))
    size = {"subset_size": cell.calibration_size}
    options = replace(grid.options, bias_correction=correction, **size)
    # the same for all models, engines and methods
    seed = derive_seed(cell.seed, cell.calibration_set, cell.calibration_size, cell.seed)

    def quantize(options: QuantizationOptions) -> Quantized:
        return ENGINES[cell.engine](cell, grid, calibration, options=options, seed=seed, base=base)

    if correction == "best":
        judged = read_ir(grid.ir(cell.model)), validation_set(cell, grid)
        return choose_bias_correction(*judged, options, quantize)
    return replace(quantize(options), bias_correction=correction, other=None)


def _finish(cell: Cell, grid: Grid, quantized: Quantized, seconds: float) -> None:
    """Evaluate an INT8 network on the test images and write the cell's files, the row's last."""
    test = test_set(cell.model, grid)
    logits = predict_ir(quantized.model, test.images)
    row = asdict(cell) | measure(cell, grid.read(Cell(cell.model))[1], logits, test)
    row |= {"quantizers": quantized.quantizers, "images_read": quantized.images_read}
    row |= {"classes_read": int(np.count_nonzero(quantized.labels_read))}
    row |= {"seconds": round(seconds, 2), "bias_correction": quantized.bias_correction}
    if quantized.other is not None:
        other = predict_ir(quantized.other.model, test.images).argmax(axis=1)
        row["other_drop_pp"] = 100 * (row["fp32_accuracy"] - float((other == test.labels).mean()))
    with tempfile.TemporaryDirectory() as scratch:
        folder = grid.folder(cell) if grid.kept(cell) else Path(scratch)
        xml = folder / f"{cell.stem}.xml"
        save_ir(xml, quantized.model)
        row["size_bytes"] = xml.with_suffix(".bin").stat().st_size
        batch = fixed_batch(quantized.model) or "n"
        about = {"input": f"({batch}, 3, 32, 32) float32, RGB pixels from 0 to 255"}
        about |= {"class_names": test.class_names, "test_images": len(test)}
        write_json(xml.with_suffix(".json"), about | _origin(cell, grid, row))
    save_tensors(grid.result(cell), {"logits": torch.from_numpy(logits)}, row)


def _origin(cell: Cell, grid: Grid, row: dict) -> dict:
    """Return how a kept INT8 network was made and what was measured of it."""
    named = ("accuracy", "fp32_accuracy", "agreement", "images_read", "classes_read")
    measured = {key: None if np.isnan(row[key]) else row[key] for key in named}
    options = asdict(grid.options) | {"bias_correction": row["bias_correction"]}
    del options["subset_size"]  # the cell has its own
    pot = {"openvino-dev": PINS[0].partition("==")[2]} if cell.engine == "pot" else {}
    return {
        "cell": asdict(cell),
        "options": options,
        "calibration_set_sha256": sha256_json(hash_tree(grid.calibration_folder(cell))),
        "fp32_sha256": grid.hashes[f"model {cell.model}"],
        "measured": measured,
        "versions": {name: version(name) for name in ("openvino", "nncf")} | pot,
        "cpu_flags": cpu_flags(),
    }
