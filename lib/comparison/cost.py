"""What INT8 saves, and what it costs to make each calibration set."""

import itertools
from fnmatch import fnmatchcase
from typing import Any

import numpy as np
import pandas as pd

from lib.common.errors import StudyError
from lib.comparison.models import shared_models

MAKERS = ("teacher", "student")
"""Artifacts that are trained before a synthetic set can be drawn."""
GIVEN = ("real", "models", "classifier-*")
"""Artifacts that are there before any calibration: the data, and the networks to quantize."""
ALL_MODELS = "all (geometric mean)"


def int8_costs(timings: pd.DataFrame, seconds: pd.DataFrame | None = None) -> pd.DataFrame:
    """Return latency, throughput and size of each INT8 network against FP32.

    `timings` has a row for each model, engine and method (`fp32` once a model): `latency_ms`,
    `throughput` in images/s and `size_bytes` of the weights. `faster` is INT8's throughput over
    FP32's, `latency_ratio` and `size_ratio` are FP32's over INT8's: above 1 INT8 wins in all
    three. Below the models, their geometric means, over the `models` that engines and methods
    share (`shared_models`); one that lacks too many goes over its own. `seconds`, a row for each
    cell with how long its quantization took, gives `quantization_s`, the mean over sets and seeds.
    """
    fp32 = timings[timings["method"] == "fp32"].set_index("model")
    int8 = timings[timings["method"] != "fp32"].reset_index(drop=True)
    unknown = set(int8["model"]) - set(fp32.index)
    if unknown:
        raise StudyError(f"timings of {', '.join(sorted(unknown))} in FP32 are missing")
    before = fp32.loc[int8["model"]].reset_index()
    table = int8[["model", "engine", "method", "latency_ms", "throughput", "size_bytes"]].copy()
    table["faster"] = int8["throughput"] / before["throughput"]
    table["latency_ratio"] = before["latency_ms"] / int8["latency_ms"]
    table["size_ratio"] = before["size_bytes"] / int8["size_bytes"]
    if seconds is not None:
        taken = seconds.groupby(["model", "engine", "method"])["seconds"].mean()
        table = table.join(taken.rename("quantization_s"), on=["model", "engine", "method"])
    return pd.concat([table, _geometric_means(table)], ignore_index=True)


def _geometric_means(table: pd.DataFrame) -> pd.DataFrame:
    rows, ratios = [], ["faster", "latency_ratio", "size_ratio"]
    ways = table.groupby(["engine", "method"], sort=False)
    models = ways["model"].unique().map(list)
    shared = shared_models(list(table["model"].unique()), models)
    for (engine, method), part in ways:
        if set(shared) <= set(part["model"]):
            part = part[part["model"].isin(shared)]
        means = np.exp(np.log(part[ratios].astype(float)).mean())
        row = {"model": ALL_MODELS, "engine": engine, "method": method, "models": len(part)}
        rows.append(row | means.to_dict())
    return pd.DataFrame(rows)


def with_sizes(timings: pd.DataFrame, results: pd.DataFrame) -> pd.DataFrame:
    """Add `size_bytes` to the rows of `time_grid`, from the results of the networks it timed."""
    if "size_bytes" in timings:
        return timings
    keys = ["model", "engine", "method"]
    timed = results[results["calibration_set"].isin(["none", "real"]) & (results["seed"] == 0)]
    sizes = timed.drop_duplicates(keys)[[*keys, "size_bytes"]]
    return timings.merge(sizes, how="left", on=keys)


def set_costs(manifest: dict[str, Any], sets: list[str]) -> pd.DataFrame:
    """Return the seconds it took to make each calibration set, from a profile's manifest.

    `at_hand_s`: with trained `MAKERS` at hand, so drawing images and choosing among them;
    `from_nothing_s`: with their training, and the sampling of the teacher that the student needs.
    What is `GIVEN` counts in neither: reading the real data, and training and converting the
    networks to quantize, which whoever quantizes them has. NaN where an artifact was made before
    times were recorded. `note` says what the times leave out.
    """
    rows = []
    for name in sets:
        made = _made_for(manifest, f"calibration-{name}")
        drawn = _made_for(manifest, f"calibration-{name}", stop=MAKERS) - set(MAKERS)
        row = {"set": name, "at_hand_s": _seconds(manifest, drawn)}
        row |= {"from_nothing_s": _seconds(manifest, made), "made_of": ", ".join(sorted(made))}
        rows.append(row | {"note": _note(manifest, made)})
    return pd.DataFrame(rows)


def _made_for(manifest: dict, name: str, stop: tuple[str, ...] = ()) -> set[str]:
    """Return the artifact and all that was made for it, not looking behind `stop` and `GIVEN`."""
    entry = _entries(manifest).get(name)
    if entry is None:
        raise StudyError(f"artifact {name} is missing: run the notebooks before")
    found = {name}
    if name in stop:
        return found
    for reference in itertools.chain.from_iterable(entry["inputs"].values()):
        source = reference.partition("/")[0]
        if not any(fnmatchcase(source, given) for given in GIVEN):
            found |= _made_for(manifest, source, stop)
    return found


def _entries(manifest: dict) -> dict:
    return manifest["artifacts"] | manifest["measured_artifacts"]


def _seconds(manifest: dict, names: set[str]) -> float:
    times = manifest.get("seconds", {})
    return sum(times[name]["seconds"] if name in times else float("nan") for name in names)


def _note(manifest: dict, names: set[str]) -> str:
    times, entries = manifest.get("seconds", {}), _entries(manifest)
    notes = {
        "not recorded": [n for n in names if n not in times],
        "since an interruption only": [n for n in names if times.get(n, {}).get("resumed")],
        "without the training that it went on from": [
            n for n in names if entries[n]["options"].get("start")
        ],
        "taken over, not trained here": [
            n for n in names if entries[n]["builder"].rpartition(".")[2] == "adopt_teacher"
        ],
    }
    return "; ".join(f"{', '.join(sorted(n))}: {text}" for text, n in notes.items() if n)
