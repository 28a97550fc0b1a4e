"""What is compared with what, and what readers see it called."""

import re
from collections.abc import Iterable

import pandas as pd

from lib.calibration.kinds import KINDS

REAL = "real"
WAY = ["engine", "method"]
MAIN = ("nncf", "default")
"""The way to quantize on which the answer rests."""
SET = ["calibration_set", "calibration_size"]
METHODS = {
    "default": "default quantization",
    "accuracy_aware": "accuracy-aware quantization",
    "accuracy_aware_synthetic": "accuracy-aware quantization judged on synthetic images",
    "default_per_tensor": "one scale for the weights of a layer",
}
ESTIMATORS = {
    "default": "NNCF's own choice",
    "minmax": "least and greatest value",
    "mean": "mean of these over images",
    "quantile": "mean of the outer quantiles",
    "mse": "least squared error",
}


def set_name(kind: str, size: int | None = None, usual: int | None = None) -> str:
    """Name a calibration set for readers, with its size where that is not the usual one."""
    title = KINDS[kind].title if kind in KINDS else kind
    if size is None or size == usual:
        return title
    return f"{size} {title} image{'s' * (size != 1)}" if kind == REAL else f"{title}, {size} images"


def is_control(kind: str) -> bool:
    """Tell whether a calibration set is there to do worse."""
    return kind in KINDS and KINDS[kind].control


def int8_name(engine: str, method: str) -> str:
    """Name a way to quantize for readers, such as `NNCF, accuracy-aware quantization`."""
    if found := re.fullmatch(r"(\w+?)_a(\d)", method):
        estimator = "" if found[1] == "default" else f", {ESTIMATORS[found[1]]}"
        return f"{engine.upper()}, activations of {found[2]} bits{estimator}"
    words = METHODS.get(method) or f"ranges by {ESTIMATORS[method]}"
    return f"{engine.upper()}, {words}"


def int8_names(table: pd.DataFrame) -> list[str]:
    """Return `int8_name` of each row of a table with `engine` and `method`."""
    return [int8_name(*way) for way in zip(table["engine"], table["method"], strict=True)]


def shared_models(wanted: list[str], groups: Iterable[list[str]]) -> list[str]:
    """Return the wanted networks that all groups have, larger groups first.

    A group that would leave half of them or fewer is passed over.
    """
    shared = wanted
    for group in sorted(groups, key=lambda group: -len(set(group) & set(wanted))):
        left = [model for model in shared if model in group]
        shared = left if 2 * len(left) > len(wanted) else shared
    return shared
