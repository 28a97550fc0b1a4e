"""Results tables with predictions whose agreement with FP32 is known."""

import itertools

import numpy as np
import pandas as pd

from lib.quantization.cell import CELL_KEYS

N, CLASSES, DRAWS = 10_000, 10, range(5)
MODELS = ["resnet20", "vgg11_bn", "repvgg_a0"]
EQUAL = {"real": 200, "teacher": 200, "student": 205, "fractal": 210, "noise": 205}
SPREAD = 10
"""Images by which the number that changes differs from draw to draw, up and down."""


def change(fp32, number, first):
    """Predictions that differ from FP32's on `number` images, from number `first` on."""
    moved = np.zeros(len(fp32), bool)
    moved[(first + np.arange(number)) % len(fp32)] = True
    return np.where(moved, (fp32 + 1) % CLASSES, fp32)


def study(changed, *, failed=(), models=MODELS, own=None, methods=("default",), spread=SPREAD, n=N):
    """A results table with predictions, where INT8 of each set changes `changed[set]` of n images.

    `own` gives pairs of a set and a model other numbers; a draw moves them by up to `spread`.
    `failed` names sets, or pairs of a set and a model.
    """
    labels, own = np.arange(n) % CLASSES, own or {}
    fp32, predictions, rows = change(labels, n // 10, 0), {}, []
    cells = [(model, "openvino", "fp32", "none", 0, 0) for model in models]
    cells += itertools.product(models, ["nncf"], methods, changed, [300], DRAWS)
    for cell in cells:
        model, _, method, kind, _, draw = cell
        row = dict(zip(CELL_KEYS, cell, strict=True)) | {"status": "ok", "error": ""}
        if kind in failed or (kind, model) in failed:
            rows.append(row | {"status": "error", "error": "RuntimeError: no"})
            continue
        number = own.get((kind, model), changed.get(kind, 0)) + spread * (draw - 2)
        found = fp32 if method == "fp32" else change(fp32, max(number, 0), 2000)
        predictions["/".join(map(str, cell))] = found
        accuracy, agreement = float((found == labels).mean()), float((found == fp32).mean())
        row |= {"fp32_accuracy": 0.9, "accuracy": accuracy, "drop_pp": 100 * (0.9 - accuracy)}
        rows.append(row | {"kl": 0.01, "agreement": agreement})
    return pd.DataFrame(rows), predictions
