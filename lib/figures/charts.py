"""The study's figures. Each function returns a matplotlib figure with title and labelled axes."""

from collections.abc import Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullLocator

from lib.data.samples import SampleSet

WIDE_LABELS = 45  # letters on a horizontal axis beyond which its labels are slanted


def class_grid(samples: SampleSet, title: str, columns: int = 10) -> Figure:
    """Draw one row a class with its first `columns` images, as they are (no stretching)."""
    names = samples.class_names
    rows = [samples.images[samples.labels == label][:columns] for label in range(len(names))]
    return image_rows(rows, names, title)


def image_rows(rows: Sequence[np.ndarray], names: Sequence[str], title: str) -> Figure:
    """Draw rows of images `(n, 3, h, w) uint8`, each row with its name at the left."""
    columns = max(len(row) for row in rows)
    figure, axes = plt.subplots(
        len(rows),
        1,
        figsize=(0.62 * columns + 1.2, 0.62 * len(rows) + 0.5),
        squeeze=False,
        layout="constrained",
    )
    for axis, row, name in zip(axes[:, 0], rows, names, strict=True):
        axis.imshow(tile(row, columns), vmin=0, vmax=255, interpolation="nearest")
        axis.set_yticks([])
        axis.set_xticks([])
        axis.set_ylabel(name, rotation=0, ha="right", va="center")
        axis.spines[:].set_visible(False)
    figure.suptitle(title)
    plt.close(figure)
    return figure


def tile(images: np.ndarray, columns: int, gap: int = 2) -> np.ndarray:
    """Lay images `(n, 3, h, w) uint8` side by side on white; returns `(h, width, 3) uint8`."""
    height, width = images.shape[2:]
    canvas = np.full((height, columns * (width + gap) - gap, 3), 255, np.uint8)
    for index, image in enumerate(images):
        left = index * (width + gap)
        canvas[:, left : left + width] = image.transpose(1, 2, 0)
    return canvas


def loss_curves(
    log: pd.DataFrame, x: str, columns: dict[str, Sequence[str]], title: str, x_label: str
) -> Figure:
    """Draw training curves: one panel a key of `columns`, its name the y axis' label."""
    figure, axes = plt.subplots(
        1, len(columns), figsize=(4.6 * len(columns), 3.4), squeeze=False, layout="constrained"
    )
    for axis, (label, names) in zip(axes[0], columns.items(), strict=True):
        for name in names:
            axis.plot(log[x], log[name], label=name)
        axis.set(xlabel=x_label, ylabel=label)
        axis.legend()
        axis.grid(alpha=0.3)
    figure.suptitle(title)
    plt.close(figure)
    return figure


def bars(
    table: pd.DataFrame,
    x: str,
    y: str,
    title: str,
    x_label: str,
    y_label: str,
    hue: str | None = None,
    linear_within: float | None = None,
) -> Figure:
    """Draw a bar chart of a tidy table.

    With `linear_within` the y axis is linear up to ± that value and logarithmic beyond.
    """
    figure, axis = plt.subplots(figsize=(8, 3.6), layout="constrained")
    sns.barplot(table, x=x, y=y, hue=hue, ax=axis, errorbar=None)
    axis.set(title=title, xlabel=x_label, ylabel=y_label)
    axis.grid(axis="y", alpha=0.3)
    if linear_within is not None:
        axis.axhline(0, color="black", lw=0.8)
        _linear_within(axis, linear_within, "y")
    if sum(len(str(name)) for name in table[x].unique()) > WIDE_LABELS:
        axis.tick_params(axis="x", rotation=30)
    if hue is not None:
        sns.move_legend(axis, "upper left", bbox_to_anchor=(1.01, 1), frameon=False)
    plt.close(figure)
    return figure


def confusion_matrices(
    pairs: dict[str, tuple[np.ndarray, np.ndarray]], names: Sequence[str]
) -> Figure:
    """Draw wanted against predicted labels, a panel each; `pairs` maps a title to both arrays."""
    figure, axes = plt.subplots(
        1, len(pairs), figsize=(4.4 * len(pairs), 4.4), squeeze=False, layout="constrained"
    )
    for axis, (title, (wanted, predicted)) in zip(axes[0], pairs.items(), strict=True):
        _confusion(axis, wanted, predicted, names)
        axis.set(title=f"{title}: {np.mean(wanted == predicted):.1%} as wanted")
    figure.suptitle("Which class the evaluator sees (% of the wanted class)")
    plt.close(figure)
    return figure


def _confusion(axis: Axes, wanted: np.ndarray, predicted: np.ndarray, names) -> None:
    counts = np.zeros((len(names), len(names)))
    np.add.at(counts, (wanted, predicted), 1)
    share = 100 * counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    sns.heatmap(
        share,
        ax=axis,
        annot=np.where(share >= 0.5, np.round(share).astype(int).astype(str), ""),
        fmt="",
        cmap="Blues",
        vmin=0,
        vmax=100,
        cbar=False,
        xticklabels=names,
        yticklabels=names,
        square=True,
    )
    axis.set(xlabel="predicted class", ylabel="wanted class")
    axis.tick_params(axis="y", rotation=0)


def intervals(
    table: pd.DataFrame,
    *,
    row: str,
    panel: str,
    value: str,
    low: str,
    high: str,
    title: str,
    x_label: str,
    margin: float | None = None,
) -> Figure:
    """Draw point estimates with their intervals, one panel a value of `panel`.

    `margin` shades the zone of equivalence, ± that many units around zero; the axis is linear
    within it and logarithmic beyond, so that small and large differences can both be read.
    """
    panels = list(dict.fromkeys(table[panel]))
    rows = list(dict.fromkeys(table[row]))
    figure, axes = plt.subplots(
        1,
        len(panels),
        figsize=(max(4.2 * len(panels), 6), 0.45 * len(rows) + 1.5),
        sharex=margin is not None,
        sharey=True,
        squeeze=False,
        layout="constrained",
    )
    for axis, name in zip(axes[0], panels, strict=True):
        part = table[table[panel] == name].set_index(row).reindex(rows)
        error = [part[value] - part[low], part[high] - part[value]]
        axis.errorbar(part[value], range(len(rows)), xerr=error, fmt="o", capsize=3)
        axis.axvline(0, color="black", lw=0.8)
        if margin is not None:
            zone = f"margin of equivalence, ±{margin:g}"
            axis.axvspan(-margin, margin, color="tab:green", alpha=0.12, lw=0, label=zone)
            _linear_within(axis, margin, "x")
        else:
            axis.xaxis.set_major_locator(MaxNLocator(5))
        for y, number in enumerate(part[value]):
            if not np.isfinite(number):  # a row that this panel lacks
                continue
            axis.annotate(
                f"{number:+.2f}", (number, y), (0, 6), textcoords="offset points", ha="center"
            )
        axis.set(title=str(name).replace("_", "-"), xlabel=x_label, xmargin=0.1)
        axis.set_yticks(range(len(rows)), rows)
        axis.grid(axis="x", alpha=0.3)
    axes[0, 0].set_ylim(len(rows) - 0.5, -0.7)
    if margin is not None:
        handles, labels = axes[0, 0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", fontsize="small")
    figure.suptitle(title)
    plt.close(figure)
    return figure


def _linear_within(axis: Axes, bound: float, name: str) -> None:
    """Scale axis "x" or "y" linearly up to ±`bound`, logarithmically beyond, with plain ticks."""
    scaled, set_scale = {
        "x": (axis.xaxis, axis.set_xscale),
        "y": (axis.yaxis, axis.set_yscale),
    }[name]
    set_scale("symlog", linthresh=bound)
    ticks = [0, *(sign * bound * factor for factor in (1, 10, 100) for sign in (-1, 1))]
    scaled.set_major_locator(FixedLocator(ticks))
    scaled.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    scaled.set_minor_locator(NullLocator())


def heatmap(
    table: pd.DataFrame,
    title: str,
    x_label: str,
    y_label: str,
    unit: str,
    *,
    center: float | None = 0,
    limits: tuple[float | None, float | None] = (None, None),
    cell: tuple[float, float] = (1.1, 0.5),
) -> Figure:
    """Draw a table of numbers as a heat map; `unit` labels the colours.

    Colours part at `center`, or grow in one direction where that is None, and span `limits`;
    `cell` is the width and height of a cell in inches.
    """
    figure, axis = plt.subplots(
        figsize=(cell[0] * table.shape[1] + 3, cell[1] * table.shape[0] + 1.6), layout="constrained"
    )
    sns.heatmap(
        table,
        ax=axis,
        annot=True,
        fmt=".2f",
        annot_kws={"size": "small"} if cell[0] < 1 else None,
        cmap="vlag" if center is not None else "rocket_r",
        center=center,
        vmin=limits[0],
        vmax=limits[1],
        cbar_kws={"label": unit},
    )
    axis.set(title=title, xlabel=x_label, ylabel=y_label)
    axis.tick_params(axis="y", rotation=0)
    plt.close(figure)
    return figure
