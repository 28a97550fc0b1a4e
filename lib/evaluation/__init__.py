"""How good generated images are: features, FID, KID, IS, precision and recall, findings."""

import lazy_loader

EXPORTS = {
    "ablation": ["ablation_table", "chosen_variants", "load_ablation", "run_ablation"],
    "accuracy_score": ["classification_accuracy_scores"],
    "copying": ["copy_ratios"],
    "diagnosis": ["examine", "load_findings"],
    "diversity": ["pairwise_distance"],
    "extractors": ["Extractor", "classifier_extractor", "extract", "inception_extractor"],
    "features": ["FeatureSet", "extract_features", "first_per_class"],
    "frechet": ["frechet_distance", "frechet_estimate"],
    "inception_score": ["inception_score"],
    "kid": ["kernel_distance"],
    "maps": ["grid_cells", "tsne_map"],
    "measures": ["fidelity"],
    "neighbours": ["nearest_neighbours", "precision_recall"],
    "size": ["count_macs", "count_parameters"],
    "tables": ["evaluate"],
    "truncation": ["truncation_curve"],
}
__getattr__, __dir__, __all__ = lazy_loader.attach(__name__, submod_attrs=EXPORTS)
