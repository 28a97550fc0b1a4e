"""Where calibration sets differ: by size, by scales of weights, by bits of activations.

From the results of a second grid, whose default quantization runs at several sizes and whose
variants (`lib.quantization.nncf.VARIANTS`) run at one.
"""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from lib.calibration.kinds import set_colours
from lib.common.seeds import numpy_generator
from lib.quantization.cell import Cell, cells_of
from lib.quantization.nncf import VARIANTS

GROUP = ["model", "method", "calibration_set", "calibration_size"]
PER_TENSOR = "default_per_tensor"


def sensitivity_table(
    table: pd.DataFrame,
    predictions: dict[str, np.ndarray],
    labels: np.ndarray,
    *,
    confidence: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
) -> pd.DataFrame:
    """Return accuracy and agreement with FP32 in percent, with intervals over images and seeds.

    A row for each model, method, set and size: `accuracy`, `agreement`, their `_low` and `_high`,
    `fp32_accuracy`, `seeds`, and the means over seeds of `images_read` and `classes_read`, which
    say what a size below the number of classes holds.
    """
    rows = []
    done = table[(table["method"] != "fp32") & (table["status"] == "ok")]
    for key, group in done.groupby(GROUP, sort=False):
        found = [predictions[cell.name] for cell in cells_of(group)]
        fp32 = predictions[Cell(key[0]).name]
        row = dict(zip(GROUP, key, strict=True)) | {"seeds": len(group)}
        row |= group[["images_read", "classes_read"]].astype(float).mean().to_dict()
        row["fp32_accuracy"] = 100 * float((fp32 == labels).mean())
        for name, truth in (("accuracy", labels), ("agreement", fp32)):
            hits = 100.0 * (np.stack(found) == truth)
            low, high = crossed_interval(hits, confidence, resamples, seed)
            row |= {name: float(hits.mean()), f"{name}_low": low, f"{name}_high": high}
        rows.append(row)
    return pd.DataFrame(rows)


def crossed_interval(
    values: np.ndarray, confidence: float, resamples: int, seed: int
) -> tuple[float, float]:
    """Percentile bootstrap interval for the mean of `(seeds, images)`, both resampled.

    Owen 2007, "The pigeonhole bootstrap": rows and columns are drawn independently. One row, or
    few, understate how much seeds differ.
    """
    rows, columns = values.shape
    rng = numpy_generator(seed, "crossed bootstrap")
    means = np.empty(resamples)
    for i in range(resamples):
        drawn = rng.multinomial(rows, np.full(rows, 1 / rows)) / rows
        means[i] = (drawn @ values)[rng.integers(0, columns, columns)].mean()
    tail = (1 - confidence) / 2
    low, high = np.quantile(means, [tail, 1 - tail])
    return float(low), float(high)


def size_curves(table: pd.DataFrame, title: str) -> Figure:
    """Draw accuracy and agreement against calibration size, a row of panels for each model."""
    default = table[table["method"] == "default"]
    models = list(dict.fromkeys(default["model"]))
    figure, axes = plt.subplots(
        len(models), 2, figsize=(11, 3.6 * len(models) + 0.6), squeeze=False, layout="constrained"
    )
    for row, model in zip(axes, models, strict=True):
        part = default[default["model"] == model]
        for axis, value, label in zip(
            row,
            ("accuracy", "agreement"),
            ("top-1 accuracy (%)", "agreement with FP32 (%)"),
            strict=True,
        ):
            _lines(axis, part, value)
            axis.set(title=model, xlabel="images read for calibration", ylabel=label)
        row[0].axhline(part["fp32_accuracy"].iloc[0], color="black", ls="--", lw=1, label="FP32")
    _legend(figure)
    figure.suptitle(title)
    plt.close(figure)
    return figure


def variant_panels(table: pd.DataFrame, size: int, title: str) -> Figure:
    """Draw agreement with FP32 by calibration set: per-channel against per-tensor, and by bits."""
    part = table[table["calibration_size"] == size].copy()
    part["bits"] = [str(VARIANTS[name].activation_bits) for name in part["method"]]
    models = list(dict.fromkeys(part["model"]))
    figure, axes = plt.subplots(
        len(models), 2, figsize=(11, 3.6 * len(models) + 0.6), squeeze=False, layout="constrained"
    )
    for row, model in zip(axes, models, strict=True):
        own = part[part["model"] == model]
        scales = own[own["method"].isin(["default", PER_TENSOR])]
        names = {"default": "per channel", PER_TENSOR: "per tensor"}
        _points(row[0], scales.assign(group=scales["method"].map(names)))
        row[0].set(title=f"{model}: scales of the weights", xlabel="")
        bits = own[own["method"] != PER_TENSOR]
        _points(row[1], bits.assign(group=bits["bits"]))
        row[1].set(title=f"{model}: bits of the activations", xlabel="bits")
    _legend(figure)
    figure.suptitle(title)
    plt.close(figure)
    return figure


def range_heatmap(ranges: pd.DataFrame, title: str) -> Figure:
    """Draw `log2_width` of `range_table` as sets x layers; colours end at ±3."""
    wide = ranges.pivot(index="calibration_set", columns="layer", values="log2_width")
    wide = wide.reindex(list(dict.fromkeys(ranges["calibration_set"])))
    figure, axis = plt.subplots(
        figsize=(max(7, 0.16 * wide.shape[1] + 3), 0.45 * len(wide) + 1.6), layout="constrained"
    )
    sns.heatmap(
        wide,
        ax=axis,
        cmap="vlag",
        center=0,
        vmin=-3,
        vmax=3,
        cbar_kws={"label": "log2 of width over\nwidth by real images", "extend": "both"},
    )
    axis.set(title=title, xlabel="quantizer, from input to output", ylabel="calibration set")
    axis.tick_params(axis="y", rotation=0)
    plt.close(figure)
    return figure


def size_words(table: pd.DataFrame, tolerance_pp: float) -> str:
    """Say for each model and set how many images suffice to agree as with the most."""
    lines = []
    default = table[table["method"] == "default"]
    for model, own in default.groupby("model", sort=False):
        parts = []
        for name, part in own.groupby("calibration_set", sort=False):
            part = part.sort_values("calibration_size")
            first, last = part.iloc[0], part.iloc[-1]
            within = part["agreement"] >= last["agreement"] - tolerance_pp
            # the smallest size from which on all sizes are within the tolerance
            enough = part["calibration_size"][within[::-1].cummin()].min()
            parts.append(
                f"{name} {first['agreement']:.1f} % at {first['calibration_size']}, "
                f"{last['agreement']:.1f} % at {last['calibration_size']}, level from {enough} on"
            )
        lines.append(f"- {model}: {'; '.join(parts)}.")
    head = (
        "Agreement with FP32 at the fewest and the most images, and the size from which on it "
        f"stays within {tolerance_pp:g} points of its last value:"
    )
    return "\n".join([head, "", *lines])


def spread_words(table: pd.DataFrame, size: int) -> str:
    """Say by how much the sets differ in agreement under each variant at one size."""
    lines = []
    part = table[table["calibration_size"] == size]
    for (model, method), own in part.groupby(["model", "method"], sort=False):
        best, worst = (
            own.loc[pick] for pick in (own["agreement"].idxmax(), own["agreement"].idxmin())
        )
        lines.append(
            f"- {model}, {method}: {best['agreement'] - worst['agreement']:.1f} points between "
            f"{best['calibration_set']} ({best['agreement']:.1f} %) and "
            f"{worst['calibration_set']} ({worst['agreement']:.1f} %)"
        )
    return "\n".join(["How far the sets lie apart in agreement with FP32:", "", *lines])


def _legend(figure: Figure) -> None:
    """Name each set once, also one that some panels lack."""
    pairs = [zip(*axis.get_legend_handles_labels(), strict=True) for axis in figure.axes]
    shown = {name: handle for panel in pairs for handle, name in panel}
    figure.legend(shown.values(), shown.keys(), loc="outside right upper", title="calibration set")


def _lines(axis: Axes, part: pd.DataFrame, value: str) -> None:
    colours = set_colours(part["calibration_set"])
    for name, own in part.groupby("calibration_set", sort=False):
        own, colour = own.sort_values("calibration_size"), colours[name]
        axis.plot(own["calibration_size"], own[value], "o-", ms=4, label=name, color=colour)
        low, high = own[f"{value}_low"], own[f"{value}_high"]
        axis.fill_between(own["calibration_size"], low, high, color=colour, alpha=0.13, lw=0)
    sizes = sorted(part["calibration_size"].unique())
    axis.set_xscale("log")
    axis.set_xticks(sizes, [f"{size:,}" for size in sizes])
    axis.minorticks_off()
    axis.grid(alpha=0.3)


def _points(axis: Axes, part: pd.DataFrame) -> None:
    groups = list(dict.fromkeys(part["group"]))
    colours = set_colours(part["calibration_set"])
    sets = list(colours)
    step = min(0.12, 0.8 / len(sets))
    for i, name in enumerate(sets):
        own = part[part["calibration_set"] == name].set_index("group").reindex(groups)
        x = np.arange(len(groups)) + step * (i - (len(sets) - 1) / 2)
        error = [own["agreement"] - own["agreement_low"], own["agreement_high"] - own["agreement"]]
        axis.errorbar(
            *(x, own["agreement"]),
            yerr=np.maximum(error, 0),
            **{"fmt": "o", "ms": 5, "capsize": 2, "label": name, "color": colours[name]},
        )
    axis.set_xticks(range(len(groups)), groups)
    axis.set_ylabel("agreement with FP32 (%)")
    axis.grid(axis="y", alpha=0.3)
