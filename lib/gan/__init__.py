"""StyleGAN2's networks, from which the teacher is built, and their augmentation."""

import lazy_loader

EXPORTS = {
    "discriminator": ["Discriminator"],
    "generator": ["Generator"],
    "latents": ["interpolate"],
}
__getattr__, __dir__, __all__ = lazy_loader.attach(__name__, submod_attrs=EXPORTS)
