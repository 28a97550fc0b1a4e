"""Figures of notebooks 06 and A2: linear axes, every network a dot, one colour a set."""

from collections.abc import Sequence
from textwrap import fill

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from pandas.api.types import is_numeric_dtype

from lib.calibration.kinds import KINDS, SPOILT, TRAINED, TRUNCATED
from lib.classifiers.names import network_name
from lib.comparison.answer import usual_size
from lib.comparison.models import REAL, is_control, set_name
from lib.comparison.service import FAILS, OPEN, REFERENCE, SERVES
from lib.figures.style import shortened

FAR = 10  # margins: sets with a network farther off have a panel of their own, as have controls
ACROSS = 3  # panels side by side
POINTS = "agreement with FP32, less that with real images (points)"
DOSES = {TRAINED: lambda dose: f"{float(f'{100 * dose:.2g}'):g} %", TRUNCATED: "psi {:g}".format}
LOOKS = {SERVES: {"marker": "o"}, OPEN: {"marker": "o", "mfc": "white"}, FAILS: {"marker": "X"}}


def ranked_figure(services: pd.DataFrame, order: pd.DataFrame) -> Figure:
    """Draw each set's differences to real images: a row a set, best first, a mark a network.

    `services` are rows of `service_table` for one way to quantize, `order` those of `answers`.
    Marks say what was decided; the worst network is named. Controls, and sets with a network
    `FAR` off, stand in a panel with an axis of its own.
    """
    usual, order = usual_size(order), order[order["worst"].notna()]
    margin = services["stated_pp"].iloc[0]
    control = order["calibration_set"].map(is_control)
    far = control | (order["difference_pp"] < -FAR * margin)
    parts = [part for part in (order[~far], order[far]) if len(part)]
    ratios = [len(part) + 1 for part in parts]
    size, look = (8.6, 2 + 0.36 * sum(ratios)), {"height_ratios": ratios, "layout": "constrained"}
    figure, axes = plt.subplots(len(parts), 1, squeeze=False, figsize=size, **look)
    for axis, part in zip(axes[:, 0], parts, strict=True):
        axis.axvspan(-margin, margin, color="grey", alpha=0.15, lw=0)
        axis.axvline(0, color="black", lw=0.8)
        for y, row in enumerate(part.itertuples()):
            _row(axis, y, services, row)
        names = zip(part["calibration_set"], part["calibration_size"], strict=True)
        axis.set_yticks(range(len(part)), [set_name(*name, usual) for name in names])
        axis.set(ylim=(len(part) - 0.5, -0.7), xmargin=0.12)
        axis.grid(axis="x", alpha=0.3)
    axes[-1, 0].set_xlabel(POINTS)
    marks = [
        Line2D([], [], ls="", color="black", label=name, **look) for name, look in LOOKS.items()
    ]
    figure.legend(handles=marks, loc="outside lower center", ncols=3, frameon=False)
    served, spared = order["served"] == order["networks"], (order["failed"] == 0) & ~control
    title = f"These serve every network: {_names(order[served], usual)}"
    if not served.any():
        title = "No set is sure to serve every network"
        title += f"; these fail none: {_names(order[spared], usual)}" * bool(spared.any())
    figure.suptitle(fill(title, 80))
    plt.close(figure)
    return figure


def _names(rows: pd.DataFrame, usual: int) -> str:
    names = zip(rows["calibration_set"], rows["calibration_size"], strict=True)
    return ", ".join(set_name(*name, usual) for name in names)


def _row(axis: Axes, y: int, services: pd.DataFrame, row: tuple) -> None:
    same = services["calibration_set"] == row.calibration_set
    own = services[same & (services["calibration_size"] == row.calibration_size)]
    colour = KINDS[row.calibration_set].colour
    for answer, look in LOOKS.items():
        some = own[own["answer"] == answer]
        axis.plot(some["difference_pp"], np.full(len(some), y), ls="", color=colour, **look)
    place = {"xytext": (0, 7), "textcoords": "offset points", "ha": "center", "size": "x-small"}
    axis.annotate(shortened(network_name(row.worst)), (row.difference_pp, y), **place)


def panel_figure(
    table: pd.DataFrame,
    title: str,
    *,
    x: str,
    y: str = "agreement",
    x_label: str,
    y_label: str = "agreement with FP32 (%)",
    panel: str = "model",
    order: Sequence[str] | None = None,
) -> Figure:
    """Draw a line for each calibration set against `x`, one panel for each value of `panel`.

    `x` holds texts, drawn in their `order` or that of the table, the panels of a row on one y axis;
    or numbers, drawn as dots, each panel on an axis of its own.
    """
    dots = is_numeric_dtype(table[x])
    places, groups = list(order or dict.fromkeys(table[x])), list(table.groupby(panel, sort=False))
    across = min(ACROSS, len(groups))
    down = -(-len(groups) // across)
    look = {"figsize": (3.4 * across + 2.2, 2.6 * down + 0.8), "layout": "constrained"}
    figure, axes = plt.subplots(
        down, across, squeeze=False, sharey=False if dots else "row", **look
    )
    for axis in axes.flat[len(groups) :]:
        axis.remove()
    for axis, (name, part) in zip(axes.flat, groups, strict=False):
        for kind, own in part.groupby("calibration_set", sort=False):
            at, look = (own[x], "o") if dots else (own[x].map(places.index), "o-")
            axis.plot(at, own[y], look, ms=3.5, lw=1, color=KINDS[kind].colour)
        if not dots:
            axis.set_xticks(range(len(places)), places)
        axis.set_title(shortened(network_name(str(name))), fontsize="medium")
        axis.grid(axis="y", alpha=0.3)
    figure.supxlabel(x_label)
    figure.supylabel(y_label)
    kinds = [KINDS[name] for name in dict.fromkeys(table["calibration_set"])]
    lines = [Line2D([], [], marker="o", color=kind.colour, label=kind.title) for kind in kinds]
    figure.legend(handles=lines, loc="outside right upper", frameon=False)
    figure.suptitle(fill(title, 80))
    plt.close(figure)
    return figure


def dose_figure(services: pd.DataFrame) -> Figure | None:
    """Draw the differences to real images against the dose, a panel a series, a line a network.

    `services` are rows of `service_table` for one way to quantize. Numbers of real images are
    doses, too. None: there are no doses.
    """
    parts = _doses(services)
    if not parts:
        return None
    across = min(2, len(parts))
    down = -(-len(parts) // across)
    size = (4.4 * across + 1.6, 3.2 * down + 0.6)
    figure, axes = plt.subplots(down, across, squeeze=False, figsize=size, layout="constrained")
    for axis in axes.flat[len(parts) :]:
        axis.remove()
    models = list(dict.fromkeys(services["model"]))
    colours = {model: plt.cm.tab10(number % 10) for number, model in enumerate(models)}
    for axis, (name, (part, texts)) in zip(axes.flat, parts.items(), strict=False):
        for model, own in part.groupby("model", sort=False):
            line = own.set_index("dose")["difference_pp"].reindex(range(len(texts)))
            axis.plot(range(len(texts)), line, "o-", ms=3.5, lw=1, color=colours[model])
        axis.set_xticks(range(len(texts)), texts)
        axis.tick_params(axis="x", rotation=20 if name == SPOILT else 0)
        axis.axhline(0, color="black", lw=0.8)
        axis.set_title(name, fontsize="medium")
        axis.grid(axis="y", alpha=0.3)
    figure.supylabel(fill(POINTS, 40), fontsize="medium")
    lines = [
        Line2D([], [], marker="o", color=colour, label=shortened(network_name(model)))
        for model, colour in colours.items()
    ]
    figure.legend(handles=lines, loc="outside right center", frameon=False)
    worst = []
    for name, (part, texts) in parts.items():
        if part["difference_pp"].notna().any():
            row = part.loc[part["difference_pp"].idxmin()]
            found = f"{network_name(row['model'])} {row['difference_pp']:+.1f} points"
            worst.append(f"{found} ({name}: {texts[row['dose']]})")
    figure.suptitle(
        fill(f"The farthest from real images: {'; '.join(worst)}", 80), fontsize="medium"
    )
    plt.close(figure)
    return figure


def _doses(services: pd.DataFrame) -> dict[str, tuple[pd.DataFrame, list[str]]]:
    """Return by series its rows, with their place among the doses as `dose`, and the doses."""
    usual, parts = usual_size(services), {}
    kinds = services["calibration_set"].map(KINDS.get)
    for name, part in services[services["calibration_size"] == usual].groupby(
        kinds.map(lambda kind: kind.series), sort=False
    ):
        named = dict.fromkeys(part["calibration_set"])
        found = sorted(map(KINDS.get, named), key=lambda kind: kind.dose)
        if name and any(kind.is_dose for kind in found):
            places = {kind.name: number for number, kind in enumerate(found)}
            texts = [k.title if name == SPOILT else DOSES[name](k.dose) for k in found]
            parts[name] = part.assign(dose=part["calibration_set"].map(places)), texts
    real = services[services["calibration_set"] == REAL]
    sizes = sorted(real["calibration_size"].unique())
    if len(sizes) > 1:
        place = real["calibration_size"].map(sizes.index)
        whole = real["difference_pp"].mask(real["answer"] == REFERENCE, 0.0)
        real = real.assign(dose=place, difference_pp=whole)
        parts["number of real images"] = real, [f"{size:,}" for size in sizes]
    return parts
