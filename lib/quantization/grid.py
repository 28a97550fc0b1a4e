"""The quantization grid: a list of independent cells, run in parallel, resumed after a kill.

What a cell gives depends on the cell, the options and the files alone: not on the number of jobs,
the order or an interruption.
"""

import itertools
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
from safetensors.numpy import save_file

from lib.common.errors import StudyError, Unavailable
from lib.common.files import (
    atomic_path,
    hash_tree,
    read_json,
    sha256_file,
    sha256_json,
    write_json,
    write_text,
)
from lib.common.tensors import load_tensors
from lib.data.samples import SampleSet
from lib.quantization.cell import (
    CELL_KEYS,
    Cell,
    Grid,
    load_logits,
    load_seconds,
    reference_cell,
    run_reference,
)
from lib.quantization.cell_cache import keep_cells, take_cells
from lib.quantization.models import measure_speeds
from lib.quantization.workers import missing_engines, run_all

RESULTS, PREDICTIONS, TIMINGS = "results.csv", "predictions.safetensors", "timings.csv"
SECONDS = "seconds.csv"
KEY = "grid.json"  # what a finished grid was made from
MEASURED = (SECONDS, "seconds/*")
"""What of `run_grid`'s files holds timings, which vary."""
COLUMNS = [
    *("model", "family", "engine", "method", "calibration_set", "calibration_size", "seed"),
    *("status", "error", "fp32_accuracy", "accuracy", "drop_pp", "agreement", "kl"),
    *("size_bytes", "quantizers", "images_read", "classes_read"),
]
SPEED_IMAGES = 512


def make_cells(
    *,
    models: list[str],
    methods: list[str],
    calibration_sets: list[str],
    calibration_sizes: list[int],
    seeds: list[int],
    engines: tuple[str, ...] = ("nncf",),
) -> list[Cell]:
    """Return the cells of a full grid, the last key of `CELL_KEYS` varying fastest."""
    axes = (models, engines, methods, calibration_sets, calibration_sizes, seeds)
    return [dict(zip(CELL_KEYS, values, strict=True)) for values in itertools.product(*axes)]


def run_grid(
    out: Path,
    *,
    cells: list[Cell],
    models: Path,
    calibration: dict[str, Path],
    validation: Path,
    test: Path,
    preset: str = "mixed",
    bias_correction: str = "fast",
    overflow_fix: str = "first_layer",
    max_drop: float = 0.01,
    max_iterations: int = 30,
    keep_seed: int | None = 0,
    jobs: int = 1,
    scheduler: str = "",
    cache: Path | None = None,
) -> None:
    """Quantize and evaluate every cell; write results.csv, predictions.safetensors and models/.

    `models` holds `<model>.xml` in FP32 (and .onnx for the engine pot), `calibration` names the
    SampleSet of each calibration set, or a folder with one for each model; `validation` judges
    accuracy-aware quantization, `test` the results. `models/` keeps the INT8 networks of
    `keep_seed`, each with a .json that says how it was made and how accurate it is. seconds.csv
    says how long each quantization took, which varies. `scheduler` is the address of a dask
    scheduler that takes the place of `jobs` local processes; its workers must see the same files.
    A cell that fails has its error in its row and stops nothing; then, as after a kill, the
    finished cells stay in cells/ and are not run again by the next call. A grid that is finished
    already is left as it is. The folder `cache`, if given, holds the finished cells of the last
    grid that was given it; those that this one has, too, are taken from there.
    """
    options = {"preset": preset, "bias_correction": bias_correction, "overflow_fix": overflow_fix}
    options |= {"max_drop": max_drop, "max_iterations": max_iterations}
    names = list(dict.fromkeys(cell["model"] for cell in cells))
    homeless = {cell["calibration_set"] for cell in cells} - set(calibration)
    if homeless:
        raise StudyError(f"cells name {', '.join(sorted(homeless))}, which calibration lacks")
    hashes = _hashes(names, models, calibration, validation, test)
    grid = Grid(out, models, calibration, validation, test, options, keep_seed, hashes)
    key = sha256_json([cells, options, keep_seed, hashes])
    if _is_finished(out, key, cells, grid):
        return
    if cache is not None:
        take_cells([*map(reference_cell, names), *cells], grid, cache)
    grid = replace(grid, missing=missing_engines(cells, grid, scheduler))
    rows = [run_reference(name, grid) for name in names]
    rows += run_all(cells, grid, jobs, scheduler)
    done = [row for row in rows if row["status"] == "ok"]
    predictions = {cell_name(row): load_logits(_cell(row), grid).argmax(axis=1) for row in done}
    _write_predictions(out / PREDICTIONS, predictions, SampleSet.load(test).labels)
    write_text(out / RESULTS, _table(rows).to_csv(index=False, float_format="%.6g"))
    _write_seconds(out / SECONDS, [row for row in done if row["method"] != "fp32"], grid)
    kept = {grid.kept_ir(cell).stem for cell in map(_cell, done) if grid.kept_ir(cell)}
    for stray in (path for path in (out / "models").glob("*") if path.stem not in kept):
        stray.unlink()
    if not has_failures(out):
        if cache is not None:
            keep_cells([_cell(row) for row in done], grid, cache)
        write_json(out / KEY, {"sha256": key})
        shutil.rmtree(out / "cells")
        shutil.rmtree(out / "seconds", ignore_errors=True)


def _is_finished(out: Path, key: str, cells: list[Cell], grid: Grid) -> bool:
    """Tell whether `out` holds the whole result of this very grid, without failures."""
    if not (out / KEY).is_file() or read_json(out / KEY) != {"sha256": key} or has_failures(out):
        return False
    table, _, _ = load_results(out)
    done = table[(table["status"] == "ok") & (table["method"] != "fp32")]
    kept = [grid.kept_ir(_cell(row)) for row in done.to_dict("records")]
    return all(path.with_suffix(".json").is_file() for path in kept if path is not None)


def has_failures(folder: Path) -> bool:
    """Tell whether cells failed in what `run_grid` wrote, which may succeed when tried again.

    Errors may, and engines that could not be had; a cell that does not apply never will.
    """
    table, _, _ = load_results(folder)
    unavailable = table["error"].str.startswith(f"{Unavailable.__name__}:")
    return bool(((table["status"] == "error") | unavailable).any())


def cell_name(cell: Cell) -> str:
    """Name a cell as predictions.safetensors does: `model/engine/method/set/size/seed`."""
    return "/".join(str(cell[key]) for key in CELL_KEYS)


def load_results(folder: Path) -> tuple[pd.DataFrame, dict[str, np.ndarray], np.ndarray]:
    """Read what `run_grid` wrote into `folder`.

    Returns the table, the predicted classes `(n,)` of each cell by `cell_name` (those of the FP32
    rows too), and the labels `(n,)` of the test images.
    """
    if not (folder / RESULTS).is_file():
        raise StudyError(f"{folder / RESULTS} is missing: run the quantization notebook first")
    table = pd.read_csv(folder / RESULTS, dtype={"error": str})
    table["error"] = table["error"].fillna("")
    tensors, _ = load_tensors(folder / PREDICTIONS)
    predictions = {name: tensor.numpy().astype(np.int64) for name, tensor in tensors.items()}
    return table, predictions, predictions.pop("labels")


def load_seconds_table(folder: Path) -> pd.DataFrame:
    """Read how many seconds each cell's quantization took, without its evaluation.

    Accuracy-aware quantization counts the default quantization that it begins with. Seconds are
    by the clock, beside whatever else the machine did.
    """
    return pd.read_csv(folder / SECONDS)


def per_class_table(
    predictions: dict[str, np.ndarray], labels: np.ndarray, class_names: list[str]
) -> pd.DataFrame:
    """Return top-1 accuracy by class, a row for each cell (FP32 too) and class of test images."""
    rows = []
    for name, predicted in predictions.items():
        keys = dict(zip(CELL_KEYS, name.split("/"), strict=True))
        for label, class_name in enumerate(class_names):
            hits = predicted[labels == label] == label
            accuracy = float(hits.mean()) if len(hits) else float("nan")
            rows.append(keys | {"class": class_name, "images": len(hits), "accuracy": accuracy})
    return pd.DataFrame(rows)


def compare_engines(table: pd.DataFrame, predictions: dict[str, np.ndarray]) -> pd.DataFrame:
    """Compare nncf and pot over the cells that both have finished.

    A row for each method and calibration set: number of `pairs`, mean losses in percentage points
    (`nncf`, `pot`), share of test images that the two INT8 networks classify `alike`.
    """
    cells = [key for key in CELL_KEYS if key != "engine"]
    ok = table[table["status"] == "ok"]
    first, second = (ok[ok["engine"] == engine] for engine in ("nncf", "pot"))
    pairs = first.merge(second, on=cells, suffixes=("_nncf", "_pot"))
    columns = ["method", "calibration_set", "pairs", "nncf", "pot", "alike"]
    rows = []
    for (method, kind), part in pairs.groupby(["method", "calibration_set"], sort=False):
        named = [
            [predictions[cell_name(row | {"engine": engine})] for engine in ("nncf", "pot")]
            for row in part[cells].to_dict("records")
        ]
        alike = np.mean([(one == other).mean() for one, other in named])
        means = part[["drop_pp_nncf", "drop_pp_pot"]].mean()
        rows.append([method, kind, len(part), *means, alike])
    return pd.DataFrame(rows, columns=columns)


def time_grid(
    out: Path, *, grid: Path, models: Path, test: Path, calibration_set: str, repeats: int
) -> None:
    """Measure the speed of each model in FP32 and in the INT8 forms that `run_grid` kept.

    `grid` is the folder of `run_grid`, from which the networks of one `calibration_set` are
    taken. Writes timings.csv: latency in ms for one image, throughput in images/s, medians of
    `repeats` interleaved turns. The figures differ from run to run.
    """
    images = SampleSet.load(test).images[:SPEED_IMAGES]
    table, _, _ = load_results(grid)
    rows = []
    for model in table["model"].unique():
        pattern = f"{model}.*.{calibration_set}.*.xml"
        kept = {
            tuple(xml.stem.split(".")[1:3]): xml for xml in sorted((grid / "models").glob(pattern))
        }
        networks = {("openvino", "fp32"): models / f"{model}.xml"} | kept
        for (engine, method), speed in measure_speeds(networks, images, repeats=repeats).items():
            rows.append({"model": model, "engine": engine, "method": method} | speed)
    write_text(out / TIMINGS, pd.DataFrame(rows).to_csv(index=False, float_format="%.6g"))


def _hashes(
    names: list[str], models: Path, calibration: dict, validation: Path, test: Path
) -> dict:
    """Return the content hash of every input by the name that `Grid.cell_file` uses."""
    folders = {"validation": validation, "test": test}
    folders |= {f"calibration {name}": folder for name, folder in calibration.items()}
    hashes = {name: sha256_json(hash_tree(folder)) for name, folder in folders.items()}
    for name in names:
        xml = models / f"{name}.xml"
        if not xml.is_file():
            raise StudyError(f"{xml} is missing: export the classifier {name} first")
        hashes[f"model {name}"] = sha256_file(xml) + sha256_file(xml.with_suffix(".bin"))
        onnx = xml.with_suffix(".onnx")
        hashes[f"onnx {name}"] = sha256_file(onnx) if onnx.is_file() else "none"
    return hashes


def _cell(row: dict) -> Cell:
    return {key: row[key] for key in CELL_KEYS}


def _table(rows: list[dict]) -> pd.DataFrame:
    counts = ["calibration_size", "seed", "size_bytes", "quantizers", "images_read", "classes_read"]
    table = pd.DataFrame(rows, columns=COLUMNS)
    return table.astype(dict.fromkeys(counts, "Int64"))


def _write_seconds(path: Path, rows: list[dict], grid: Grid) -> None:
    """Write a row for each cell that is done: its keys and its seconds."""
    table = [_cell(row) | {"seconds": load_seconds(_cell(row), grid)} for row in rows]
    columns = [*CELL_KEYS, "seconds"]
    write_text(path, pd.DataFrame(table, columns=columns).to_csv(index=False, float_format="%.6g"))


def _write_predictions(path: Path, classes: dict[str, np.ndarray], labels: np.ndarray) -> None:
    """Write predicted classes as uint8, or int16 where there are more than 256 classes."""
    arrays = classes | {"labels": labels}
    small = max(array.max() for array in arrays.values()) < 256
    dtype = np.uint8 if small else np.int16
    with atomic_path(path) as temporary:
        save_file({name: array.astype(dtype) for name, array in arrays.items()}, temporary)
