"""Figures of notebook 06. Each function returns a matplotlib figure with title and axis labels."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.colors import SymLogNorm
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullLocator

from lib.calibration.kinds import set_colours
from lib.comparison.tables import int8_name

MARKERS = "osD^v<>PX*"
ABSENT = "not in the grid"
FAILED = "failed"


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

    `pooled` are rows of `lib.comparison.tables.versus_real` of all models; `value`, `low` and
    `high` name its columns, whose numbers stand at the right, or that every cell failed, or that a
    set is not in the grid. `margin` shades the zone of equivalence; the axis
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
        part = _of_way(pooled, way).drop_duplicates("calibration_set").set_index("calibration_set")
        offset = (number - (len(ways) - 1) / 2) * 0.8 / max(len(ways), 2)
        places = np.array([sets.index(name) for name in part.index]) + offset
        _points(axis, part[[value, low, high]].to_numpy(float), places, way, number)
        for place in [sets.index(name) + offset for name in sets if name not in part.index]:
            _beside(axis, ABSENT, place, "0.6")
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
        interval = f"{row[0]:+.2f}  ({row[1]:+.2f} to {row[2]:+.2f})"
        _beside(axis, "not compared" if np.isnan(row[0]) else interval, place, colour)


def _beside(axis: Axes, text: str, place: float, colour: str) -> None:
    """Write at the right of the axis, at the height `place`."""
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


def _of_way(table: pd.DataFrame, way: tuple) -> pd.DataFrame:
    return table[(table["engine"] == way[0]) & (table["method"] == way[1])]


def loss_heatmap(degradation: pd.DataFrame, title: str) -> Figure:
    """Draw the loss of accuracy of `lib.comparison.tables.degradation_table`, networks x sets.

    Colours grow linearly up to a loss of 1 point and logarithmically beyond. A cell whose seeds
    all failed says so; those that are not in the grid are grey.
    """
    keys = ["engine", "method", "model"]
    rows = degradation.groupby([*keys, "calibration_set"], sort=False)["drop_pp"].mean()
    wide = rows.unstack().reindex(columns=degradation["calibration_set"].unique())
    wide = wide.reindex(pd.MultiIndex.from_frame(degradation[keys].drop_duplicates()))
    figure, axis = plt.subplots(
        figsize=(1.0 * wide.shape[1] + 4.4, 0.42 * len(wide) + 1.6), layout="constrained"
    )
    names = [f"{model} ({engine}, {method})" for engine, method, model in wide.index]
    axis.set_facecolor("0.88")
    most = np.nanmax([1, *rows.abs()])
    bar = {"label": "percentage points; grey: not in the grid", "format": "%g"}
    sns.heatmap(
        wide,
        ax=axis,
        yticklabels=names,
        annot=True,
        fmt=".2f",
        cmap="vlag",
        norm=SymLogNorm(1, linscale=2, vmin=-most, vmax=most),
        cbar_kws=bar | {"ticks": [s * t for t in (0, 1, 10, 100) for s in (-1, 1) if t <= most]},
    )
    for key in rows[rows.isna()].index:
        place = (wide.columns.get_loc(key[3]) + 0.5, wide.index.get_loc(key[:3]) + 0.5)
        axis.text(*place, FAILED, ha="center", va="center", fontsize="small", color="tab:red")
    axis.set(title=title, xlabel="calibration set", ylabel="network")
    axis.tick_params(axis="y", rotation=0)
    plt.close(figure)
    return figure


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
    colours = set_colours(joined["calibration_set"])
    markers = dict(zip(colours, MARKERS * len(colours), strict=False))
    columns = len(ways) if len(ways) <= 3 else 2
    figure, axes = _panels(len(ways), columns, (4.6, 3.6), sharex=True, sharey=True)
    for axis, (way, part) in zip(axes, ways, strict=False):
        for name, x, y in part[["calibration_set", "fid", "disagreement_pp"]].itertuples(False):
            axis.plot(x, y, markers[name], color=colours[name], ms=7, alpha=0.85)
        axis.set_xscale("symlog", linthresh=0.1)
        _from_least(axis, joined["disagreement_pp"])
        axis.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axis.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axis.set_title(int8_name(*way))
        axis.grid(alpha=0.3)
    points = [Line2D([], [], ls="", marker=markers[n], color=c) for n, c in colours.items()]
    figure.legend(points, list(colours), loc="outside right center", title="calibration set")
    figure.supxlabel(x_label, fontsize="medium")
    figure.supylabel("images on which INT8 and FP32 differ (%)", fontsize="medium")
    figure.suptitle(title)
    plt.close(figure)
    return figure


def _from_least(axis: Axes, values: pd.Series) -> None:
    """Scale the y axis logarithmically over `values`, linearly below 0.1 where one is smaller."""
    low, high = values.min(), max(values.max(), 0.1)
    if low < 0.1:
        axis.set_yscale("symlog", linthresh=0.1)
        axis.set_ylim(-0.02, 2 * high)
    else:
        axis.set_yscale("log")
        axis.set_ylim(low / 2, 2 * high)


SOURCES = {"image_se_pp": "test images (standard error)", "seed_std_pp": "seeds (deviation)"}
ONE_SEED = "only one seed, so its deviation is unknown"


def uncertainty_bars(pooled: pd.DataFrame, title: str) -> Figure:
    """Draw what test images and what seeds leave open of each set's difference to real images.

    A panel a way to quantize, two bars a set; a cross stands where there is one seed alone.
    """
    ways = list(pooled.groupby(["engine", "method"], sort=False))
    sets = list(dict.fromkeys(pooled["calibration_set"]))
    columns = len(ways) if len(ways) <= 3 else 2
    figure, axes = _panels(len(ways), columns, (4.2, 0.42 * len(sets) + 0.8), sharey=True)
    for axis, (way, part) in zip(axes, ways, strict=False):
        part = part.drop_duplicates("calibration_set").set_index("calibration_set")
        _two_bars(axis, part, sets)
        axis.set(title=int8_name(*way), xlabel="percentage points")
        axis.set_yticks(range(len(sets)), sets)
        axis.set_ylim(len(sets) - 0.5, -0.5)
        axis.xaxis.set_major_locator(MaxNLocator(5))
        axis.grid(axis="x", alpha=0.3)
    pairs = [zip(*axis.get_legend_handles_labels(), strict=True) for axis in axes]
    found = {label: handle for pair in pairs for handle, label in pair}
    figure.legend(found.values(), found.keys(), loc="outside lower center", ncols=3)
    figure.supylabel("calibration set", fontsize="medium")
    figure.suptitle(title)
    plt.close(figure)
    return figure


def _two_bars(axis: Axes, part: pd.DataFrame, sets: list[str]) -> None:
    """Draw one panel of `uncertainty_bars`; `part` holds its rows by calibration set."""
    ends = [0.01, *part[list(SOURCES)].max()]
    right = 1.08 * np.nanmax(ends)
    done = part[part["image_se_pp"].notna()]
    places = np.array([sets.index(name) for name in done.index])
    for (column, label), offset, shade in zip(SOURCES.items(), (-0.2, 0.2), "kc", strict=True):
        look = {"height": 0.36, "color": shade, "edgecolor": shade, "alpha": 0.65, "label": label}
        axis.barh(places + offset, done[column].fillna(0), **look)
    alone = places[done["seed_std_pp"].isna().to_numpy()]
    if len(alone):
        axis.plot(np.full(len(alone), 0.03 * right), alone + 0.2, "rx", ms=5, label=ONE_SEED)
    for place, name in enumerate(sets):
        if name not in done.index:
            text = FAILED if name in part.index else ABSENT
            axis.text(0.02 * right, place, text, va="center", fontsize="small", color="0.5")
    axis.set_xlim(0, right)


def _panels(
    number: int, columns: int, size: tuple[float, float], **shared: bool
) -> tuple[Figure, list[Axes]]:
    """Return a figure and its panels, `size` inches each, `columns` in a row; spare ones hidden."""
    columns = max(columns, 1)
    rows = max(-(-number // columns), 1)
    figsize = (columns * size[0] + 1.6, rows * size[1] + 0.9)
    figure, axes = plt.subplots(
        rows, columns, figsize=figsize, squeeze=False, layout="constrained", **shared
    )
    for axis in axes.ravel()[number:]:
        axis.set_visible(False)
    return figure, list(axes.ravel()[:number])
