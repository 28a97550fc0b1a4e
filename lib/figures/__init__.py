"""How the study draws: charts, image grids, tables, animations, captions."""

import lazy_loader

EXPORTS = {
    "animation": ["training_frames", "write_gif"],
    "captions": ["describe"],
    "charts": [
        "bars",
        "class_grid",
        "confusion_matrices",
        "heatmap",
        "image_rows",
        "intervals",
        "loss_curves",
    ],
    "images": [
        "class_comparison",
        "coloured_map",
        "feature_scatter",
        "interval_panels",
        "measured_curves",
    ],
    "tables": ["show"],
}
__getattr__, __dir__, __all__ = lazy_loader.attach(__name__, submod_attrs=EXPORTS)
