"""Figures of notebook 06. Each function returns a matplotlib figure with title and axis labels."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullLocator

from lib.comparison import int8_name

MARKERS = "osD^v<>P"


def set_differences(
    pooled: pd.DataFrame,
    *,
    value: str,
    low: str,
    high: str,
    title: str,
    x_label: str,
    margin: float | None = None,
) -> Figure:
    """Draw each set's difference to real images with its interval, a colour a way to quantize.

    `pooled` are rows of `lib.comparison.versus_real` of all models; `value`, `low` and `high` name
    its columns, whose numbers stand at the right. `margin` shades the zone of equivalence; the axis
    is linear within it, or within 1 without it, and logarithmic beyond.
    """
    sets = list(dict.fromkeys(pooled["calibration_set"]))
    ways = list(dict.fromkeys(zip(pooled["engine"], pooled["method"], strict=True)))
    height = 1.9 + max(0.5, 0.27 * len(ways)) * len(sets)
    figure, axis = plt.subplots(figsize=(9.2, height), layout="constrained")
    if margin is not None:
        zone = f"equivalent: within ±{margin:g} points"
        axis.axvspan(-margin, margin, color="tab:green", alpha=0.13, lw=0, label=zone)
    axis.axvline(0, color="black", lw=0.8)
    for number, way in enumerate(ways):
        part = pooled[(pooled["engine"] == way[0]) & (pooled["method"] == way[1])]
        part = part.drop_duplicates("calibration_set").set_index("calibration_set").reindex(sets)
        places = np.arange(len(sets)) + (number - (len(ways) - 1) / 2) * 0.8 / max(len(ways), 2)
        _points(axis, part[[value, low, high]].to_numpy(float), places, way, number)
    _linear_within(axis, margin or 1, pooled[[low, high]].to_numpy(float))
    axis.set_yticks(range(len(sets)), sets)
    axis.set_ylim(len(sets) - 0.5, -0.5)
    axis.set(title=title, xlabel=x_label, ylabel="calibration set")
    for edge in range(1, len(sets)):
        axis.axhline(edge - 0.5, color="0.85", lw=0.6)
    axis.grid(axis="x", alpha=0.3)
    figure.legend(loc="outside lower center", ncols=2, fontsize="small", frameon=False)
    plt.close(figure)
    return figure


def _points(axis: Axes, numbers: np.ndarray, places: np.ndarray, way: tuple, index: int) -> None:
    """Draw one way's values `(sets, 3)`: estimate, low, high; and write them beside the axis."""
    middle, low, high = numbers.T
    colour = f"C{index}"
    axis.errorbar(
        *(middle, places),
        xerr=np.abs([middle - low, high - middle]),
        fmt=MARKERS[index % len(MARKERS)],
        color=colour,
        capsize=3,
        label=int8_name(*way),
    )
    for place, row in zip(places, numbers, strict=True):
        text = (
            "not measured"
            if np.isnan(row[0])
            else f"{row[0]:+.2f}  ({row[1]:+.2f} to {row[2]:+.2f})"
        )
        axis.annotate(
            *(text, (1, place)),
            xytext=(6, 0),
            xycoords=("axes fraction", "data"),
            textcoords="offset points",
            va="center",
            fontsize="small",
            color=colour,
            annotation_clip=False,
        )


def _linear_within(axis: Axes, bound: float, ends: np.ndarray) -> None:
    """Scale the x axis linearly up to ±`bound`, logarithmically beyond, with plain ticks."""
    axis.set_xscale("symlog", linthresh=bound)
    low, high = np.nanmin([*ends.ravel(), -bound]), np.nanmax([*ends.ravel(), bound])
    axis.set_xlim(1.6 * low, 1.6 * high)
    ticks = [0, *(sign * bound * factor for factor in (1, 10, 100, 1000) for sign in (-1, 1))]
    axis.xaxis.set_major_locator(FixedLocator(ticks))
    axis.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:+g}" if value else "0"))
    axis.xaxis.set_minor_locator(NullLocator())


def factor_bars(tables: dict[str, pd.DataFrame], title: str) -> Figure:
    """Draw shares of the variance, a bar a factor; `tables` maps a legend to `effect_sizes`."""
    parts = [
        table[table["eta_sq"].notna()].assign(over=name, share=100 * table["eta_sq"])
        for name, table in tables.items()
    ]
    together = pd.concat(parts)
    figure, axis = plt.subplots(
        figsize=(8.4, 1.4 + 0.42 * max(together["factor"].nunique(), 2)), layout="constrained"
    )
    if len(together):
        sns.barplot(together, y="factor", x="share", hue="over", ax=axis, errorbar=None)
        axis.legend(title=None)
    else:
        axis.text(0.5, 0.5, "nothing varies", ha="center", transform=axis.transAxes)
    axis.set(title=title, xlabel="share of the variance, η² (%)", ylabel="")
    axis.grid(axis="x", alpha=0.3)
    plt.close(figure)
    return figure


def quality_scatter(joined: pd.DataFrame, title: str, x_label: str) -> Figure:
    """Draw disagreement with FP32 against FID, a point a set, a panel a way to quantize."""
    ways = list(joined.groupby(["engine", "method"], sort=False))
    figure, axes = plt.subplots(
        1,
        max(len(ways), 1),
        figsize=(5.0 * max(len(ways), 1), 4.0),
        sharex=True,
        sharey=True,
        squeeze=False,
        layout="constrained",
    )
    for axis, (way, part) in zip(axes[0], ways, strict=False):
        colours = {name: f"C{i % 10}" for i, name in enumerate(part["calibration_set"])}
        for name, x, y in part[["calibration_set", "fid", "disagreement_pp"]].itertuples(False):
            axis.plot(x, y, "o", color=colours[name], label=name)
        axis.set_xscale("symlog", linthresh=0.1)
        axis.set_yscale("symlog", linthresh=0.1)
        axis.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axis.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axis.set_title(int8_name(*way))
        axis.set_ylim(bottom=-0.02)
        axis.grid(alpha=0.3)
    axes[0, 0].set_ylabel("images on which INT8 and FP32 differ (%)")
    handles, labels = axes[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside right center", title="calibration set")
    figure.supxlabel(x_label, fontsize="medium")
    figure.suptitle(title)
    plt.close(figure)
    return figure


def uncertainty_bars(pooled: pd.DataFrame, title: str) -> Figure:
    """Draw what test images and what seeds leave open of each set's difference to real images."""
    names = {"image_se_pp": "test images (standard error)", "seed_std_pp": "seeds (deviation)"}
    ways = list(pooled.groupby(["engine", "method"], sort=False))
    figure, axes = plt.subplots(
        1, max(len(ways), 1), figsize=(4.6 * len(ways), 3.4), squeeze=False, layout="constrained"
    )
    for axis, (way, part) in zip(axes[0], ways, strict=False):
        tidy = part.melt("calibration_set", list(names), "from", "points").replace(names)
        sns.barplot(tidy, x="calibration_set", y="points", hue="from", ax=axis, errorbar=None)
        axis.set(title=int8_name(*way), xlabel="calibration set", ylabel="percentage points")
        axis.tick_params(axis="x", rotation=30)
        axis.yaxis.set_major_locator(MaxNLocator(5))
        axis.legend(title=None, fontsize="small")
    figure.suptitle(title)
    plt.close(figure)
    return figure
