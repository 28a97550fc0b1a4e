"""Pictures of images beside each other. Pixels are shown as they are, never stretched."""

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from lib.data.samples import SampleSet
from lib.figures.charts import class_legend, colours, panels

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
    size = (inches * columns * len(blocks) + 1.4, (inches + 0.02) * len(names) + 0.8)
    figure, axes = panels(len(blocks), size, title)
    for axis, (name, rows) in zip(axes, blocks.items(), strict=True):
        canvas = np.concatenate([tile(row, columns) for row in rows])
        axis.imshow(canvas, vmin=0, vmax=255, interpolation="nearest")
        axis.set_title(name, fontsize="medium")
        axis.set(xticks=[], yticks=[])
        axis.spines[:].set_visible(False)
    height = len(canvas) / len(names)
    axes[0].set_yticks([height * (row + 0.5) for row in range(len(names))], names)
    axes[0].tick_params(axis="y", length=0)
    return figure


def tile(images: np.ndarray, columns: int) -> np.ndarray:
    """Lay images `(n, 3, h, w) uint8` side by side on white; returns `(h + 2, width, 3) uint8`."""
    height, width = images.shape[2:]
    canvas = np.full((height + GAP, columns * (width + GAP), 3), 255, np.uint8)
    for index, image in enumerate(images):
        left = index * (width + GAP)
        canvas[:height, left : left + width] = image.transpose(1, 2, 0)
    return canvas


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
        framed = canvas[top : top + height - GAP, left : left + width - GAP]
        framed[:] = colour
        framed[BORDER:-BORDER, BORDER:-BORDER] = image.transpose(1, 2, 0)
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
    borders = (255 * colours(len(names))[groups]).astype(np.uint8)
    canvas = image_map(images, cells, shape, borders)
    height, width = canvas.shape[0] / 95, canvas.shape[1] / 95
    figure, (axis,) = panels(1, (max(width, 2.5) + 1.3, max(height, 2.0) + 0.5), title)
    axis.imshow(canvas, vmin=0, vmax=255, interpolation="nearest")
    axis.axis("off")
    class_legend(figure, names, legend, "s")
    return figure
