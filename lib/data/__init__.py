"""Images with labels and latents: the sample set, real data, archives and folder layouts."""

import lazy_loader

EXPORTS = {
    "layouts": ["export_image_folder", "import_sample_folder"],
    "real": [
        "load_digits_32",
        "load_image_tree",
        "load_real",
        "prepare_real",
        "source_fingerprint",
    ],
    "samples": ["SampleSet"],
}
__getattr__, __dir__, __all__ = lazy_loader.attach(__name__, submod_attrs=EXPORTS)
