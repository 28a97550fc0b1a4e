"""A profile's run: parameters, manifest, artifacts made once, notebooks, checks beforehand."""

import lazy_loader

EXPORTS = {
    "params": ["read_profile", "validate"],
    "study": ["Study"],
}
__getattr__, __dir__, __all__ = lazy_loader.attach(__name__, submod_attrs=EXPORTS)
