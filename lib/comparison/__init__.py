"""What the grid's results say: what each set costs against real images, and how sure that is."""

import lazy_loader

EXPORTS = {
    "answer": [
        "answers",
        "limits",
        "main_answer",
        "pooled_rows",
        "reader_table",
        "sentence",
        "verdict",
    ],
    "cost": ["int8_costs", "set_costs"],
    "factors": ["effect_sizes", "usable_cells"],
    "figures": ["sensitivity_figure", "set_figure"],
    "literature": ["published_table"],
    "models": ["compared_models", "int8_name", "int8_names", "means_over_models"],
    "quality": ["measure_quality"],
    "ranges": ["range_table", "range_tables"],
    "sensitivity": ["enough_images", "sensitivity_table"],
    "tables": ["ALL_MODELS", "degradation_table", "mcnemar_table", "versus_real"],
}
__getattr__, __dir__, __all__ = lazy_loader.attach(__name__, submod_attrs=EXPORTS)
