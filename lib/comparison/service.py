"""Does a calibration set serve a network? One row for each way, network and set.

The yardstick is real images: `difference_pp` is the share of test images on which INT8 agrees with
FP32, less that share with real images, in percentage points, means over draws. What counts as the
same is fixed before looking: a margin, or, where another draw of real images moves a network
further than that, twice the standard deviation of the difference of two such draws.

A set *serves* a network if the difference lies above the margin's lower end beyond chance, *fails*
if below; else it is not decided. Chance is that of other test images and of other draws of both
sets at once (Owen 2007, "The pigeonhole bootstrap"), of a single draw that of images alone;
p-values are corrected together for all the networks and sets of one way to quantize (Holm 1979).
"""

from functools import lru_cache

import numpy as np
import pandas as pd
from scipy.stats import binom, norm
from statsmodels.stats.proportion import proportion_confint

from lib.common.errors import StudyError
from lib.common.seeds import numpy_generator
from lib.common.statistics import holm
from lib.comparison.models import REAL, SET, WAY
from lib.quantization.cell import Cell, cells_of

SERVES, FAILS, OPEN = "serves", "fails", "not decided"
REFERENCE, MISSING = "reference", "not measured"
FEW = 25  # images: where fewer differ, a mean of so many is not normal, and is taken exactly
CHUNK = 250  # resamples whose weights are held at once
MEANS = ["fp32_accuracy", "accuracy", "drop_pp", "kl"]


def service_table(
    table: pd.DataFrame,
    predictions: dict[str, np.ndarray],
    *,
    margin_pp: float = 0.5,
    confidence: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
) -> pd.DataFrame:
    """Return whether each set serves each network, by each way to quantize.

    `table` and `predictions` are results as `load_results` gives them. Real images at the largest
    size of a way are the reference. Columns beside the keys: `draws`, `images` (test images),
    means over draws of `agreement` (share), top-1, its loss and divergence (nats); `difference_pp`
    with its interval `low_pp`, `high_pp` and standard error `error_pp`; `redraw_pp`, twice the
    standard deviation of the difference of two draws of real images; the margin as stated,
    `stated_pp`, and as it is for the network, `margin_pp`; `serves_p` and `fails_p`, corrected;
    `answer`; `reason`, why cells failed.
    """
    int8, rows = table[table["method"] != "fp32"], []
    for (model, engine, method), part in int8.groupby(["model", *WAY], sort=False):
        fp32 = predictions.get(Cell(model).name)
        real = part[part["calibration_set"] == REAL]
        size = real["calibration_size"].max()
        agreed = {key: _agreement(own, predictions, fp32) for key, own in part.groupby(SET)}
        drawn = resampled(agreed, resamples, seed)
        reference = (REAL, size)
        margin = _margin(agreed.get(reference), margin_pp)
        for key, own in part.groupby(SET, sort=False):
            row = {"model": model, "engine": engine, "method": method}
            row |= dict(zip(SET, key, strict=True)) | _means(own, agreed[key]) | margin
            if key == reference:
                row["answer"] = REFERENCE if len(agreed[key]) else MISSING
            elif not len(agreed[key]) or not len(agreed.get(reference, ())):
                row["answer"] = MISSING
            else:
                pair, draws = (agreed[key], agreed[reference]), (drawn[key], drawn[reference])
                row |= compare(*pair, *draws, margin["margin_pp"] / 100, confidence)
            rows.append(row)
    if not rows:
        raise StudyError("there is no INT8 network: run the quantization notebook first")
    found = pd.DataFrame(rows)
    return found if "serves_p" not in found else _decided(found, confidence)


@lru_cache(maxsize=2)
def _counts(n: int, resamples: int, seed: int) -> list[np.ndarray]:
    """Return how often each of `n` images is drawn in each of the resamples, in chunks of these."""
    rng = numpy_generator(seed, "bootstrap of images")
    sizes = [min(CHUNK, resamples - start) for start in range(0, resamples, CHUNK)]
    return [rng.multinomial(n, np.full(n, 1 / n), size).astype(np.uint8) for size in sizes]


def resampled(
    agreed: dict[tuple, np.ndarray], resamples: int, seed: int
) -> dict[tuple, np.ndarray]:
    """Return bootstrap means `(resamples,)` of agreements `(draws, images)`, by their keys.

    Test images are drawn for all keys alike, which pairs them; the draws of each by themselves, one
    fewer than there are, for the variance of a mean of all to come out right.
    """
    keys = [key for key, values in agreed.items() if len(values)]
    if not keys:
        return {}
    stacked = np.concatenate([agreed[key] for key in keys]).astype(np.float32)
    rng, n = numpy_generator(seed, "pigeonhole bootstrap"), stacked.shape[1]
    means = [weights.astype(np.float32) @ stacked.T / n for weights in _counts(n, resamples, seed)]
    means, found, first = np.concatenate(means), {}, 0
    for key in keys:
        own, first = means[:, first : first + len(agreed[key])], first + len(agreed[key])
        taken = rng.integers(0, own.shape[1], (resamples, max(1, own.shape[1] - 1)))
        found[key] = np.take_along_axis(own, taken, axis=1).mean(axis=1)
    return found


def compare(
    own: np.ndarray,
    real: np.ndarray,
    drawn: np.ndarray,
    drawn_real: np.ndarray,
    margin: float,
    confidence: float,
) -> dict[str, float]:
    """Compare agreements `(draws, images)` of a set with those of real images.

    `drawn` are their bootstrap means; `margin` is a share of the test images. Where fewer than
    `FEW` images differ, the interval and the p-value are exact ones of the images, if wider.
    """
    difference = own.mean() - real.mean()
    error = (drawn - drawn_real).std(ddof=1)
    reach = norm.ppf((1 + confidence) / 2) * error
    low, high = difference - reach, difference + reach
    scale = max(error, 1e-12)
    serves, fails = norm.sf((difference + margin) / scale), norm.cdf((difference + margin) / scale)
    n, apart = own.shape[1], own.mean(axis=0) - real.mean(axis=0)
    lost, won = int(np.ceil(-apart[apart < 0].sum())), int(np.ceil(apart[apart > 0].sum()))
    if lost + won < FEW:
        (least_lost, most_lost), (least_won, most_won) = (
            proportion_confint(count, n, alpha=(1 - confidence) / 2, method="beta")
            for count in (lost, won)
        )
        low, high = min(low, least_won - most_lost), max(high, most_won - least_lost)
        serves, fails = max(serves, binom.cdf(lost, n, min(margin, 1))), max(fails, 0.5)
    parts = {"difference_pp": difference, "low_pp": low, "high_pp": high, "error_pp": error}
    found = {key: 100 * float(value) for key, value in parts.items()}
    return found | {"serves_p": float(serves), "fails_p": float(fails)}


def _agreement(
    cells: pd.DataFrame, predictions: dict[str, np.ndarray], fp32: np.ndarray | None
) -> np.ndarray:
    """Return `(draws, images) bool`: whether INT8 and FP32 give a test image the same class."""
    ok = cells[cells["status"] == "ok"]
    if fp32 is None or ok.empty:
        return np.empty((0, 0), bool)
    return np.stack([predictions[cell.name] == fp32 for cell in cells_of(ok)])


def _margin(real: np.ndarray | None, margin_pp: float) -> dict[str, float]:
    """Return `redraw_pp` and `margin_pp` from the agreements `(draws, images)` of real images."""
    redraw = np.nan
    if real is not None and len(real) > 1:
        redraw = 100 * 2 * 2**0.5 * real.mean(axis=1).std(ddof=1)
    margins = {"stated_pp": margin_pp, "margin_pp": float(np.nanmax([redraw, margin_pp]))}
    return {"redraw_pp": redraw} | margins


def _means(cells: pd.DataFrame, agreed: np.ndarray) -> dict[str, float | str]:
    ok, failed = (cells[(cells["status"] == "ok") == wanted] for wanted in (True, False))
    row = {"draws": len(ok), "images": agreed.shape[1]}
    row["agreement"] = float(agreed.mean()) if agreed.size else np.nan
    row |= ok[MEANS].astype(float).mean().to_dict()
    return row | {"reason": failed["error"].iloc[0] if len(failed) else ""}


def _decided(found: pd.DataFrame, confidence: float) -> pd.DataFrame:
    """Correct the p-values of each way to quantize together, and give the answers."""
    found = found.copy()
    for _, part in found[found["serves_p"].notna()].groupby(WAY, sort=False):
        for column in ("serves_p", "fails_p"):
            found.loc[part.index, column] = holm(part[column].to_numpy())
    sure = found["answer"].isna()
    serves, fails = (found[f"{what}_p"] < 1 - confidence for what in (SERVES, FAILS))
    found.loc[sure, "answer"] = np.select([serves, fails], [SERVES, FAILS], OPEN)[sure]
    return found
