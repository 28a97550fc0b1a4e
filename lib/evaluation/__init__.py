"""How good generated images are: features, FID, KID, IS, precision and recall, findings."""

import lazy_loader

EXPORTS = {
    "ablation": ["ablation_table", "chosen_variants", "load_ablation", "run_ablation"],
    "accuracy_score": ["classification_accuracy_scores"],
    "diagnosis": ["examine", "load_findings"],
    "features": [
        "Extractor",
        "FeatureSet",
        "classifier_extractor",
        "extract",
        "extract_features",
        "first_per_class",
        "inception_extractor",
    ],
    "frechet": ["frechet_distance", "frechet_estimate"],
    "kid": ["kernel_distance"],
    "maps": ["grid_cells", "tsne_map"],
    "measures": ["evaluate", "fidelity", "inception_score"],
    "neighbours": ["copy_ratios", "nearest_neighbours", "pairwise_distance", "precision_recall"],
    "size": ["count_macs", "count_parameters"],
    "truncation": ["truncation_curve"],
}
__getattr__, __dir__, __all__ = lazy_loader.attach(__name__, submod_attrs=EXPORTS)
