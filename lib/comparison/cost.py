"""What INT8 saves, and what it costs to make each calibration set."""

from fnmatch import fnmatchcase
from typing import Any

import numpy as np
import pandas as pd

from lib.common.errors import StudyError
from lib.comparison.models import shared_models

MAKERS = ("teacher", "student")  # artifacts that are trained before a set can be drawn
GIVEN = ("real", "models", "classifier-*")  # those that are there before any calibration
MEANS = "all (geometric mean)"


def int8_costs(
    timings: pd.DataFrame, results: pd.DataFrame, seconds: pd.DataFrame | None = None
) -> pd.DataFrame:
    """Return latency, throughput and size of each INT8 network against FP32.

    `timings` has `latency_ms` and `throughput` (images/s) of each model, engine and method, `fp32`
    included; `size_bytes` is that of the networks of `results` that were timed, those by real
    images. `faster` is INT8's throughput over FP32's, `latency_ratio` and `size_ratio` are FP32's
    over INT8's: above 1 INT8 wins. The last rows are geometric means over the `models` that all
    ways share (`shared_models`), or a way's own. `quantization_s` is the mean of `seconds`, which
    has a row for each cell.
    """
    keys = ["model", "engine", "method"]
    timed = results[results["calibration_set"].isin(["none", "real"]) & (results["seed"] == 0)]
    timings = timings.merge(timed.drop_duplicates(keys)[[*keys, "size_bytes"]], "left", on=keys)
    fp32 = timings[timings["method"] == "fp32"].set_index("model")
    table = timings[timings["method"] != "fp32"].reset_index(drop=True)
    if unknown := set(table["model"]) - set(fp32.index):
        raise StudyError(f"timings of {', '.join(sorted(unknown))} in FP32 are missing")
    before = fp32.loc[table["model"]].reset_index()
    table["faster"] = table["throughput"] / before["throughput"]
    table["latency_ratio"] = before["latency_ms"] / table["latency_ms"]
    table["size_ratio"] = before["size_bytes"] / table["size_bytes"]
    if seconds is not None:
        taken = seconds.groupby(keys)["seconds"].mean()
        table = table.join(taken.rename("quantization_s"), on=keys)
    return pd.concat([table, _geometric_means(table)], ignore_index=True)


def _geometric_means(table: pd.DataFrame) -> pd.DataFrame:
    rows, ratios = [], ["faster", "latency_ratio", "size_ratio"]
    ways = table.groupby(["engine", "method"], sort=False)
    shared = shared_models(list(table["model"].unique()), ways["model"].unique().map(list))
    for (engine, method), part in ways:
        if set(shared) <= set(part["model"]):
            part = part[part["model"].isin(shared)]
        row = {"model": MEANS, "engine": engine, "method": method, "models": len(part)}
        rows.append(row | np.exp(np.log(part[ratios].astype(float)).mean()).to_dict())
    return pd.DataFrame(rows)


def set_costs(manifest: dict[str, Any], sets: list[str]) -> pd.DataFrame:
    """Return the seconds it took to make each calibration set, from a profile's manifest.

    `at_hand_s`: with trained `MAKERS` at hand, so drawing images and choosing among them;
    `from_nothing_s`: with their training, and the sampling of the teacher that the student needs.
    What is `GIVEN` counts in neither. NaN where an artifact was made before times were recorded,
    and for a training that took place elsewhere.
    `note` says what the times leave out.
    """
    entries = manifest["artifacts"] | manifest["measured_artifacts"]
    times, rows = manifest.get("seconds", {}), []
    for name in sets:
        made = _made_for(entries, f"calibration-{name}")
        drawn = _made_for(entries, f"calibration-{name}", stop=MAKERS) - set(MAKERS)
        sums = [sum(times.get(n, {"seconds": np.nan})["seconds"] for n in s) for s in (drawn, made)]
        sums[1] = np.nan if _taken_over(entries, made) else sums[1]
        row = {"set": name, "at_hand_s": sums[0], "from_nothing_s": sums[1]}
        row["made_of"] = ", ".join(sorted(made))
        rows.append(row | {"note": _note(entries, times, made)})
    return pd.DataFrame(rows)


def _made_for(entries: dict, name: str, stop: tuple[str, ...] = ()) -> set[str]:
    """Return the artifact and all that was made for it, not looking behind `stop` and `GIVEN`."""
    if name not in entries:
        raise StudyError(f"artifact {name} is missing: run the notebooks before")
    if name in stop:
        return {name}
    references = [r for inputs in entries[name]["inputs"].values() for r in inputs]
    sources = {reference.partition("/")[0] for reference in references}
    wanted = [s for s in sources if not any(fnmatchcase(s, given) for given in GIVEN)]
    return {name}.union(*(_made_for(entries, source, stop) for source in wanted))


def _note(entries: dict, times: dict, names: set[str]) -> str:
    notes = {
        "not recorded": [n for n in names if n not in times],
        "since an interruption only": [n for n in names if times.get(n, {}).get("resumed")],
        "without the training that it went on from": [
            n for n in names if entries[n]["options"].get("start")
        ],
        "taken over, not trained here": _taken_over(entries, names),
    }
    return "; ".join(f"{', '.join(sorted(n))}: {text}" for text, n in notes.items() if n)


def _taken_over(entries: dict, names: set[str]) -> list[str]:
    """Return which of the artifacts are generators that were trained elsewhere."""
    ends = (".adopt_teacher", ".adopt_student")
    return [name for name in names if entries[name]["builder"].endswith(ends)]
