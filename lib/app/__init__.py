"""The image generator: requests, results, widgets, export, the server of the web page."""

import lazy_loader

EXPORTS = {
    "export": ["export_generator", "export_student", "publish_generator"],
    "generator": ["ImageGenerator", "ImagesRequest", "PathRequest"],
    "serve": ["serve_app"],
    "widgets": ["generator_widgets"],
}
__getattr__, __dir__, __all__ = lazy_loader.attach(__name__, submod_attrs=EXPORTS)
