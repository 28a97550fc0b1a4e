"""What the grid's results say: what each set costs against real images, and how sure that is."""

import lazy_loader

EXPORTS = {
    "claims": ["answers"],
    "cost": ["int8_costs", "set_costs", "with_sizes"],
    "factors": ["effect_sizes", "effect_words", "usable_cells"],
    "figures": [
        "factor_bars",
        "loss_heatmap",
        "quality_scatter",
        "set_differences",
        "uncertainty_bars",
    ],
    "headline": ["headline"],
    "literature": ["published_table"],
    "mixed_effects": ["mixed_effects", "mixed_words"],
    "models": ["common_models", "means_over_models"],
    "quality": ["measure_quality", "quality_and_effect", "quality_correlations", "quality_words"],
    "ranges": ["range_errors", "range_table", "rank_correlation"],
    "rankings": ["rank_correlations", "rank_sets", "ranking_words"],
    "sensitivity": [
        "range_heatmap",
        "sensitivity_table",
        "size_curves",
        "size_words",
        "spread_words",
        "variant_panels",
    ],
    "tables": ["ALL_MODELS", "degradation_table", "mcnemar_table", "versus_real"],
    "verdict": ["models_words", "verdict"],
}
__getattr__, __dir__, __all__ = lazy_loader.attach(__name__, submod_attrs=EXPORTS)
