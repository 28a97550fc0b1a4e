"""Comparison of the calibration sets: tables of differences with intervals and tests.

All differences are paired on the test images and pooled image by image over seeds (and models).
Intervals, standard errors and p-values speak of other test images, for these networks and these
draws of the calibration images; what another draw changes is shown apart, as `seed_std_pp`.
"""

import math
from collections import Counter
from collections.abc import Iterable
from dataclasses import replace

import numpy as np
import pandas as pd

from lib.common.errors import StudyError
from lib.common.statistics import (
    bootstrap_interval,
    holm,
    mcnemar_test,
    resolution,
    sign_flip_test,
    standard_error,
    tost_test,
)
from lib.comparison.models import REAL, SETTING, compared_models
from lib.quantization.cell import CELL_KEYS, Cell, cells_of

ALL_MODELS = "all"
Predictions = dict[str, np.ndarray]


def degradation_table(
    table: pd.DataFrame,
    predictions: Predictions,
    labels: np.ndarray,
    *,
    confidence: float = 0.95,
    resamples: int = 10_000,
    seed: int = 0,
) -> pd.DataFrame:
    """Return what INT8 loses against FP32, a row for each model, setting and calibration set.

    `drop_pp` is the loss of top-1 accuracy in percentage points, a mean over the seeds that
    succeeded, `low_pp` and `high_pp` its bootstrap interval and `image_se_pp` its standard error
    over test images, `seed_std_pp` the standard deviation between seeds. `permutation_p` tests
    for any loss or gain (`sign_flip_test`), `permutation_holm_p` corrects it among all rows.
    `agreement` (share of images with FP32's class) and `kl` (nats) are means, too; shares are
    whole numbers of images again, which the results table has rounded. Failed or skipped cells
    count in `failed`, with the first one's `reason`; a row of which all failed holds NaN.
    """
    rows = []
    for key, group in _int8(table).groupby(["model", *SETTING, "calibration_set"], sort=False):
        ok = group[group["status"] == "ok"]
        reference = Cell(key[0]).name
        gains = [_gain(predictions, labels, reference, cell.name) for cell in cells_of(ok)]
        row = dict(zip(["model", *SETTING, "calibration_set"], key, strict=True))
        row |= {"seeds": len(ok)} | _failures(group, len(ok))
        row |= ok[["fp32_accuracy", "accuracy"]].mean().to_dict()
        row |= _interval(gains, "drop_pp", "low_pp", "high_pp", confidence, resamples, seed)
        row |= _spread(gains, ok["seed"].tolist())
        row["permutation_p"] = _permutation_p(gains)
        row["agreement"] = (ok["agreement"] * len(labels)).round().mean() / len(labels)
        rows.append(row | {"kl": ok["kl"].mean()})
    if not rows:
        return pd.DataFrame()
    return _with_holm(pd.DataFrame(rows), {"permutation_holm_p": "permutation_p"})


def versus_real(
    table: pd.DataFrame,
    predictions: Predictions,
    labels: np.ndarray,
    *,
    margin_pp: float = 0.5,
    confidence: float = 0.95,
    resamples: int = 10_000,
    seed: int = 0,
) -> pd.DataFrame:
    """Compare each calibration set with the real one, model by model and (`all`) pooled.

    `difference_pp` is accuracy with the set less accuracy with real images, in percentage points,
    with its bootstrap interval; cells are paired by model, setting and seed. `all` is the mean
    over the `compared_models` of a set, each of which counts alike; `models` says how many,
    `real_models` how many real images have, `complete` whether these are the same. `failed`
    counts the set's cells that failed, with the first one's `reason`, `unpaired` those that did
    not, but whose partner with real images did. `image_se_pp` is its standard error over test
    images, `seed_std_pp` its standard deviation between seeds. `tost_p` tests equivalence within
    ±`margin_pp`, `permutation_p` any difference (`sign_flip_test`). `tost_holm_p` and
    `permutation_holm_p` correct each of the two in two families: all pooled rows (sets ×
    settings), and all rows of single models. `resolution_pp` is what `images` test images without
    a difference do not exclude. `agreement_pp`, its interval and `agreement_permutation_p` compare
    the agreement with FP32 in the same way.
    """
    int8 = _int8(table)
    compared = compared_models(int8[int8["status"] == "ok"])
    settings = {"confidence": confidence, "resamples": resamples, "seed": seed}
    rows = []
    for key, group in int8.groupby([*SETTING, "calibration_set"], sort=False):
        if key[-1] == REAL:
            continue
        over = compared[(compared[[*SETTING, "calibration_set"]] == list(key)).all(axis=1)]
        chosen = {ALL_MODELS: group} | {m: p for m, p in group.groupby("model", sort=False)}
        for model, part in chosen.items():
            row = dict(zip([*SETTING, "calibration_set"], key, strict=True)) | {"model": model}
            row |= {"images": len(labels), "margin_pp": margin_pp}
            row["resolution_pp"] = 100 * resolution(len(labels), confidence=confidence)
            pairs, succeeded = list(_pairs(part, int8)), int((part["status"] == "ok").sum())
            row |= _failures(part, succeeded) | {"unpaired": succeeded - len(pairs)}
            if model == ALL_MODELS:
                pairs = [pair for pair in pairs if _model_of(pair[0]) in set(over["model"])]
                row["complete"] = bool(over["complete"].all()) and not over.empty
                row["real_models"] = _real_models(compared, key)
            row |= {"models": len({_model_of(name) for name, _ in pairs}), "pairs": len(pairs)}
            rows.append(row | _compare(pairs, predictions, labels, margin_pp, **settings))
    table = pd.DataFrame(rows).round(dict.fromkeys(["difference_pp", "low_pp", "high_pp"], 9))
    if table.empty:
        return table
    corrected = {"tost_holm_p": "tost_p", "permutation_holm_p": "permutation_p"}
    return _with_holm(table, corrected, table["model"] == ALL_MODELS)


def mcnemar_table(
    table: pd.DataFrame, predictions: Predictions, labels: np.ndarray
) -> pd.DataFrame:
    """Test each INT8 network by itself, with McNemar's exact test, against two others.

    A row for each cell that succeeded and `against`: `fp32`, the same model before quantization,
    and `real`, its counterpart with real images. `gains` are test images that it alone has right,
    `losses` those that the other alone has right, `discordant` their sum. `mcnemar_holm_p`
    corrects `mcnemar_p` among all rows of the same `against`.
    """
    int8 = _int8(table)
    ok = int8[int8["status"] == "ok"]
    pairs = [(cell.name, Cell(cell.model).name, "fp32") for cell in cells_of(ok)]
    synthetic = ok[ok["calibration_set"] != REAL]
    pairs += [(name, real, REAL) for name, real in _pairs(synthetic, ok)]
    rows = []
    for name, other, against in pairs:
        gain = _gain(predictions, labels, name, other)
        row = dict(zip(CELL_KEYS, name.split("/"), strict=True)) | {"against": against}
        row |= {key: int(row[key]) for key in ("calibration_size", "seed")}
        row |= {"gains": int((gain > 0).sum()), "losses": int((gain < 0).sum())}
        row["discordant"] = row["gains"] + row["losses"]
        row |= {"difference_pp": 100 * gain.mean(), "mcnemar_p": mcnemar_test(gain)}
        rows.append(row)
    columns = [*CELL_KEYS, "against", "gains", "losses", "discordant", "difference_pp", "mcnemar_p"]
    tested = pd.DataFrame(rows, columns=columns)
    family = tested["against"] == "fp32"
    return _with_holm(tested, {"mcnemar_holm_p": "mcnemar_p"}, family)


def int8_name(engine: str, method: str) -> str:
    """Name a way to quantize for readers, such as `NNCF, accuracy-aware quantization`."""
    return f"{engine.upper()}, {method.replace('_', '-')} quantization"


def _real_models(compared: pd.DataFrame, key: tuple) -> int:
    """Count the models that were quantized with real images in the setting of `key`."""
    return int((compared[[*SETTING, "calibration_set"]] == [*key[:-1], REAL]).all(axis=1).sum())


def _balanced(pairs: list[tuple[str, str]]) -> list[tuple[str, str]]:
    """Repeat the pairs of models that have fewer, so that each model counts alike."""
    counts = Counter(_model_of(name) for name, _ in pairs)
    most = math.lcm(*counts.values())
    return [pair for pair in pairs for _ in range(most // counts[_model_of(pair[0])])]


def _compare(pairs, predictions, labels, margin_pp, *, confidence, resamples, seed) -> dict:
    pairs = _balanced(pairs)
    accuracy = [_gain(predictions, labels, name, real) for name, real in pairs]
    agreement = [
        _gain(predictions, predictions[_fp32_of(name)], name, real) for name, real in pairs
    ]
    names = ("difference_pp", "low_pp", "high_pp")
    row = _interval(accuracy, *names, confidence, resamples, seed)
    row |= _spread(accuracy, [name.rpartition("/")[2] for name, _ in pairs])
    row["tost_p"] = tost_test(100 * _pooled(accuracy), margin_pp) if pairs else float("nan")
    row["permutation_p"] = _permutation_p(accuracy)
    names = ("agreement_pp", "agreement_low_pp", "agreement_high_pp")
    row |= _interval(agreement, *names, confidence, resamples, seed)
    return row | {"agreement_permutation_p": _permutation_p(agreement)}


def _failures(group: pd.DataFrame, succeeded: int) -> dict:
    reasons = group.loc[group["status"] != "ok", "error"].dropna()
    reason = reasons.iloc[0] if len(reasons) else ""
    return {"failed": len(group) - succeeded, "reason": reason}


def _int8(table: pd.DataFrame) -> pd.DataFrame:
    return table[table["method"] != "fp32"]


def _pairs(rows: pd.DataFrame, table: pd.DataFrame) -> Iterable[tuple[str, str]]:
    """Yield the names of cells and of their counterparts with real images, where both are ok."""
    ok = set(cells_of(table[table["status"] == "ok"]))
    for cell in cells_of(rows):
        real = replace(cell, calibration_set=REAL)
        if cell in ok and real in ok:
            yield cell.name, real.name


def _model_of(name: str) -> str:
    return name.split("/")[0]


def _fp32_of(name: str) -> str:
    return Cell(_model_of(name)).name


def _gain(predictions: Predictions, truth: np.ndarray, first: str, second: str) -> np.ndarray:
    """Return by image 1 where only `first` meets `truth`, -1 where only `second` does, else 0."""
    try:
        hits = [predictions[name] == truth for name in (first, second)]
    except KeyError as error:
        raise StudyError(f"predictions of {error} are missing: run quantization again") from error
    return hits[0].astype(np.int64) - hits[1].astype(np.int64)


def _pooled(gains: list[np.ndarray]) -> np.ndarray:
    return np.sum(gains, axis=0) / len(gains)  # whole numbers are summed: equal means stay equal


def _interval(gains, mean, low, high, confidence, resamples, seed) -> dict[str, float]:
    """Return the pooled mean and its interval in percentage points under the given names."""
    if not gains:
        return dict.fromkeys((mean, low, high), float("nan"))
    pooled = 100 * _pooled(gains)
    bounds = bootstrap_interval(pooled, confidence=confidence, resamples=resamples, seed=seed)
    return {mean: float(pooled.mean())} | dict(zip((low, high), bounds, strict=True))


def _spread(gains: list[np.ndarray], seeds: list) -> dict[str, float]:
    """Return the standard error over images and the standard deviation between seeds."""
    if not gains:
        return dict.fromkeys(("image_se_pp", "seed_std_pp"), float("nan"))
    by_seed = pd.Series([100 * gain.mean() for gain in gains]).groupby(np.array(seeds)).mean()
    spread = {"image_se_pp": standard_error(100 * _pooled(gains))}
    return spread | {"seed_std_pp": float(by_seed.std()) if len(by_seed) > 1 else float("nan")}


def _permutation_p(gains: list[np.ndarray]) -> float:
    return sign_flip_test(_pooled(gains), pairs=len(gains)) if gains else float("nan")


def _with_holm(
    table: pd.DataFrame, columns: dict[str, str], family: pd.Series | None = None
) -> pd.DataFrame:
    """Add Holm's correction of `{corrected: p-values}`; `family` divides the rows in two."""
    family = pd.Series(True, table.index) if family is None else family
    for corrected, p in columns.items():
        table[corrected] = float("nan")
        for rows in (family, ~family):
            tested = rows & table[p].notna()
            table.loc[tested, corrected] = holm(table.loc[tested, p].to_numpy())
    return table
