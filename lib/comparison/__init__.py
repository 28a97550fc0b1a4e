"""What the grid's results say: which calibration set serves which network, and how sure that is."""

import lazy_loader

EXPORTS = {
    "answer": [
        "answers",
        "limits",
        "main_answer",
        "of_way",
        "reader_table",
        "rule_table",
        "sentence",
        "verdict",
        "whole_sets",
    ],
    "cost": ["int8_costs", "set_costs"],
    "figures": ["dose_figure", "panel_figure", "ranked_figure"],
    "judges": ["judges_table", "judges_words"],
    "literature": ["published_table"],
    "models": ["ESTIMATORS", "int8_name", "is_control", "int8_names", "set_name"],
    "quality": ["measure_quality"],
    "reasons": [
        "MEASURES",
        "measure_reasons",
        "prediction_table",
        "prediction_words",
        "reason_table",
    ],
    "service": ["service_table"],
}
__getattr__, __dir__, __all__ = lazy_loader.attach(__name__, submod_attrs=EXPORTS)
