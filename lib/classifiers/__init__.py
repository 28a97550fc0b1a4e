"""The networks that are quantized: seven families, their training, published weights."""

import lazy_loader

EXPORTS = {
    "build": ["NormalizedClassifier", "build_classifier"],
    "options": ["ClassifierOptions"],
    "names": ["network_name", "weights_source"],
    "source": ["classifier_maker", "published_file"],
    "training": [
        "accuracy",
        "classifier_table",
        "load_classifier",
        "predict",
        "predict_with_features",
        "train_classifier",
    ],
}
__getattr__, __dir__, __all__ = lazy_loader.attach(__name__, submod_attrs=EXPORTS)
