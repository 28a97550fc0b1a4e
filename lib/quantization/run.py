"""Run the cells of a grid: make an INT8 network of each and measure it, side by side."""

import contextlib
import multiprocessing
import os
import re
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from pathlib import Path

import joblib
import torch
from joblib.externals.loky.process_executor import TerminatedWorkerError

from lib.common.errors import Skipped, StudyError, Unavailable
from lib.common.files import hash_tree, sha256_json, write_json
from lib.common.machine import cpu_flags
from lib.common.openvino import read_ir, save_ir
from lib.common.progress import progress
from lib.common.seeds import derive_seed
from lib.common.tensors import save_tensors
from lib.data.samples import SampleSet
from lib.quantization.cell import Cell, Grid, measure
from lib.quantization.models import predict_ir
from lib.quantization.nncf import (
    VARIANTS,
    Quantized,
    quantize_accuracy_aware,
    quantize_variant,
)
from lib.quantization.options import QuantizationOptions
from lib.quantization.own.batch import fixed_batch
from lib.quantization.own.parameters import read_input
from lib.quantization.pot.engine import quantize_pot, quantize_pot_accuracy_aware
from lib.quantization.pot.environment import PINS, pot_python


@dataclass
class Task:
    """What an engine makes one INT8 network from.

    `default` is the network that default quantization made of the same cell, if there is one.
    """

    cell: Cell
    grid: Grid
    calibration: SampleSet
    validation: SampleSet
    default: Quantized | None

    @property
    def options(self) -> QuantizationOptions:
        """The grid's options with the size of the cell's calibration."""
        return replace(self.grid.options, subset_size=self.cell.calibration_size)

    @property
    def seed(self) -> int:
        """The same for all models, engines and methods, another for each set, size and seed."""
        cell = self.cell
        return derive_seed(cell.seed, cell.calibration_set, cell.calibration_size, cell.seed)


def run_nncf(task: Task) -> Quantized:
    """Quantize with NNCF by the cell's method: accuracy_aware or one of `VARIANTS`."""
    ir, method = read_ir(task.grid.ir(task.cell.model)), task.cell.method
    common = {"seed": task.seed, "default": task.default}
    if method == "accuracy_aware":
        return quantize_accuracy_aware(
            ir, task.calibration, task.validation, task.options, **common
        )
    return quantize_variant(ir, task.calibration, method, task.options, **common)


def run_pot(task: Task) -> Quantized:
    """Quantize with POT, from the model's ONNX form, with the images that NNCF reads."""
    ir, method = task.grid.ir(task.cell.model), task.cell.method
    if method not in ("default", "accuracy_aware"):
        raise Skipped(f"POT has no method {method}: choose default or accuracy_aware")
    onnx = ir.with_suffix(".onnx")
    common = {"seed": task.seed, "takes": read_input(ir.parent, ir.stem)}
    if method == "default":
        return quantize_pot(onnx, task.calibration, task.options, **common)
    common |= {"reference": read_ir(ir), "default": task.default}
    return quantize_pot_accuracy_aware(
        onnx, task.calibration, task.validation, task.options, **common
    )


ENGINES: dict[str, Callable[[Task], Quantized]] = {"nncf": run_nncf, "pot": run_pot}
"""Makers of INT8 networks by the name that cells give."""


def run_cells(cells: list[Cell], grid: Grid) -> dict[Cell, dict]:
    """Run cells that differ in their method alone, unless they are finished; return their rows.

    What an engine raises becomes the row's error, and no file is written, so that the cell is
    tried again next time. A full disk and the like are no fault of the cell: they end the run,
    which resumes once they are mended.
    """
    rows, default, seconds = {}, None, 0.0
    for cell in sorted(cells, key=lambda cell: cell.method != "default"):
        if not grid.is_finished(cell):
            try:
                start = time.perf_counter()
                quantized = _quantize(cell, grid, default)
                took = time.perf_counter() - start
                if cell.method == "default":
                    default, seconds = quantized, took
                elif cell.method == "accuracy_aware" or VARIANTS[cell.method].per_channel_weights:
                    took += seconds  # of the default quantization that it starts from
                _finish(cell, grid, quantized, took)
            except (OSError, MemoryError):
                raise
            except Exception as error:
                status = "skipped" if isinstance(error, Skipped) else "error"
                text = " ".join(f"{type(error).__name__}: {error}".split())
                rows[cell] = asdict(cell) | {"status": status, "error": text}
                continue
        rows[cell] = grid.row(cell)
    return rows


def run_reference(model: str, grid: Grid) -> dict:
    """Evaluate a model in FP32, unless that is done; return its row."""
    cell = Cell(model)
    if not grid.is_finished(cell):
        ir, test = grid.ir(model), SampleSet.load(grid.test)
        logits = predict_ir(ir, test.images)
        row = asdict(cell) | measure(cell, logits, logits, test.labels)
        row |= {"size_bytes": ir.with_suffix(".bin").stat().st_size, "quantizers": 0}
        save_tensors(grid.result(cell), {"logits": torch.from_numpy(logits)}, row)
    return grid.row(cell)


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
    number = re.fullmatch(r"LokyProcess-(\d+)", multiprocessing.current_process().name)
    if number and (share := cpus[int(number[1]) % jobs :: jobs]):
        os.sched_setaffinity(0, share)
    return run_cells(cells, grid)


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


def _quantize(cell: Cell, grid: Grid, default: Quantized | None) -> Quantized:
    if cell.engine not in ENGINES:
        raise StudyError(f"engine {cell.engine!r} is unknown: choose one of {', '.join(ENGINES)}")
    if cell.engine in grid.missing:
        raise Unavailable(grid.missing[cell.engine])
    calibration = SampleSet.load(grid.calibration_folder(cell))
    task = Task(cell, grid, calibration, SampleSet.load(grid.validation), default)
    return ENGINES[cell.engine](task)


def _finish(cell: Cell, grid: Grid, quantized: Quantized, seconds: float) -> None:
    """Evaluate an INT8 network on the test images and write the cell's files, the row's last."""
    test = SampleSet.load(grid.test)
    logits = predict_ir(quantized.model, test.images)
    row = asdict(cell) | measure(cell, grid.logits(Cell(cell.model)), logits, test.labels)
    row |= {"quantizers": quantized.quantizers, "images_read": quantized.images_read}
    row |= {"classes_read": sum(count > 0 for count in quantized.labels_read)}
    row |= {"seconds": round(seconds, 2)}
    with tempfile.TemporaryDirectory() as scratch:
        folder = grid.folder(cell) if grid.kept(cell) else Path(scratch)
        xml = folder / f"{cell.stem}.xml"
        save_ir(xml, quantized.model)
        row["size_bytes"] = xml.with_suffix(".bin").stat().st_size
        batch = fixed_batch(quantized.model) or "n"
        write_json(xml.with_suffix(".json"), _about(cell, grid, row, test, batch))
    save_tensors(grid.result(cell), {"logits": torch.from_numpy(logits)}, row)


def _about(cell: Cell, grid: Grid, row: dict, test: SampleSet, batch: int | str) -> dict:
    """Return what goes with a kept INT8 network: its use, its making and its accuracy."""
    measured = ("accuracy", "fp32_accuracy", "agreement", "images_read", "classes_read")
    options = asdict(grid.options)
    del options["subset_size"]  # the cell has its own
    versions = {name: version(name) for name in ("openvino", "nncf")}
    if cell.engine == "pot":
        versions["openvino-dev"] = PINS[0].partition("==")[2]
    return {
        "input": f"({batch}, 3, 32, 32) float32, RGB pixels from 0 to 255",
        "class_names": test.class_names,
        "cell": asdict(cell),
        "options": options,
        "calibration_set_sha256": sha256_json(hash_tree(grid.calibration_folder(cell))),
        "fp32_sha256": grid.hashes[f"model {cell.model}"],
        "test_images": len(test),
        "measured": {key: row[key] for key in measured},
        "versions": versions,
        "cpu_flags": cpu_flags(),
    }
