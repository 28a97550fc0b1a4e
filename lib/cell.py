"""One cell of the quantization grid: make an INT8 network and measure what it lost.

A cell is a dict `{model, engine, method, calibration_set, calibration_size, seed}`.
"""

import multiprocessing
import os
import re
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from scipy.special import log_softmax

from lib.checkpoint import load_tensors, save_tensors
from lib.classifiers import family
from lib.errors import StudyError
from lib.files import sha256_json
from lib.openvino_models import predict_ir, read_ir, save_ir
from lib.quantization import Quantized, quantize_accuracy_aware, quantize_variant
from lib.sampleset import SampleSet
from lib.seeds import derive_seed

CELL_KEYS = ("model", "engine", "method", "calibration_set", "calibration_size", "seed")
FP32 = ("openvino", "fp32", "none", 0, 0)  # in the place of all keys but the model
Cell = dict[str, str | int]


class Skipped(StudyError):
    """An engine that cannot be had here; its cells are reported with the reason."""


@dataclass(frozen=True)
class Grid:
    """Where a grid's files are, what their contents hash to, and the options its cells share."""

    out: Path
    models: Path
    calibration: dict[str, Path]
    validation: Path
    test: Path
    options: dict
    keep_seed: int | None
    hashes: dict[str, str]

    def ir(self, model: str) -> Path:
        """Return the FP32 IR of a model."""
        return self.models / f"{model}.xml"

    def kept_ir(self, cell: Cell) -> Path | None:
        """Return where the INT8 IR of a cell is kept, None where it is not."""
        name = ".".join(str(cell[key]) for key in CELL_KEYS[:-1])
        return self.out / "models" / f"{name}.xml" if cell["seed"] == self.keep_seed else None

    def cell_file(self, cell: Cell) -> Path:
        """Return the file of a finished cell, named by all that its result depends on."""
        parts = ["test", f"model {cell['model']}"]
        if cell["method"] != "fp32":
            parts += ["validation", f"calibration {cell['calibration_set']}"]
        content = {"cell": cell, "options": self.options, "kept": self.kept_ir(cell) is not None}
        content |= {part: self.hashes[part] for part in parts}
        return self.out / "cells" / f"{cell['model']}-{sha256_json(content)[:24]}.safetensors"


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


def run_nncf(task: Task) -> Quantized:
    """Quantize with NNCF by `task.cell["method"]`: accuracy_aware or one of `VARIANTS`."""
    cell, options = task.cell, dict(task.grid.options)
    names = ("calibration_set", "calibration_size", "seed")
    drop = {key: options.pop(key) for key in ("max_drop", "max_iterations")}
    options["subset_size"] = cell["calibration_size"]
    # the same images for all models and methods, others for each set, size and seed
    options["seed"] = derive_seed(cell["seed"], *(cell[name] for name in names))
    ir = read_ir(task.grid.ir(cell["model"]))
    if cell["method"] != "accuracy_aware":
        return quantize_variant(
            ir, task.calibration, cell["method"], default=task.default, **options
        )
    return quantize_accuracy_aware(
        ir, task.calibration, task.validation, default=task.default, **drop, **options
    )


ENGINES: dict[str, Callable[[Task], Quantized]] = {"nncf": run_nncf}
"""Makers of INT8 networks by the name that cells give."""


def run_cells(cells: list[Cell], grid: Grid) -> list[dict]:
    """Run cells that differ in their method alone, unless they are finished; return their rows.

    A finished cell is one file with its row and predictions. What an engine raises becomes the
    row's error, and no file is written, so that the cell is tried again next time. A full disk and
    the like are no fault of the cell: they end the run, which resumes once they are mended.
    """
    default = None
    rows = []
    for cell in sorted(cells, key=lambda cell: cell["method"] != "default"):
        if not finished(cell, grid):
            try:
                quantized = _quantize(cell, grid, default)
                default = quantized if cell["method"] == "default" else default
                _finish(cell, grid, quantized)
            except (OSError, MemoryError):
                raise
            except Exception as error:
                status = "skipped" if isinstance(error, Skipped) else "error"
                text = " ".join(f"{type(error).__name__}: {error}".split())
                rows.append(cell | {"status": status, "error": text})
                continue
        rows.append(load_tensors(grid.cell_file(cell))[1])
    return rows


def finished(cell: Cell, grid: Grid) -> bool:
    """Tell whether a cell's files are there."""
    kept = grid.kept_ir(cell)
    return grid.cell_file(cell).is_file() and (kept is None or kept.is_file())


def run_reference(model: str, grid: Grid) -> dict:
    """Evaluate a model in FP32, unless that is done; return its row."""
    cell = reference_cell(model)
    path = grid.cell_file(cell)
    if not path.is_file():
        ir, test = grid.ir(model), SampleSet.load(grid.test)
        logits = predict_ir(ir, test.images)
        row = _row(cell, logits, logits, test.labels)
        row |= {"size_bytes": ir.with_suffix(".bin").stat().st_size, "quantizers": 0}
        _save(path, logits, row)
    return load_tensors(path)[1]


def reference_cell(model: str) -> Cell:
    """Return the cell that stands for a model in FP32."""
    return dict(zip(CELL_KEYS, (model, *FP32), strict=True))


def load_logits(cell: Cell, grid: Grid) -> np.ndarray:
    """Return the logits `(n, classes) float32` of a finished cell on the test images."""
    return load_tensors(grid.cell_file(cell))[0]["logits"].numpy()


def pin_worker(cpus: list[int], jobs: int) -> None:
    """Give each of `jobs` loky processes its own share of the processors.

    NNCF leaves no say over OpenVINO's threads: two processes side by side would each start one on
    every core and take 1.7 times as long. The results do not depend on the number of threads.
    """
    number = re.fullmatch(r"LokyProcess-(\d+)", multiprocessing.current_process().name)
    share = cpus[int(number[1]) % jobs :: jobs] if number else []
    if share:
        os.sched_setaffinity(0, share)


def divergence(reference: np.ndarray, logits: np.ndarray) -> float:
    """Mean Kullback-Leibler divergence in nats of softmax(logits) from softmax(reference)."""
    p, q = (log_softmax(values.astype(np.float64), axis=1) for values in (reference, logits))
    return float((np.exp(p) * (p - q)).sum(axis=1).mean())


def _quantize(cell: Cell, grid: Grid, default: Quantized | None) -> Quantized:
    if cell["engine"] not in ENGINES:
        raise StudyError(
            f"engine {cell['engine']!r} is unknown: choose one of {', '.join(ENGINES)}"
        )
    calibration = SampleSet.load(grid.calibration[cell["calibration_set"]])
    task = Task(cell, grid, calibration, SampleSet.load(grid.validation), default)
    return ENGINES[cell["engine"]](task)


def _finish(cell: Cell, grid: Grid, quantized: Quantized) -> None:
    """Evaluate an INT8 network on the test images and write the cell's files, the row's last."""
    test = SampleSet.load(grid.test)
    reference = load_logits(reference_cell(cell["model"]), grid)
    logits = predict_ir(quantized.model, test.images)
    row = _row(cell, reference, logits, test.labels)
    row |= {"quantizers": quantized.quantizers, "images_read": quantized.images_read}
    row |= {"classes_read": sum(count > 0 for count in quantized.labels_read)}
    with tempfile.TemporaryDirectory() as folder:
        xml = grid.kept_ir(cell) or Path(folder) / "model.xml"
        save_ir(xml, quantized.model)
        row["size_bytes"] = xml.with_suffix(".bin").stat().st_size
    _save(grid.cell_file(cell), logits, row)


def _row(cell: Cell, reference: np.ndarray, logits: np.ndarray, labels: np.ndarray) -> dict:
    fp32, int8 = ((values.argmax(axis=1) == labels).mean() for values in (reference, logits))
    agreement = (reference.argmax(axis=1) == logits.argmax(axis=1)).mean()
    return cell | {
        "family": family(cell["model"]),
        "status": "ok",
        "error": "",
        "fp32_accuracy": float(fp32),
        "accuracy": float(int8),
        "drop_pp": 100 * float(fp32 - int8),
        "agreement": float(agreement),
        "kl": divergence(reference, logits),
    }


def _save(path: Path, logits: np.ndarray, row: dict) -> None:
    save_tensors(path, {"logits": torch.from_numpy(logits)}, row)
