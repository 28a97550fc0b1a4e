"""From FP32 to INT8: NNCF and POT, networks of one's own, OpenVINO, the grid of cells."""

import lazy_loader

EXPORTS = {
    "grid": [
        "MEASURED",
        "compare_engines",
        "has_failures",
        "load_results",
        "load_seconds_table",
        "make_cells",
        "per_class_table",
        "run_grid",
        "time_grid",
    ],
    "models": [
        "export_ir",
        "export_onnx",
        "export_unfused",
        "measure_speeds",
        "predict_ir",
    ],
    "nncf": ["VARIANTS", "quantize_accuracy_aware", "quantize_default", "quantize_variant"],
    "own.imports": ["export_models", "import_network", "own_table"],
    "own.parameters": ["OwnModel", "own_files", "own_records"],
    "pot.engine": ["quantize_pot", "quantize_pot_accuracy_aware"],
    "unfused": ["unfused_table", "unfused_verdict"],
}
__getattr__, __dir__, __all__ = lazy_loader.attach(__name__, submod_attrs=EXPORTS)
