"""From FP32 to INT8: NNCF and POT, networks of one's own, OpenVINO, the grid of cells."""

import lazy_loader

EXPORTS = {
    "bias": ["bias_words", "choose_bias_correction"],
    "cell": ["Cell"],
    "grid": [
        "MEASURED",
        "has_failures",
        "load_results",
        "load_seconds_table",
        "run_grid",
        "time_grid",
    ],
    "models": [
        "export_ir",
        "export_onnx",
        "measure_speeds",
        "predict_ir",
    ],
    "nncf": ["VARIANTS", "quantize_accuracy_aware", "quantize_default", "quantize_variant"],
    "options": ["QuantizationOptions"],
    "own.imports": ["export_models", "import_network", "own_table"],
    "own.parameters": ["OwnModel", "own_files", "own_records"],
    "plan": ["grid_cells", "grid_plan", "make_cells"],
    "pot.engine": ["quantize_pot", "quantize_pot_accuracy_aware"],
    "tool.example": ["quantize_example"],
    "tool.network": ["Takes"],
    "tool.quantize": ["quantize_file"],
    "tool.report": ["Report"],
    "tables": [
        "accuracy_table",
        "compare_engines",
        "engine_words",
        "loss_words",
        "per_class_table",
        "speed_words",
        "unfused_table",
        "unfused_verdict",
    ],
}
__getattr__, __dir__, __all__ = lazy_loader.attach(__name__, submod_attrs=EXPORTS)
