"""A cell of the quantization grid, its files, and what an INT8 network lost."""

from dataclasses import astuple, dataclass, field, fields
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.special import log_softmax

from lib.classifiers.names import UNFUSED, family, is_classifier
from lib.common.errors import Skipped
from lib.common.files import sha256_json
from lib.common.tensors import load_tensors
from lib.data.samples import RECORD, SampleSet
from lib.quantization.models import is_probabilities
from lib.quantization.options import QuantizationOptions


@dataclass(frozen=True)
class Cell:
    """One quantization: of what, by what, calibrated with what. By default the network in FP32."""

    model: str
    engine: str = "openvino"
    method: str = "fp32"
    calibration_set: str = "none"
    calibration_size: int = 0
    seed: int = 0  # of the choice among the images of the set

    @property
    def name(self) -> str:
        """The cell's name in tables of predictions: `model/engine/method/set/size/seed`."""
        return "/".join(map(str, astuple(self)))

    @property
    def stem(self) -> str:
        """The name of the files of its network: `model.engine.method.set.size`."""
        return ".".join(map(str, astuple(self)[:-1]))


SYNTHETIC = "accuracy_aware_synthetic"
"""Accuracy-aware quantization that is judged on synthetic images, labelled by the FP32 network."""
KEPT = ("default", "accuracy_aware")
"""Methods whose INT8 networks are kept."""
CELL_KEYS = [key.name for key in fields(Cell)]


def cells_of(table: pd.DataFrame) -> list[Cell]:
    """Return the cells of the rows of a results table."""
    return [Cell(**row) for row in table[CELL_KEYS].to_dict("records")]


@dataclass(frozen=True)
class Grid:
    """Where a grid's files are, what their contents hash to, and what its cells share.

    Finished cells lie in `store`, a folder each. `synthetic` holds images in place of those of
    `validation`, which the network itself labels. `few` says of slow networks on how many of the
    test images, the first, they are judged. `missing` gives the reason for each engine that cannot
    be had here.
    """

    store: Path
    models: Path
    calibration: dict[str, Path]
    validation: Path
    test: Path
    options: QuantizationOptions
    keep_seed: int | None
    hashes: dict[str, str]
    synthetic: Path | None = None
    few: dict[str, int] = field(default_factory=dict)
    missing: dict[str, str] = field(default_factory=dict)

    def ir(self, model: str) -> Path:
        """Return the FP32 IR of a model."""
        return self.models / f"{model}.xml"

    def calibration_folder(self, cell: Cell) -> Path:
        """Return a cell's calibration set: the model's own where there is one for each model."""
        folder = self.calibration[cell.calibration_set]
        if (folder / RECORD).is_file():
            return folder
        own = folder / cell.model.removesuffix(UNFUSED)
        if not (own / RECORD).is_file():
            raise Skipped(
                f"calibration set {cell.calibration_set} is made for each network by itself, "
                f"from its batch normalisation, and there is none for {cell.model}"
            )
        return own

    def folder(self, cell: Cell) -> Path:
        """Return the folder of a finished cell, named by all that its result depends on."""
        parts = ["tools", "test", f"model {cell.model}"]
        if cell.method != "fp32":
            parts += ["validation", f"calibration {cell.calibration_set}", f"onnx {cell.model}"]
        if cell.method == SYNTHETIC:
            parts += ["synthetic"]
        hashes = [self.hashes[part] for part in parts]
        few = [self.few[cell.model]] if cell.model in self.few else []
        key = sha256_json([astuple(cell), astuple(self.options), hashes, *few])
        return self.store / f"{cell.model}-{key[:24]}"

    def result(self, cell: Cell) -> Path:
        """Return the file with a cell's row and logits; it is written last."""
        return self.folder(cell) / "result.safetensors"

    def read(self, cell: Cell) -> tuple[dict, np.ndarray]:
        """Return row (with `seconds`) and logits `(n, classes) float32` of a finished cell."""
        tensors, row = load_tensors(self.result(cell))
        return row, tensors["logits"].numpy()

    def kept(self, cell: Cell) -> list[Path]:
        """Return the files of the INT8 network of a finished cell, none where it is not kept."""
        if cell.method not in KEPT or cell.seed != self.keep_seed:
            return []
        return [self.folder(cell) / f"{cell.stem}{end}" for end in (".xml", ".bin", ".json")]

    def is_finished(self, cell: Cell) -> bool:
        """Tell whether a cell's files are there."""
        return all(file.is_file() for file in [self.result(cell), *self.kept(cell)])


def measure(
    cell: Cell, reference: np.ndarray, logits: np.ndarray, samples: SampleSet
) -> dict[str, str | float]:
    """Return what `logits` `(n, classes)` have lost against the `reference` in FP32 on `samples`.

    Accuracy is NaN where the network's classes are not those of the data.
    """
    fp32, int8 = ((v.argmax(axis=1) == samples.labels).mean() for v in (reference, logits))
    if logits.shape[1] != len(samples.class_names):
        fp32 = int8 = np.nan
    name = cell.model.removesuffix(UNFUSED)
    return {
        "family": family(name) if is_classifier(name) else "own",
        "status": "ok",
        "error": "",
        "images": len(logits),
        "fp32_accuracy": float(fp32),
        "accuracy": float(int8),
        "drop_pp": 100 * float(fp32 - int8),
        "agreement": float((reference.argmax(axis=1) == logits.argmax(axis=1)).mean()),
        "kl": divergence(reference, logits),
    }


def divergence(reference: np.ndarray, outputs: np.ndarray) -> float:
    """Mean Kullback-Leibler divergence in nats of the predictions `outputs` from `reference`.

    Both are `(n, classes)`, logits or (as networks from elsewhere may give) probabilities, of
    which 0 counts as 1e-38.
    """
    p, q = (
        np.log(np.maximum(values, np.finfo(np.float32).tiny))
        if is_probabilities(values)
        else log_softmax(values, axis=1)
        for values in (reference.astype(np.float64), outputs.astype(np.float64))
    )
    return float((np.exp(p) * (p - q)).sum(axis=1).mean())
