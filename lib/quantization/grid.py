"""The quantization grid: a list of independent cells, run in parallel, resumed after a kill.

What a cell gives depends on the cell, the options and the files alone: not on the number of jobs,
the order or an interruption.
"""

import shutil
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pandas as pd
from safetensors.numpy import save_file

from lib.common.errors import StudyError, Unavailable
from lib.common.files import atomic_path, hash_tree, sha256_file, sha256_json, write_csv
from lib.common.fingerprint import code_fingerprint
from lib.common.machine import cpu_flags
from lib.common.tensors import load_tensors
from lib.data.samples import SampleSet
from lib.quantization.cell import CELL_KEYS, Cell, Grid, cells_of
from lib.quantization.models import measure_speeds
from lib.quantization.options import QuantizationOptions
from lib.quantization.run import missing_engines, run_all, run_cells, run_reference

RESULTS, PREDICTIONS, TIMINGS = "results.csv", "predictions.safetensors", "timings.csv"
SECONDS = "seconds.csv"
MEASURED = (SECONDS, "cells/*")
"""What of `run_grid`'s files holds timings, which vary."""
COUNTS = ["images", "size_bytes", "quantizers", "images_read", "classes_read"]
COLUMNS = [
    "model",
    "family",
    *CELL_KEYS[1:],
    "status",
    "error",
    "images",
    "fp32_accuracy",
    "accuracy",
]
COLUMNS += ["drop_pp", "agreement", "kl", *COUNTS[1:], "bias_correction", "other_drop_pp"]
SPEED_IMAGES = 512


def run_grid(
    out: Path,
    *,
    cells: list[Cell],
    models: Path,
    calibration: dict[str, Path],
    validation: Path,
    test: Path,
    options: QuantizationOptions,
    keep_seed: int | None = 0,
    synthetic: Path | None = None,
    few: dict[str, int] | None = None,
    jobs: int = 1,
    scheduler: str = "",
    cache: Path | None = None,
) -> None:
    """Quantize and evaluate every cell; write results.csv, predictions.safetensors and models/.

    `models` holds `<model>.xml` in FP32 (and .onnx for the engine pot), `calibration` names the
    SampleSet of each calibration set, or a folder with one for each model; `validation` judges
    accuracy-aware quantization, `test` the results; `synthetic` and `few` are `Grid`'s. Each cell
    reads as many images as it says, not as `options` does. `models/` keeps the INT8 networks of
    `keep_seed`, each with a .json that says how it was made and how accurate it is. seconds.csv
    says how long each quantization took, which varies. `scheduler` is the address of a dask
    scheduler that takes the place of `jobs` local processes; its workers must see the same files.
    A cell that fails has its error in its row and stops nothing. Finished cells lie in the folder
    `cache` (`out/cells` if None) and are not run again by the next call, nor by that of another
    grid that has them, too; those of earlier grids are dropped once no cell has failed.
    """
    names = list(dict.fromkeys(cell.model for cell in cells))
    if lacking := {cell.calibration_set for cell in cells} - set(calibration):
        raise StudyError(f"cells name {', '.join(sorted(lacking))}, which calibration lacks")
    folders = {"validation": validation, "test": test}
    folders |= {} if synthetic is None else {"synthetic": synthetic}
    hashes = _hashes(names, models, calibration, folders)
    store = out / "cells" if cache is None else cache
    about = {"synthetic": synthetic, "few": few or {}}
    grid = Grid(store, models, calibration, validation, test, options, keep_seed, hashes, **about)
    grid = replace(grid, missing=missing_engines(cells, grid, scheduler))
    rows = [run_reference(name, grid) for name in names]
    rows += run_all(cells, grid, jobs, scheduler)
    table = pd.DataFrame(rows)
    done = cells_of(table[table["status"] == "ok"])
    shutil.rmtree(out / "models", ignore_errors=True)
    for file in (file for cell in done for file in grid.kept(cell)):
        with atomic_path(out / "models" / file.name) as temporary:
            shutil.copyfile(file, temporary)
    classes = {cell.name: grid.read(cell)[1].argmax(axis=1) for cell in done}
    classes["labels"] = SampleSet.load(test).labels
    dtype = np.uint8 if max(array.max() for array in classes.values()) < 256 else np.int16
    with atomic_path(out / PREDICTIONS) as temporary:
        save_file({name: array.astype(dtype) for name, array in classes.items()}, temporary)
    seconds = table.loc[(table["status"] == "ok") & (table["method"] != "fp32")]
    write_csv(out / SECONDS, seconds.reindex(columns=[*CELL_KEYS, "seconds"]))
    table = table.reindex(columns=COLUMNS).astype(dict.fromkeys(COUNTS, "Int64"))
    write_csv(out / RESULTS, table)
    if not has_failures(out):
        for stray in set(store.iterdir()) - {grid.folder(cell) for cell in done}:
            shutil.rmtree(stray) if stray.is_dir() else stray.unlink()


def has_failures(folder: Path) -> bool:
    """Tell whether cells failed in what `run_grid` wrote, which may succeed when tried again.

    Errors may, and engines that could not be had; a cell that does not apply never will.
    """
    table, _, _ = load_results(folder)
    unavailable = table["error"].str.startswith(f"{Unavailable.__name__}:")
    return bool(((table["status"] == "error") | unavailable).any())


def load_results(folder: Path) -> tuple[pd.DataFrame, dict[str, np.ndarray], np.ndarray]:
    """Read what `run_grid` wrote into `folder`.

    Returns the table, the predicted classes of each cell by its name (those of the FP32 rows too)
    on as many of the test images as it has, from the first, and the labels `(n,)` of all.
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
    write_csv(out / TIMINGS, pd.DataFrame(rows))


def _hashes(
    names: list[str], models: Path, calibration: dict[str, Path], folders: dict[str, Path]
) -> dict[str, str]:
    """Return the content hash of every input, and of what works on them, as `Grid` names them."""
    folders = folders | {f"calibration {name}": folder for name, folder in calibration.items()}
    hashes = {name: sha256_json(hash_tree(folder)) for name, folder in folders.items()}
    versions = {name: version(name) for name in ("openvino", "nncf")}
    code = [code_fingerprint(maker) for maker in (run_cells, run_reference)]
    hashes["tools"] = sha256_json([code, versions, cpu_flags()])
    for name in names:
        xml = models / f"{name}.xml"
        if not xml.is_file():
            raise StudyError(f"{xml} is missing: export the classifier {name} first")
        hashes[f"model {name}"] = sha256_file(xml) + sha256_file(xml.with_suffix(".bin"))
        forms = [xml.with_suffix(end) for end in (".onnx", ".json")]
        hashes[f"onnx {name}"] = " ".join(sha256_file(f) for f in forms if f.is_file())
    return hashes
