"""The large generator, StyleGAN2-ADA: where it comes from, its training, its samples."""

import lazy_loader

EXPORTS = {
    "official.reader": ["load_network"],
    "sampling": ["choose_backend", "generate", "load_teacher", "sample_teacher"],
    "source": [
        "adopt_teacher",
        "count_parameters",
        "find_teacher",
        "licence_note",
        "make_teacher_samples",
        "source_record",
    ],
    "start": ["check_start"],
    "training": ["train_teacher"],
}
__getattr__, __dir__, __all__ = lazy_loader.attach(__name__, submod_attrs=EXPORTS)
