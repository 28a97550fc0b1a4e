"""The image generator: requests, results, widgets, export, the server of the web page."""

import lazy_loader

EXPORTS = {
    "export": ["export_generator"],
    "generator": ["ImageGenerator"],
    "interpolation": ["interpolate"],
    "requests": ["ImagesRequest", "PathRequest"],
    "student_export": ["export_student"],
    "widgets": ["generator_widgets"],
}
__getattr__, __dir__, __all__ = lazy_loader.attach(__name__, submod_attrs=EXPORTS)
