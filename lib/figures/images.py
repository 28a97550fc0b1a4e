"""Pictures of sets of images beside each other. Pixels are shown as they are, never stretched."""

from collections.abc import Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from lib.data.samples import SampleSet
from lib.figures.charts import tile

BORDER, GAP = 4, 2  # pixels around an image of a grid, and between two
LEGEND_ROWS = 25


def class_comparison(sets: dict[str, SampleSet], title: str, columns: int = 6) -> Figure:
    """Draw one row a class and one block a set, with the set's first `columns` images of it."""
    names = next(iter(sets.values())).class_names
    figure, axes = plt.subplots(
        1,
        len(sets),
        figsize=(0.52 * columns * len(sets) + 1.4, 0.54 * len(names) + 0.9),
        squeeze=False,
        layout="constrained",
    )
    for axis, (name, samples) in zip(axes[0], sets.items(), strict=True):
        rows = [
            tile(samples.images[samples.labels == label][:columns], columns)
            for label in range(len(names))
        ]
        _show_rows(axis, rows)
        axis.set_title(name, fontsize="medium")
    _name_rows(axes[0, 0], names)
    figure.suptitle(title)
    plt.close(figure)
    return figure


def image_map(
    images: np.ndarray, cells: np.ndarray, shape: tuple[int, int], colours: np.ndarray
) -> np.ndarray:
    """Lay images `(n, 3, h, w) uint8` into `cells (n, 2)` of a grid, each in a coloured border.

    `colours` are `(n, 3) uint8`, `shape` the grid's rows and columns. Returns
    `(height, width, 3) uint8`, white where there is no image.
    """
    height, width = (side + 2 * BORDER + GAP for side in images.shape[2:])
    canvas = np.full((shape[0] * height - GAP, shape[1] * width - GAP, 3), 255, np.uint8)
    for image, (row, column), colour in zip(images, cells, colours, strict=True):
        top, left = row * height, column * width
        canvas[top : top + height - GAP, left : left + width - GAP] = colour
        inner = (slice(top + BORDER, top + height - GAP - BORDER),)
        inner += (slice(left + BORDER, left + width - GAP - BORDER),)
        canvas[inner] = image.transpose(1, 2, 0)
    return canvas


def coloured_map(
    images: np.ndarray,
    cells: np.ndarray,
    shape: tuple[int, int],
    groups: np.ndarray,
    names: Sequence[str],
    title: str,
    legend: str,
) -> Figure:
    """Draw a grid of images whose borders are coloured by `groups (n,)`, indices of `names`."""
    palette = colours(len(names))
    canvas = image_map(images, cells, shape, (255 * palette[groups]).astype(np.uint8))
    height, width = canvas.shape[0] / 95, canvas.shape[1] / 95
    figure, axis = plt.subplots(
        figsize=(max(width, 2.5) + 1.3, max(height, 2.0) + 0.5), layout="constrained"
    )
    axis.imshow(canvas, vmin=0, vmax=255, interpolation="nearest")
    axis.axis("off")
    handles = [
        Line2D([], [], marker="s", ls="", color=colour, label=name)
        for colour, name in zip(palette, names, strict=True)
    ]
    _legend(figure, handles, legend)
    figure.suptitle(title)
    plt.close(figure)
    return figure


def feature_scatter(
    positions: np.ndarray, sources: np.ndarray, labels: np.ndarray, names: Sequence[str], title: str
) -> Figure:
    """Draw positions `(n, 2)`, one panel a source `(n,)`, coloured by class `labels (n,)`.

    The other sources' points are grey in each panel.
    """
    palette, panels = colours(len(names)), list(dict.fromkeys(sources))
    figure, axes = plt.subplots(
        1,
        len(panels),
        figsize=(4.2 * len(panels) + 1, 4.4),
        sharex=True,
        sharey=True,
        squeeze=False,
        layout="constrained",
    )
    for axis, source in zip(axes[0], panels, strict=True):
        own = sources == source
        axis.scatter(*positions[~own].T, s=6, color="0.85", lw=0)
        axis.scatter(*positions[own].T, s=14, color=palette[labels[own]], lw=0)
        axis.set(title=f"{source} (n = {own.sum()})", xlabel="t-SNE 1 (no unit)")
    axes[0, 0].set_ylabel("t-SNE 2 (no unit)")
    axes[0, 0].invert_yaxis()  # as in the image grid, whose first row is at the top
    handles = [
        Line2D([], [], marker="o", ls="", color=colour, label=name)
        for colour, name in zip(palette, names, strict=True)
    ]
    _legend(figure, handles, "class")
    figure.suptitle(title)
    plt.close(figure)
    return figure


def measured_curves(
    table: pd.DataFrame, x: str, panels: dict[str, Sequence[str]], title: str, x_label: str
) -> Figure:
    """Draw columns of a table against `x`, one panel a key; `<column>_low`, `_high` as bars."""
    figure, axes = plt.subplots(
        1, len(panels), figsize=(4.2 * len(panels), 3.6), squeeze=False, layout="constrained"
    )
    for axis, (label, columns) in zip(axes[0], panels.items(), strict=True):
        for column in columns:
            ends = [f"{column}_low", f"{column}_high"]
            error = None
            if set(ends) <= set(table):
                error = np.abs(table[ends].to_numpy().T - table[column].to_numpy())
            name = column.replace("_", " ")
            axis.errorbar(table[x], table[column], yerr=error, marker="o", capsize=3, label=name)
        axis.set(xlabel=x_label, ylabel=label)
        if len(columns) > 1:
            axis.legend()
        axis.grid(alpha=0.3)
    figure.suptitle(title)
    plt.close(figure)
    return figure


def interval_panels(table: pd.DataFrame, row: str, columns: dict[str, str], title: str) -> Figure:
    """Draw columns of a table with their intervals, one panel a column and one line a row.

    `columns` maps columns, beside which are `<column>_low` and `_high`, to the panels' titles.
    Columns without any number are left out.
    """
    shown = {name: text for name, text in columns.items() if table[name].notna().any()}
    palette, places = colours(len(table)), np.arange(len(table))
    figure, axes = plt.subplots(
        1,
        len(shown),
        figsize=(2.5 * len(shown) + 1, 0.5 * len(table) + 1.4),
        sharey=True,
        squeeze=False,
        layout="constrained",
    )
    for axis, (name, text) in zip(axes[0], shown.items(), strict=True):
        low, high = table[f"{name}_low"].to_numpy(), table[f"{name}_high"].to_numpy()
        axis.axvline(0, color="0.6", lw=0.8)
        axis.hlines(places, low, high, colors=palette, lw=2)
        axis.scatter(table[name], places, c=palette, zorder=3)
        axis.set(xlabel=text, yticks=places, yticklabels=table[row], ylim=(len(table) - 0.5, -0.5))
        axis.grid(axis="x", alpha=0.3)
    figure.suptitle(title)
    plt.close(figure)
    return figure


def colours(n: int) -> np.ndarray:
    """Return n colours `(n, 3)` in [0, 1] that are told apart as well as n allows."""
    return np.array(sns.color_palette("tab10" if n <= 10 else "husl", n))


def _show_rows(axis: Axes, rows: list[np.ndarray]) -> None:
    canvas = np.concatenate(
        [np.pad(r, ((0, 2), (0, 0), (0, 0)), constant_values=255) for r in rows]
    )
    axis.imshow(canvas, vmin=0, vmax=255, interpolation="nearest")
    axis.set(xticks=[], yticks=[])
    axis.spines[:].set_visible(False)


def _name_rows(axis: Axes, names: Sequence[str]) -> None:
    height = axis.images[0].get_array().shape[0] / len(names)
    axis.set_yticks([height * (row + 0.5) for row in range(len(names))], names)
    axis.tick_params(axis="y", length=0)


def _legend(figure: Figure, handles: list[Line2D], title: str) -> None:
    columns = -(-len(handles) // LEGEND_ROWS)
    figure.legend(
        handles=handles, title=title, loc="outside right upper", frameon=False, ncols=columns
    )
