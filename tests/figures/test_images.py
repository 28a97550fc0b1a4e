import numpy as np
import pandas as pd

from lib.data.samples import SampleSet
from lib.figures.charts import colours, curves, feature_scatter, interval_panels
from lib.figures.images import BORDER, GAP, class_comparison, coloured_map

SIDE = 32 + 2 * BORDER + GAP


def texts(figure):
    figure.canvas.draw()
    found = [figure.get_suptitle()] + [axis.get_title() for axis in figure.axes]
    found += [label.get_text() for axis in figure.axes for label in axis.get_yticklabels()]
    return found + [text.get_text() for legend in figure.legends for text in legend.get_texts()]


def test_a_map_shows_pixels_as_they_are_within_their_borders():
    images = np.stack([np.full((3, 32, 32), 100, np.uint8), np.full((3, 32, 32), 120, np.uint8)])
    cells, groups = np.array([[0, 1], [1, 0]]), np.array([0, 1])
    figure = coloured_map(images, cells, (2, 2), groups, ["cat", "dog"], "Map", "class")
    canvas = np.asarray(figure.axes[0].images[0].get_array())
    assert canvas.shape == (2 * SIDE - GAP, 2 * SIDE - GAP, 3)
    assert (canvas[BORDER : BORDER + 32, SIDE + BORDER : SIDE + BORDER + 32] == 100).all()
    assert (canvas[SIDE + BORDER : SIDE + BORDER + 32, BORDER : BORDER + 32] == 120).all()
    borders = (255 * colours(2)).astype(np.uint8)
    assert (canvas[0, SIDE] == borders[0]).all() and (canvas[SIDE, 0] == borders[1]).all()
    assert (canvas[0, 0] == 255).all()


def test_pictures_carry_titles_and_names():
    names = ["cat", "dog"]
    images = np.full((8, 3, 32, 32), 7, np.uint8)
    samples = SampleSet(images, np.arange(8) % 2, info={"class_names": names})
    figure = class_comparison({"real": samples, "student": samples}, "Both", columns=3)
    assert {"Both", "real", "student", "cat", "dog"} <= set(texts(figure))
    assert figure.axes[0].images[0].get_clim() == (0, 255)
    cells = np.column_stack(np.divmod(np.arange(8), 4))
    figure = coloured_map(images, cells, (2, 4), samples.labels, names, "Map", "class")
    assert {"Map", "cat", "dog"} <= set(texts(figure))
    sources = np.repeat(["real", "student"], 4)
    figure = feature_scatter(np.zeros((8, 2)), sources, samples.labels, names, "Points")
    assert {"Points", "real (n = 4)", "cat"} <= set(texts(figure))


def test_intervals_and_curves_reach_from_low_to_high():
    table = pd.DataFrame({"set": ["a", "b"], "psi": [0.5, 1.0], "fid": [1.0, 2.0]})
    table = table.assign(fid_low=[0.5, 1.5], fid_high=[3.0, 2.5], kid=np.nan)
    table = table.assign(kid_low=np.nan, kid_high=np.nan)
    figure = interval_panels(table, "set", {"fid": "FID", "kid": "KID"}, "Distances")
    assert [axis.get_xlabel() for axis in figure.axes] == ["FID"]
    ends = [segment[:, 0].tolist() for segment in figure.axes[0].collections[0].get_segments()]
    assert ends == [[0.5, 3.0], [1.5, 2.5]]
    figure = curves(table, "psi", {"FID": ["fid"]}, "Truncation", "psi")
    segments = figure.axes[0].collections[0].get_segments()
    assert [segment[:, 1].tolist() for segment in segments] == ends
