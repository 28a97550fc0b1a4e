"""What teacher and student are built from: StyleGAN2's networks, resampling and augmentation."""

import lazy_loader

EXPORTS = {
    "discriminator": ["Discriminator"],
    "generator": ["Generator"],
    "latents": ["interpolate"],
}
__getattr__, __dir__, __all__ = lazy_loader.attach(__name__, submod_attrs=EXPORTS)
