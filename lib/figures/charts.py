"""The study's charts. Each function returns a matplotlib figure with title and labelled axes."""

from collections.abc import Sequence
from textwrap import fill

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from lib.figures.style import shortened

WIDE_LABELS = 45  # letters on a horizontal axis beyond which its labels are slanted
LEGEND_ROWS = 25


def panels(n: int, size: tuple[float, float], title: str = "", **options) -> tuple[Figure, list]:
    """Return a figure of `size` inches with `n` axes side by side, and these axes."""
    figure, axes = plt.subplots(1, n, figsize=size, squeeze=False, layout="constrained", **options)
    plt.close(figure)  # notebooks would show it once more
    if title:
        figure.suptitle(title)
    return figure, list(axes[0])


def curves(
    table: pd.DataFrame,
    x: str,
    columns: dict[str, Sequence[str]],
    title: str,
    x_label: str,
    marker: str = "",
    levels: dict[str, tuple[float, str]] | None = None,
) -> Figure:
    """Draw columns of a table against `x`, one panel a key of `columns`, its name the y label.

    Where there are `<column>_low` and `<column>_high`, bars reach from one to the other. Rows
    without a value are passed over. `levels` gives panels a dashed line at a height, and its text.
    """
    figure, axes = panels(len(columns), (4.6 * len(columns), 3.5), title)
    for axis, (label, names) in zip(axes, columns.items(), strict=True):
        for name in names:
            ends, error = [f"{name}_low", f"{name}_high"], None
            if set(ends) <= set(table):
                error = np.abs(table[ends].to_numpy().T - table[name].to_numpy())
                error = error[:, table[name].notna()]
            style = {"marker": marker, "capsize": 3, "label": name.replace("_", " ")}
            known = table[table[name].notna()]
            axis.errorbar(known[x], known[name], yerr=error, **style)
        if label in (levels or {}):
            height, text = levels[label]
            axis.axhline(height, color="grey", linestyle="--", linewidth=1)
            axis.text(
                0.98,
                height,
                text,
                ha="right",
                va="bottom",
                color="grey",
                fontsize="small",
                transform=axis.get_yaxis_transform(),
            )
        axis.set(xlabel=x_label, ylabel=label)
        if len(names) > 1:
            axis.legend()
        axis.grid(alpha=0.3)
    return figure


def bars(
    table: pd.DataFrame,
    x: str,
    y: str,
    title: str,
    x_label: str,
    y_label: str,
    hue: str | None = None,
    limit: float = np.inf,
) -> Figure:
    """Draw a bar chart of a tidy table; bars beyond ±`limit` are cut off and labelled."""
    figure, (axis,) = panels(1, (8, 3.6))
    sns.barplot(table, x=x, y=y, hue=hue, ax=axis, errorbar=None)
    axis.set(title=title, xlabel=x_label, ylabel=y_label)
    axis.grid(axis="y", alpha=0.3)
    heights = [bar.get_height() for bar in axis.patches]
    if np.nanmax(np.abs(heights)) > limit:
        ends = np.clip(heights, -limit, limit)
        axis.set_ylim(1.05 * min(np.nanmin(ends), 0), 1.05 * max(np.nanmax(ends), 0))
        for bar in axis.patches:
            if abs(height := bar.get_height()) > limit:
                place = (bar.get_center()[0], np.copysign(0.95 * limit, height))
                axis.annotate(f"{height:.0f}", place, ha="center", va="center", color="white")
    names = [shortened(label.get_text()) for label in axis.get_xticklabels()]
    axis.set_xticks(axis.get_xticks(), names)
    if sum(map(len, names)) > WIDE_LABELS:
        axis.tick_params(axis="x", rotation=30)
    if hue is not None:
        sns.move_legend(axis, "upper left", bbox_to_anchor=(1.01, 1), frameon=False)
    return figure


def confusion_matrices(
    pairs: dict[str, tuple[np.ndarray, np.ndarray]], names: Sequence[str]
) -> Figure:
    """Draw wanted against predicted labels, a panel each; `pairs` maps a title to both arrays."""
    title = "Which class the evaluator sees (% of the wanted class)"
    figure, axes = panels(len(pairs), (4.4 * len(pairs), 4.4), title)
    for axis, (name, (wanted, predicted)) in zip(axes, pairs.items(), strict=True):
        counts = np.zeros((len(names), len(names)))
        np.add.at(counts, (wanted, predicted), 1)
        share = 100 * counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
        texts = np.where(share >= 0.5, np.round(share).astype(int).astype(str), "")
        look = {"cmap": "Blues", "vmin": 0, "vmax": 100, "cbar": False, "square": True}
        short = [shortened(text) for text in names]
        look |= {"xticklabels": short, "yticklabels": short}
        sns.heatmap(share, ax=axis, annot=texts, fmt="", **look)
        axis.set(title=f"{name}: {np.mean(wanted == predicted):.1%} as wanted")
        axis.set(xlabel="predicted class", ylabel="wanted class")
        axis.tick_params(axis="y", rotation=0)
    return figure


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
    `cell` is the width and height of a cell in inches; narrow ones hold no numbers.
    """
    rows, columns = table.shape
    width = cell[0] * columns + 3
    figure, (axis,) = panels(1, (width, cell[1] * rows + 1.6))
    look = {"cmap": "vlag" if center is not None else "rocket_r", "cbar_kws": {"label": unit}}
    look |= {"center": center, "vmin": limits[0], "vmax": limits[1]}
    numbers = {"annot_kws": {"size": "small"} if cell[0] < 1 else None, "fmt": ".2f"}
    sns.heatmap(table, ax=axis, annot=cell[0] > 0.4, **numbers, **look)
    figure.suptitle(fill(title, round(11 * width)))
    axis.set(xlabel=x_label, ylabel=y_label)
    axis.tick_params(axis="y", rotation=0)
    return figure


def interval_panels(table: pd.DataFrame, row: str, columns: dict[str, str], title: str) -> Figure:
    """Draw columns of a table with their intervals, one panel a column and one line a row.

    `columns` maps columns, beside which are `<column>_low` and `_high`, to the panels' labels.
    Columns without any number are left out.
    """
    shown = {name: text for name, text in columns.items() if table[name].notna().any()}
    palette, places = colours(len(table)), np.arange(len(table))
    size = (2.5 * len(shown) + 1, 0.5 * len(table) + 1.4)
    figure, axes = panels(len(shown), size, title, sharey=True)
    for axis, (name, text) in zip(axes, shown.items(), strict=True):
        axis.axvline(0, color="0.6", lw=0.8)
        axis.hlines(places, table[f"{name}_low"], table[f"{name}_high"], colors=palette, lw=2)
        axis.scatter(table[name], places, c=palette, zorder=3)
        axis.set(xlabel=text, yticks=places, yticklabels=table[row], ylim=(len(table) - 0.5, -0.5))
        axis.grid(axis="x", alpha=0.3)
    return figure


def feature_scatter(
    positions: np.ndarray, sources: np.ndarray, labels: np.ndarray, names: Sequence[str], title: str
) -> Figure:
    """Draw positions `(n, 2)`, one panel a source `(n,)`, coloured by class `labels (n,)`.

    The other sources' points are grey in each panel.
    """
    palette, shown = colours(len(names)), list(dict.fromkeys(sources))
    size = (4.2 * len(shown) + 1, 4.4)
    figure, axes = panels(len(shown), size, title, sharex=True, sharey=True)
    for axis, source in zip(axes, shown, strict=True):
        own = sources == source
        axis.scatter(*positions[~own].T, s=6, color="0.85", lw=0)
        axis.scatter(*positions[own].T, s=14, color=palette[labels[own]], lw=0)
        axis.set(title=f"{source} (n = {own.sum()})", xlabel="t-SNE 1 (no unit)")
    axes[0].set_ylabel("t-SNE 2 (no unit)")
    axes[0].invert_yaxis()  # as in the image grid, whose first row is at the top
    class_legend(figure, names, "class", "o")
    return figure


def colours(n: int) -> np.ndarray:
    """Return n colours `(n, 3)` in [0, 1] that are told apart as well as n allows."""
    return np.array(sns.color_palette("tab10" if n <= 10 else "husl", n))


def class_legend(figure: Figure, names: Sequence[str], title: str, marker: str) -> None:
    """Say beside a figure which of `colours` stands for which name."""
    handles = [
        Line2D([], [], marker=marker, ls="", color=colour, label=shortened(name))
        for colour, name in zip(colours(len(names)), names, strict=True)
    ]
    place = {"loc": "outside right upper", "ncols": -(-len(handles) // LEGEND_ROWS)}
    figure.legend(handles=handles, title=title, frameon=False, **place)
