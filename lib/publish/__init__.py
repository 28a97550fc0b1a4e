"""What leaves the repository: posts, model cards, image sets, weights, the README's results."""

import lazy_loader

EXPORTS = {
    "blog.render": ["write_blog"],
    "sets": ["publish_sets"],
    "weights": ["publish_weights"],
}
__getattr__, __dir__, __all__ = lazy_loader.attach(__name__, submod_attrs=EXPORTS)
