"""Results tables with predictions whose errors are known."""

import itertools

import numpy as np
import pandas as pd

from lib.quantization.cell import CELL_KEYS

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
    image. FP32 errs on 100. `failed` names sets, or pairs of a set and a model.
    """
    labels = np.arange(N) % CLASSES
    predictions, rows = {}, []
    fp32 = predict(labels, 100)
    cells = [(model, "openvino", "fp32", "none", 0, 0) for model in models]
    cells += itertools.product(models, ["nncf"], methods, errors, [300], SEEDS)
    for cell in cells:
        model, _, method, kind, _, seed = cell
        row = dict(zip(CELL_KEYS, cell, strict=True)) | {"status": "ok", "error": None}
        rows.append(row | {"fp32_accuracy": 0.95, "images_read": 300, "classes_read": CLASSES})
        if kind in failed or (kind, model) in failed:
            rows[-1] |= {"status": "error", "error": "RuntimeError: no"}
            continue
        found = predict(labels, errors.get(kind, 100), (shift or {}).get(kind, 0) + seed)
        found = fp32 if method == "fp32" else found
        predictions["/".join(map(str, cell))] = found
        accuracy, agreement = float((found == labels).mean()), float((found == fp32).mean())
        rows[-1] |= {"accuracy": accuracy, "drop_pp": 100 * (0.95 - accuracy)}
        rows[-1] |= {"kl": 0.01, "agreement": agreement}
    return pd.DataFrame(rows), predictions, labels


def spoil(data, kind, model, errors=300, method="default"):
    """Return a study's data where one network calibrated with `kind` errs on `errors` images."""
    table, predictions, labels = data
    start = f"{model}/nncf/{method}/{kind}/"
    wrong = {name: predict(labels, errors) for name in predictions if name.startswith(start)}
    assert wrong
    return table, predictions | wrong, labels
