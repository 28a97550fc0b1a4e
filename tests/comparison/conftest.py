"""Results tables with predictions whose errors are known."""

from dataclasses import asdict

import numpy as np
import pandas as pd

from lib.quantization.cell import Cell, make_cells
from lib.quantization.grid import COLUMNS

N, CLASSES, MODELS, SEEDS = 2000, 10, ["resnet20", "vgg11_bn"], [0, 1]
SETS = ["real", "teacher", "student", "fractal", "noise"]

FEW = {"resamples": 300}
EQUAL = dict.fromkeys(SETS, 104)


def predict(labels, errors, first=0):
    """Predictions that are wrong on `errors` images, from number `first` on."""
    wrong = np.zeros(len(labels), bool)
    wrong[first : first + errors] = True
    return np.where(wrong, (labels + 1) % CLASSES, labels)


def study(errors, failed=(), methods=("default",), shift=None, models=MODELS):
    """A results table with predictions, where INT8 of each set errs on `errors[set]` images.

    All err on the first images, or on those after `shift[set]`; each seed moves the errors by one
    image. FP32 errs on 100.
    """
    labels = np.arange(N) % CLASSES
    predictions, rows = {}, []
    fp32 = predict(labels, 100)
    for model in models:
        cell = Cell(model)
        predictions[cell.name] = fp32
        rows.append(asdict(cell) | {"status": "ok", "accuracy": 0.95, "fp32_accuracy": 0.95})
    cells = make_cells(
        models=models,
        methods=list(methods),
        calibration_sets=list(errors),
        calibration_sizes=[300],
        seeds=SEEDS,
    )
    for cell in cells:
        if cell.calibration_set in failed:
            rows.append(asdict(cell) | {"status": "error", "error": "RuntimeError: no"})
            continue
        name = cell.calibration_set
        found = predict(labels, errors[name], (shift or {}).get(name, 0) + cell.seed)
        predictions[cell.name] = found
        accuracy = float((found == labels).mean())
        row = {"status": "ok", "fp32_accuracy": 0.95, "accuracy": accuracy}
        row |= {"drop_pp": 100 * (0.95 - accuracy), "kl": 0.01}
        rows.append(asdict(cell) | row | {"agreement": float((found == fp32).mean())})
    return pd.DataFrame(rows, columns=COLUMNS), predictions, labels


def degradation(drops, agreements, kls, method="default"):
    return pd.DataFrame(
        {
            "model": "resnet20_x0_5",
            "engine": "nncf",
            "method": method,
            "calibration_size": 300,
            "calibration_set": list("abcdefghi")[: len(drops)],
            "drop_pp": drops,
            "agreement": agreements,
            "kl": kls,
            "fp32_accuracy": 0.98,
        }
    )
