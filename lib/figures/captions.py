"""Caption and alternative text of a figure, which travel with it in the notebook's output."""

from matplotlib.axes import Axes
from matplotlib.figure import Figure


def caption_of(figure: Figure) -> str:
    """Return the figure's title, or that of its first panel which has one; "" without any."""
    titles = [figure.get_suptitle(), *(axis.get_title() for axis in figure.axes)]
    return next((_plain(title) for title in titles if title.strip()), "")


def describe(figure: Figure) -> str:
    """Return one sentence or more on what a figure shows, for those who do not see it."""
    title = caption_of(figure)
    panels = [text for axis in figure.axes if (text := _panel(axis, title))]
    kind = "Pictures" if any(axis.images for axis in figure.axes) else "Chart"
    legends = [*filter(None, (axis.get_legend() for axis in figure.axes)), *figure.legends]
    names = dict.fromkeys(text.get_text() for legend in legends for text in legend.get_texts())
    parts = [f"{kind}: {title}" if title else kind]
    if panels:
        parts.append(("Panels: " if len(panels) > 1 else "") + "; ".join(panels))
    if names:
        parts.append("Legend: " + ", ".join(names))
    return ". ".join(part.rstrip(".") for part in parts) + "."


def _panel(axis: Axes, title: str) -> str:
    """Return a panel's title and the labels of its axes, or the names of its rows of images."""
    own = _plain(axis.get_title())
    labels = (_plain(axis.get_ylabel()), _plain(axis.get_xlabel()))
    what = " against ".join(label for label in labels if label)
    names = ", ".join(_plain(tick.get_text()) for tick in axis.get_yticklabels())
    if axis.images and axis.axison and names:
        what = f"From top to bottom: {names}"
    return ": ".join(part for part in (own if own != title else "", what) if part)


def _plain(text: str) -> str:
    return " ".join(text.split())
