"""The small generator, DiStyleGAN: distilled from the teacher's samples, recipe by recipe."""

import lazy_loader

EXPORTS = {
    "batches": ["Batch"],
    "distillation": ["distill"],
    "options": ["CHANGES", "StudentOptions"],
    "original_checkpoint": ["import_original_student", "load_original", "save_original"],
    "sampling": ["build_student", "generate", "load_student", "sample_student"],
    "steps": ["Networks", "one_pass_step", "original_step", "original_weights"],
}
__getattr__, __dir__, __all__ = lazy_loader.attach(__name__, submod_attrs=EXPORTS)
