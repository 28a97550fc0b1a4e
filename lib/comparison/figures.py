"""Figures of notebooks 06 and A2: linear axes, every network a dot, one colour a set."""

from textwrap import fill

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from lib.calibration.kinds import KINDS
from lib.comparison.tables import ALL_MODELS
from lib.figures.style import shortened
from lib.quantization.nncf import VARIANTS

FAR = 10  # margins: sets with a network farther off have a panel of their own, as have controls
ACCURACY = ["difference_pp", "low_pp", "high_pp"]
AGREEMENT = ["agreement_pp", "agreement_low_pp", "agreement_high_pp"]


def set_figure(versus: pd.DataFrame, engine: str, method: str, *, agreement: bool = False):
    """Draw the differences to real images: one row per set, best first, one dot per network.

    `versus` is `versus_real` of the results; the line is the mean's interval, the name that of
    the worst network. With `agreement` it is the difference in agreement with FP32. Control sets
    and those with a network `FAR` off stand in a second panel with an axis of its own.
    """
    rows = versus.query("engine == @engine and method == @method and pairs > 0")
    names = {"calibration_set": "set", "model": "model"}
    names |= dict(zip(AGREEMENT if agreement else ACCURACY, ("mean", "low", "high"), strict=True))
    rows = rows[list(names)].rename(columns=names).sort_values("mean", ascending=False)
    means, single = rows[rows["model"] == ALL_MODELS], rows[rows["model"] != ALL_MODELS]
    worst, margin = single.groupby("set")["mean"].min(), versus["margin_pp"].iloc[0]
    control = means["set"].map(lambda name: KINDS[name].control)
    far = control | (means["set"].map(worst) < -FAR * margin)
    panels = [part for part in (means[~far], means[far]) if len(part)] or [means]
    size, ratios = (8.4, 1.4 + 0.7 * len(panels) + 0.45 * len(means)), [len(p) + 1 for p in panels]
    look = {"figsize": size, "height_ratios": ratios, "layout": "constrained"}
    figure, axes = plt.subplots(len(panels), 1, squeeze=False, **look)
    for axis, part in zip(axes[:, 0], panels, strict=True):
        axis.axvspan(-margin, margin, color="grey", alpha=0.15, lw=0)
        _rows(axis, part, single)
    good = ", ".join(name for name in means["set"] if worst[name] >= -margin)
    what = "agreement with FP32" if agreement else "top-1 accuracy"
    loss = f"over {margin:g} points against real images"
    title = f"No network loses {loss} with: {good}" if good else f"Each set costs a network {loss}"
    figure.suptitle(fill(title, 80))
    axes[-1, 0].set_xlabel(
        f"{what[0].upper() + what[1:]}, less that with real images (percentage points)"
    )
    if far.any():
        axes[-1, 0].set_title(f"Controls, and sets more than {FAR * margin:g} points off")
    plt.close(figure)
    return figure


def _rows(axis: Axes, means: pd.DataFrame, single: pd.DataFrame) -> None:
    axis.axvline(0, color="black", lw=0.8)
    for y, row in enumerate(means.itertuples()):
        own = single[single["set"] == row.set]
        error = [[row.mean - row.low], [row.high - row.mean]]
        axis.errorbar(row.mean, y, xerr=error, fmt="|", color="black", capsize=3, ms=11)
        axis.plot(own["mean"], np.full(len(own), y), "o", color=KINDS[row.set].colour, alpha=0.75)
        place = {"xytext": (0, 7), "textcoords": "offset points", "ha": "center"}
        if own["mean"].iloc[-1] < 0:
            axis.annotate(
                shortened(own["model"].iloc[-1]), (own["mean"].iloc[-1], y), size="x-small", **place
            )
    axis.set_yticks(range(len(means)), means["set"])
    axis.set(ylim=(len(means) - 0.5, -0.7), ylabel="calibration set", xmargin=0.1)
    axis.grid(axis="x", alpha=0.3)


def sensitivity_figure(table: pd.DataFrame, title: str, *, by: str = "calibration_size"):
    """Draw agreement with FP32 by number of images or, `by` method, by variant of quantization.

    `table` holds those rows of `sensitivity_table`; a network has a row of panels, controls apart.
    """
    table = table.assign(x=table[by].map("{:,}".format if by != "method" else _variant_name))
    control = table["calibration_set"].map(lambda name: KINDS[name].control)
    columns = [part for part in (table[~control], table[control]) if len(part)]
    models = table["model"].unique()
    figure, axes = plt.subplots(
        len(models),
        len(columns),
        figsize=(5.5 * len(columns) + 1.6, 3.4 * len(models) + 0.6),
        squeeze=False,
        layout="constrained",
    )
    for (row, column), axis in np.ndenumerate(axes):
        part = columns[column]
        _lines(axis, part[part["model"] == models[row]], list(table["x"].unique()))
        axis.set(title=shortened(models[row]), ylabel="agreement with FP32 (%)")
        axis.set_xlabel("images read" if by != "method" else "bits of the activations")
    kinds = [KINDS[name] for name in table["calibration_set"].unique()]
    lines = [Line2D([], [], marker="o", color=kind.colour, label=kind.name) for kind in kinds]
    figure.legend(handles=lines, loc="outside right upper", title="calibration set")
    figure.suptitle(fill(title, 80))
    plt.close(figure)
    return figure


def _variant_name(method: str) -> str:
    variant = VARIANTS[method]
    scale = "" if variant.per_channel_weights else "\none scale a layer"
    return f"{variant.activation_bits}{scale}"


def _lines(axis: Axes, table: pd.DataFrame, places: list[str]) -> None:
    for index, (name, own) in enumerate(table.groupby("calibration_set", sort=False)):
        middle, low, high = own[["agreement", "agreement_low", "agreement_high"]].to_numpy().T
        look = {"color": KINDS[name].colour, "ms": 4, "capsize": 2, "lw": 0.9}
        x = own["x"].map(places.index) + 0.06 * index
        axis.errorbar(x, middle, np.maximum([middle - low, high - middle], 0), fmt="o-", **look)
    axis.set_xticks(range(len(places)), places)
    axis.grid(axis="y", alpha=0.3)
