"""How the study draws: charts, image grids, animations, captions, one colour a calibration set."""

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
}
__getattr__, __dir__, __all__ = lazy_loader.attach(__name__, submod_attrs=EXPORTS)
