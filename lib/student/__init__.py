"""The small generator, DiStyleGAN: distilled from the teacher's samples, recipe by recipe."""

import lazy_loader

EXPORTS = {
    "batches": ["Batch"],
    "distillation": ["distill"],
    "losses": ["original_weights"],
    "options": ["StudentOptions"],
    "original": ["import_original_student", "load_original", "save_original"],
    "recipes": ["CHANGES"],
    "sampling": ["build_student", "generate", "load_student", "sample_student"],
    "steps": ["make_networks", "one_pass_step", "original_step"],
}
__getattr__, __dir__, __all__ = lazy_loader.attach(__name__, submod_attrs=EXPORTS)
