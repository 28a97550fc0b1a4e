"""Comparison of the calibration sets: tables of differences with intervals and tests.

All differences are paired on the test images and pooled image by image over seeds (and networks).
Intervals, standard errors and p-values speak of other test images, for these networks and these
draws of the calibration images; what another draw changes is shown apart, as `seed_std_pp`.
"""

import numpy as np
import pandas as pd
from scipy.stats import sem

from lib.common import statistics
from lib.common.errors import StudyError
from lib.comparison.models import KEYS, REAL, SETTING, compared_models
from lib.quantization.cell import CELL_KEYS

ALL_MODELS = "all"
Predictions = dict[str, np.ndarray]


def degradation_table(
    table: pd.DataFrame, predictions: Predictions, labels: np.ndarray, **bootstrap
) -> pd.DataFrame:
    """Return what INT8 loses against FP32, a row for each model, setting and calibration set.

    `drop_pp`: loss of top-1 accuracy in percentage points, a mean over the seeds that succeeded;
    `low_pp`, `high_pp`: its interval (`bootstrap` are `bootstrap_interval`'s confidence, resamples,
    seed); `image_se_pp`: its standard error over test images; `seed_std_pp`: the deviation between
    seeds. `permutation_p` tests for any loss or gain (`sign_flip_test`); `permutation_holm_p` is
    corrected among all rows. `agreement` (share of images with FP32's class) and `kl` (nats) are
    means. `failed` counts failed or skipped cells, `reason` is the first one's.
    """
    int8, fp32 = named_cells(table)
    keys, rows = ["model", *KEYS], []
    for key, group in int8.groupby(keys, sort=False):
        ok = group[group["status"] == "ok"]
        gains = [_gain(predictions, labels, fp32[key[0]], name) for name in ok["name"]]
        row = dict(zip(keys, key, strict=True)) | {"seeds": len(ok)} | _failures(group)
        row |= ok[["fp32_accuracy", "accuracy"]].mean().to_dict()
        row |= _interval(gains, ("drop_pp", "low_pp", "high_pp"), bootstrap)
        row |= _spread(gains, ok["seed"]) | {"permutation_p": _permutation_p(gains)}
        row["agreement"] = (ok["agreement"] * len(labels)).round().mean() / len(labels)
        rows.append(row | {"kl": ok["kl"].mean()})
    found = pd.DataFrame(rows)
    return found if found.empty else _with_holm(found, {"permutation_holm_p": "permutation_p"})


def versus_real(
    table: pd.DataFrame,
    predictions: Predictions,
    labels: np.ndarray,
    *,
    margin_pp: float = 0.5,
    confidence: float = 0.95,
    **bootstrap,
) -> pd.DataFrame:
    """Compare each calibration set with the real one, model by model and (`all`) pooled.

    `difference_pp` is accuracy with the set less accuracy with real images, in percentage points,
    paired by model, setting and seed, with interval and spread as in `degradation_table`. `all` is
    the mean over the `compared_models` of a set, each of which counts alike: `models` of
    `real_models`, `complete` if these are the same. `unpaired` counts cells that succeeded, but
    whose partner with real images did not. `tost_p` tests equivalence within ±`margin_pp`,
    `permutation_p` any difference; Holm's correction has two families: all pooled rows, and all
    rows of single models. `resolution_pp` is what so many `images` without a difference do not
    exclude. `agreement_pp` and its columns compare the agreement with FP32 in the same way.
    """
    int8, fp32 = named_cells(table)
    compared = compared_models(int8[int8["status"] == "ok"])
    complete = compared.groupby(KEYS)["complete"].all()
    real = compared[compared["calibration_set"] == REAL].groupby(SETTING).size()
    bootstrap |= {"confidence": confidence}
    rows = []
    for key, group in int8[int8["calibration_set"] != REAL].groupby(KEYS, sort=False):
        for model, part in [(ALL_MODELS, group), *group.groupby("model", sort=False)]:
            row = dict(zip(KEYS, key, strict=True)) | {"model": model}
            row |= {"images": len(labels), "margin_pp": margin_pp}
            row["resolution_pp"] = 100 * statistics.resolution(len(labels), confidence=confidence)
            pairs = part[part["paired"]]
            row |= _failures(part) | {"unpaired": int((part["status"] == "ok").sum()) - len(pairs)}
            if model == ALL_MODELS:
                row["complete"] = bool(complete.get(key, False))
                row["real_models"] = int(real.get(key[:-1], 0))
            row |= {"models": pairs["model"].nunique(), "pairs": len(pairs)}
            rows.append(row | _compare(pairs, fp32, predictions, labels, margin_pp, bootstrap))
    found = pd.DataFrame(rows).round(dict.fromkeys(["difference_pp", "low_pp", "high_pp"], 9))
    if found.empty:
        return found
    corrected = {"tost_holm_p": "tost_p", "permutation_holm_p": "permutation_p"}
    return _with_holm(found, corrected, found["model"] == ALL_MODELS)


def mcnemar_table(
    table: pd.DataFrame, predictions: Predictions, labels: np.ndarray
) -> pd.DataFrame:
    """Test each INT8 network by itself, with McNemar's exact test, against two others.

    A row for each cell that succeeded and `against`: `fp32`, the same model before quantization,
    and `real`, its counterpart with real images. `gains` are test images that it alone has right,
    `losses` those that the other alone has right, `discordant` both. Holm's correction is among
    all rows of the same `against`.
    """
    int8, fp32 = named_cells(table)
    ok = int8[int8["status"] == "ok"]
    before = ok.assign(against="fp32", other=ok["model"].map(fp32))
    beside = ok[ok["paired"] & (ok["calibration_set"] != REAL)]
    beside = beside.assign(against=REAL, other=beside["real"])
    both = pd.concat([before, beside], ignore_index=True)
    pairs = zip(both["name"], both["other"], strict=True)
    gains = [_gain(predictions, labels, *pair) for pair in pairs]
    tested = both[[*CELL_KEYS, "against"]].copy()
    tested["gains"] = [int((gain > 0).sum()) for gain in gains]
    tested["losses"] = [int((gain < 0).sum()) for gain in gains]
    tested["discordant"] = tested["gains"] + tested["losses"]
    tested["difference_pp"] = [100 * gain.mean() for gain in gains]
    tested["mcnemar_p"] = [statistics.mcnemar_test(gain) for gain in gains]
    return _with_holm(tested, {"mcnemar_holm_p": "mcnemar_p"}, tested["against"] == "fp32")


def named_cells(table: pd.DataFrame) -> tuple[pd.DataFrame, pd.Series]:
    """Return the INT8 cells with the names of their predictions, and FP32's names by model.

    `real` names the counterpart with real images, `paired` says whether both succeeded.
    """
    keys = table[list(CELL_KEYS)].astype(str)
    table = table.assign(name=keys.agg("/".join, axis=1))
    table["real"] = keys.assign(calibration_set=REAL).agg("/".join, axis=1)
    ok = table["status"] == "ok"
    table["paired"] = ok & table["real"].isin(table.loc[ok, "name"])
    fp32 = table["method"] == "fp32"
    return table[~fp32], table[fp32].set_index("model")["name"]


def _compare(pairs, fp32, predictions, labels, margin_pp, bootstrap) -> dict:
    """Compare networks with their counterparts with real images; each model counts alike."""
    counts = pairs.groupby("model")["model"].transform("size")
    pairs = pairs.loc[pairs.index.repeat(np.lcm.reduce(counts.to_numpy(int), initial=1) // counts)]
    rows = list(pairs[["model", "name", "real"]].itertuples(index=False))
    gains = [_gain(predictions, labels, name, real) for _, name, real in rows]
    agreement = [_gain(predictions, predictions[fp32[model]], *names) for model, *names in rows]
    row = _interval(gains, ("difference_pp", "low_pp", "high_pp"), bootstrap)
    row |= _spread(gains, pairs["seed"])
    row["tost_p"] = statistics.tost_test(100 * _pooled(gains), margin_pp) if gains else float("nan")
    row["permutation_p"] = _permutation_p(gains)
    names = ("agreement_pp", "agreement_low_pp", "agreement_high_pp")
    row |= _interval(agreement, names, bootstrap)
    return row | {"agreement_permutation_p": _permutation_p(agreement)}


def _failures(group: pd.DataFrame) -> dict:
    failed = group[group["status"] != "ok"]
    reasons = failed["error"].dropna()
    return {"failed": len(failed), "reason": reasons.iloc[0] if len(reasons) else ""}


def _gain(predictions: Predictions, truth: np.ndarray, first: str, second: str) -> np.ndarray:
    """Return by image 1 where only `first` meets `truth`, -1 where only `second` does, else 0."""
    try:
        hits = [predictions[name] == truth for name in (first, second)]
    except KeyError as error:
        raise StudyError(f"predictions of {error} are missing: run quantization again") from error
    return hits[0].astype(np.int64) - hits[1].astype(np.int64)


def _pooled(gains: list[np.ndarray]) -> np.ndarray:
    return np.sum(gains, axis=0) / len(gains)  # whole numbers are summed: equal means stay equal


def _interval(gains: list[np.ndarray], names: tuple[str, str, str], bootstrap: dict) -> dict:
    """Return the pooled mean, low and high end of its interval, in percentage points."""
    if not gains:
        return dict.fromkeys(names, float("nan"))
    pooled = 100 * _pooled(gains)
    numbers = pooled.mean(), *statistics.bootstrap_interval(pooled, **bootstrap)
    return dict(zip(names, numbers, strict=True))


def _spread(gains: list[np.ndarray], seeds: pd.Series) -> dict[str, float]:
    """Return the standard error over images and the standard deviation between seeds."""
    if not gains:
        return dict.fromkeys(("image_se_pp", "seed_std_pp"), float("nan"))
    by_seed = pd.Series([100 * gain.mean() for gain in gains]).groupby(seeds.to_numpy()).mean()
    return {"image_se_pp": sem(100 * _pooled(gains)), "seed_std_pp": by_seed.std()}


def _permutation_p(gains: list[np.ndarray]) -> float:
    return statistics.sign_flip_test(_pooled(gains), pairs=len(gains)) if gains else float("nan")


def _with_holm(
    table: pd.DataFrame, tests: dict[str, str], family: pd.Series | None = None
) -> pd.DataFrame:
    """Add Holm's correction of `{corrected: p-values}`; `family` divides the rows in two."""
    family = pd.Series(True, table.index) if family is None else family
    for corrected, p in tests.items():
        groups = table[p].dropna().groupby(family)
        table[corrected] = groups.transform(lambda values: statistics.holm(values.to_numpy(float)))
    return table
