"""What quantization can be calibrated with: each kind of set, and what networks see in it."""

import lazy_loader

EXPORTS = {
    "activations": ["activation_distances", "activation_words", "layer_activations"],
    "fractals": ["fractal_images"],
    "kinds": ["KINDS"],
    "photographs": ["photograph_crops"],
    "sets": ["balanced_order", "make_calibration_set"],
    "sources": ["further_samples", "sample_generator"],
    "zeroq": ["can_have_zeroq", "StatisticsLoss", "make_zeroq_set", "make_zeroq_sets"],
}
__getattr__, __dir__, __all__ = lazy_loader.attach(__name__, submod_attrs=EXPORTS)
