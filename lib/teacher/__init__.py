"""The large generator, StyleGAN2-ADA: where it comes from, its training, its samples."""

import lazy_loader

EXPORTS = {
    "official.reader": ["load_network"],
    "sampling": ["choose_backend", "generate", "load_teacher", "sample_teacher"],
    "options": ["SamplingOptions", "TeacherOptions"],
    "source": [
        "adopt_teacher",
        "check_start",
        "count_parameters",
        "find_teacher",
        "licence_note",
        "make_teacher_samples",
        "source_record",
    ],
    "training": ["train_teacher"],
}
__getattr__, __dir__, __all__ = lazy_loader.attach(__name__, submod_attrs=EXPORTS)
