"""Pictures of images beside each other. Pixels are shown as they are, never stretched."""

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from lib.data.samples import SampleSet
from lib.figures.charts import class_legend, colours, panels
from lib.figures.style import shortened

BORDER, GAP = 4, 2  # pixels around an image of a map, and between two images


def class_grid(samples: SampleSet, title: str, columns: int = 10) -> Figure:
    """Draw one row a class with its first `columns` images."""
    return image_rows(_by_class(samples, columns), samples.class_names, title)


def image_rows(rows: Sequence[np.ndarray], names: Sequence[str], title: str) -> Figure:
    """Draw rows of images `(n, 3, h, w) uint8`, each row with its name at the left."""
    return _blocks({"": rows}, names, title, 0.62)


def class_comparison(sets: dict[str, SampleSet], title: str, columns: int = 6) -> Figure:
    """Draw one row a class and one block a set, with the set's first `columns` images of it."""
    names = next(iter(sets.values())).class_names
    blocks = {name: _by_class(samples, columns) for name, samples in sets.items()}
    return _blocks(blocks, names, title, 0.52)


def _by_class(samples: SampleSet, columns: int) -> list[np.ndarray]:
    classes = range(len(samples.class_names))
    return [samples.images[samples.labels == label][:columns] for label in classes]


def _blocks(
    blocks: dict[str, Sequence[np.ndarray]], names: Sequence[str], title: str, inches: float
) -> Figure:
    """Draw blocks of rows of images beside each other; an image is `inches` wide."""
    columns = max(len(row) for rows in blocks.values() for row in rows)
    margin = 0.4 + 0.09 * max(len(shortened(name)) for name in names)
    size = (inches * columns * len(blocks) + margin, (inches + 0.02) * len(names) + 0.8)
    figure, axes = panels(len(blocks), size, title)
    for axis, (name, rows) in zip(axes, blocks.items(), strict=True):
        height, width = (side + GAP for side in rows[0].shape[2:])
        canvas = np.full((len(rows) * height, columns * width, 3), 255, np.uint8)
        for row, images in enumerate(rows):
            for column, image in enumerate(images):
                _place(canvas, image, row * height, column * width)
        axis.imshow(canvas, vmin=0, vmax=255, interpolation="nearest")
        axis.set_title(name, fontsize="medium")
        axis.set(xticks=[], yticks=[])
        axis.spines[:].set_visible(False)
    axes[0].set_yticks([height * (row + 0.5) for row in range(len(names))], map(shortened, names))
    axes[0].tick_params(axis="y", length=0)
    return figure


def coloured_map(
    images: np.ndarray,
    cells: np.ndarray,
    shape: tuple[int, int],
    groups: np.ndarray,
    names: Sequence[str],
    title: str,
    legend: str,
) -> Figure:
    """Draw images `(n, 3, h, w) uint8` in the `cells (n, 2)` of a grid, white where there is none.

    `shape` are the grid's rows and columns. Borders are coloured by `groups (n,)`, indices of
    `names`, which the legend, called `legend`, explains.
    """
    height, width = (side + 2 * BORDER + GAP for side in images.shape[2:])
    canvas = np.full((shape[0] * height - GAP, shape[1] * width - GAP, 3), 255, np.uint8)
    borders = (255 * colours(len(names))[groups]).astype(np.uint8)
    for image, (row, column), colour in zip(images, cells, borders, strict=True):
        top, left = row * height, column * width
        canvas[top : top + height - GAP, left : left + width - GAP] = colour
        _place(canvas, image, top + BORDER, left + BORDER)
    height, width = canvas.shape[0] / 95, canvas.shape[1] / 95
    figure, (axis,) = panels(1, (max(width, 2.5) + 1.3, max(height, 2.0) + 0.5), title)
    axis.imshow(canvas, vmin=0, vmax=255, interpolation="nearest")
    axis.axis("off")
    class_legend(figure, names, legend, "s")
    return figure


def _place(canvas: np.ndarray, image: np.ndarray, top: int, left: int) -> None:
    _, height, width = image.shape
    canvas[top : top + height, left : left + width] = image.transpose(1, 2, 0)
