"""One cell of the quantization grid: make an INT8 network and measure what it lost.

A cell is a dict `{model, engine, method, calibration_set, calibration_size, seed}`.
"""

import multiprocessing
import os
import re
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch
from scipy.special import log_softmax

from lib.classifiers.names import UNFUSED, family, is_classifier
from lib.common.errors import Skipped, StudyError, Unavailable
from lib.common.files import hash_tree, read_json, sha256_json, write_json
from lib.common.machine import cpu_flags
from lib.common.openvino import read_ir, save_ir
from lib.common.seeds import derive_seed
from lib.common.tensors import load_tensors, save_tensors
from lib.data.samples import RECORD, SampleSet
from lib.quantization.models import is_probabilities, predict_ir
from lib.quantization.nncf import (
    VARIANTS,
    Quantized,
    fixed_batch,
    quantize_accuracy_aware,
    quantize_variant,
)
from lib.quantization.pot.engine import quantize_pot, quantize_pot_accuracy_aware
from lib.quantization.pot.environment import PINS

CELL_KEYS = ("model", "engine", "method", "calibration_set", "calibration_size", "seed")
FP32 = ("openvino", "fp32", "none", 0, 0)  # in the place of all keys but the model
Cell = dict[str, str | int]


@dataclass(frozen=True)
class Grid:
    """Where a grid's files are, what their contents hash to, and the options its cells share.

    `missing` gives the reason for each engine that cannot be had here.
    """

    out: Path
    models: Path
    calibration: dict[str, Path]
    validation: Path
    test: Path
    options: dict
    keep_seed: int | None
    hashes: dict[str, str]
    missing: dict[str, str] = field(default_factory=dict)

    def ir(self, model: str) -> Path:
        """Return the FP32 IR of a model."""
        return self.models / f"{model}.xml"

    def onnx(self, model: str) -> Path:
        """Return a model's FP32 form in ONNX, which may be absent."""
        return self.models / f"{model}.onnx"

    def kept_ir(self, cell: Cell) -> Path | None:
        """Return where the INT8 IR of a cell is kept, None where it is not."""
        name = ".".join(str(cell[key]) for key in CELL_KEYS[:-1])
        return self.out / "models" / f"{name}.xml" if cell["seed"] == self.keep_seed else None

    def calibration_folder(self, cell: Cell) -> Path:
        """Return a cell's calibration set: the model's own where there is one for each model."""
        folder = self.calibration[cell["calibration_set"]]
        if (folder / RECORD).is_file():
            return folder
        own = folder / str(cell["model"])
        if not (own / RECORD).is_file():
            raise Skipped(
                f"calibration set {cell['calibration_set']} is made for each network by itself, "
                f"from its batch normalisation, and there is none for {cell['model']}"
            )
        return own

    def cell_file(self, cell: Cell) -> Path:
        """Return the file of a finished cell, named by all that its result depends on."""
        parts = ["test", f"model {cell['model']}"]
        if cell["engine"] == "pot":
            parts += [f"onnx {cell['model']}"]
        if cell["method"] != "fp32":
            parts += ["validation", f"calibration {cell['calibration_set']}"]
        content = {"cell": cell, "options": self.options, "kept": self.kept_ir(cell) is not None}
        content |= {part: self.hashes[part] for part in parts}
        return self.out / "cells" / f"{cell['model']}-{sha256_json(content)[:24]}.safetensors"

    def seconds_file(self, cell: Cell) -> Path:
        """Return where the seconds that quantization took are noted, apart from the result."""
        return self.out / "seconds" / f"{self.cell_file(cell).stem}.json"


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
    cell, (options, drop) = task.cell, _options(task)
    ir = read_ir(task.grid.ir(cell["model"]))
    if cell["method"] != "accuracy_aware":
        return quantize_variant(
            ir, task.calibration, cell["method"], default=task.default, **options
        )
    return quantize_accuracy_aware(
        ir, task.calibration, task.validation, default=task.default, **drop, **options
    )


def run_pot(task: Task) -> Quantized:
    """Quantize with POT, from the model's ONNX form, with the images that NNCF reads."""
    cell, (options, drop) = task.cell, _options(task)
    if cell["method"] not in ("default", "accuracy_aware"):
        raise Skipped(f"POT has no method {cell['method']}: choose default or accuracy_aware")
    onnx = task.grid.onnx(cell["model"])
    if cell["method"] == "default":
        return quantize_pot(onnx, task.calibration, **options)
    return quantize_pot_accuracy_aware(
        onnx,
        task.calibration,
        task.validation,
        reference=read_ir(task.grid.ir(cell["model"])),
        default=task.default,
        **drop,
        **options,
    )


def _options(task: Task) -> tuple[dict, dict]:
    """Return the options of default quantization and those that accuracy-aware adds."""
    cell, options = task.cell, dict(task.grid.options)
    names = ("calibration_set", "calibration_size", "seed")
    drop = {key: options.pop(key) for key in ("max_drop", "max_iterations")}
    options["subset_size"] = cell["calibration_size"]
    # the same images for all models, engines and methods, others for each set, size and seed
    options["seed"] = derive_seed(cell["seed"], *(cell[name] for name in names))
    return options, drop


ENGINES: dict[str, Callable[[Task], Quantized]] = {"nncf": run_nncf, "pot": run_pot}
"""Makers of INT8 networks by the name that cells give."""


def run_cells(cells: list[Cell], grid: Grid) -> list[dict]:
    """Run cells that differ in their method alone, unless they are finished; return their rows.

    A finished cell is one file with its row and predictions. What an engine raises becomes the
    row's error, and no file is written, so that the cell is tried again next time. A full disk and
    the like are no fault of the cell: they end the run, which resumes once they are mended.
    """
    default, seconds = None, 0.0
    rows = []
    for cell in sorted(cells, key=lambda cell: cell["method"] != "default"):
        if not finished(cell, grid):
            try:
                start = time.perf_counter()
                quantized = _quantize(cell, grid, default)
                took = time.perf_counter() - start
                if cell["method"] == "default":
                    default, seconds = quantized, took
                elif starts_from_default(cell["method"]):
                    took += seconds
                write_json(grid.seconds_file(cell), {"seconds": round(took, 2)})
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


def starts_from_default(method: str) -> bool:
    """Tell whether a method takes what default quantization has made, if that is at hand."""
    return method == "accuracy_aware" or VARIANTS[method].per_channel_weights


def finished(cell: Cell, grid: Grid) -> bool:
    """Tell whether a cell's files are there."""
    kept = grid.kept_ir(cell)
    files = [] if kept is None else [kept, kept.with_suffix(".bin"), kept.with_suffix(".json")]
    return all(file.is_file() for file in [grid.cell_file(cell), *files])


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


def load_seconds(cell: Cell, grid: Grid) -> float:
    """Return the seconds that the quantization of a finished cell took."""
    return read_json(grid.seconds_file(cell))["seconds"]


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


def model_family(name: str) -> str:
    """Name the family of a grid's model, `own` for a network from elsewhere."""
    name = name.removesuffix(UNFUSED)
    return family(name) if is_classifier(name) else "own"


def divergence(reference: np.ndarray, outputs: np.ndarray) -> float:
    """Mean Kullback-Leibler divergence in nats of the predictions `outputs` from `reference`.

    Both are `(n, classes)`, logits or (as networks from elsewhere may give) probabilities.
    """
    p, q = (log_probabilities(values.astype(np.float64)) for values in (reference, outputs))
    return float((np.exp(p) * (p - q)).sum(axis=1).mean())


def log_probabilities(outputs: np.ndarray) -> np.ndarray:
    """Return the logarithms `(n, classes)` of what logits or probabilities say, at least -87."""
    if is_probabilities(outputs):
        return np.log(np.maximum(outputs, np.finfo(np.float32).tiny))
    return log_softmax(outputs, axis=1)


def _quantize(cell: Cell, grid: Grid, default: Quantized | None) -> Quantized:
    if cell["engine"] not in ENGINES:
        raise StudyError(
            f"engine {cell['engine']!r} is unknown: choose one of {', '.join(ENGINES)}"
        )
    if cell["engine"] in grid.missing:
        raise Unavailable(grid.missing[cell["engine"]])
    calibration = SampleSet.load(grid.calibration_folder(cell))
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
        batch = fixed_batch(quantized.model) or "n"
        write_json(xml.with_suffix(".json"), _about(cell, grid, row, test, batch))
    _save(grid.cell_file(cell), logits, row)


def _about(cell: Cell, grid: Grid, row: dict, test: SampleSet, batch: int | str) -> dict:
    """Return what goes with a kept INT8 network: its use, its making and its accuracy."""
    measured = ("accuracy", "fp32_accuracy", "agreement", "images_read", "classes_read")
    versions = {name: version(name) for name in ("openvino", "nncf")}
    if cell["engine"] == "pot":
        versions["openvino-dev"] = PINS[0].partition("==")[2]
    return {
        "input": f"({batch}, 3, 32, 32) float32, RGB pixels from 0 to 255",
        "class_names": test.class_names,
        "cell": cell,
        "options": grid.options,
        "calibration_set_sha256": sha256_json(hash_tree(grid.calibration_folder(cell))),
        "fp32_sha256": grid.hashes[f"model {cell['model']}"],
        "test_images": len(test),
        "measured": {key: row[key] for key in measured},
        "versions": versions,
        "cpu_flags": cpu_flags(),
    }


def _row(cell: Cell, reference: np.ndarray, logits: np.ndarray, labels: np.ndarray) -> dict:
    fp32, int8 = ((values.argmax(axis=1) == labels).mean() for values in (reference, logits))
    agreement = (reference.argmax(axis=1) == logits.argmax(axis=1)).mean()
    return cell | {
        "family": model_family(cell["model"]),
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
