"""The small generator, DiStyleGAN: distilled from the teacher's samples."""

import lazy_loader

EXPORTS = {
    "batches": ["Batch"],
    "distillation": ["distill"],
    "options": ["StudentOptions"],
    "original_checkpoint": ["import_original_student", "load_original", "save_original"],
    "sampling": ["generate", "load_student", "sample_student"],
    "build": ["build_student"],
    "source": ["student_maker"],
    "original": ["Networks", "original_step", "original_weights"],
}
__getattr__, __dir__, __all__ = lazy_loader.attach(__name__, submod_attrs=EXPORTS)
