"""How the study draws: charts, image grids, tables, animations, captions."""

import lazy_loader

EXPORTS = {
    "animation": ["training_frames", "write_gif"],
    "captions": ["describe"],
    "charts": [
        "bars",
        "confusion_matrices",
        "curves",
        "feature_scatter",
        "heatmap",
        "interval_panels",
        "panels",
    ],
    "images": ["class_comparison", "class_grid", "coloured_map", "image_rows"],
    "tables": ["escaped", "show"],
}
__getattr__, __dir__, __all__ = lazy_loader.attach(__name__, submod_attrs=EXPORTS)
