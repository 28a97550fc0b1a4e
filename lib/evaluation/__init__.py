"""How good generated images are: features, FID, KID, IS, precision and recall, findings."""

import lazy_loader

EXPORTS = {
    "ablation": [
        "VARIANTS",
        "ablation_course",
        "ablation_table",
        "load_ablation",
        "run_ablation",
    ],
    "course": ["training_course"],
    "diagnosis": ["examine", "load_findings"],
    "distances": ["frechet_distance", "frechet_estimate", "kernel_estimate"],
    "extractors": [
        "Extractor",
        "classifier_extractor",
        "efficientnet_extractor",
        "extract",
        "inception_extractor",
    ],
    "features": ["FeatureSet", "extract_features", "first_per_class"],
    "measures": ["evaluate", "fidelity", "inception_score"],
    "neighbours": [
        "copy_ratios",
        "grid_cells",
        "nearest_neighbours",
        "pairwise_distance",
        "precision_recall",
        "tsne_map",
    ],
    "scores": ["classification_accuracy_scores", "truncation_curve"],
    "telling": ["tell_apart"],
    "size": ["count_macs", "count_parameters"],
}
__getattr__, __dir__, __all__ = lazy_loader.attach(__name__, submod_attrs=EXPORTS)
