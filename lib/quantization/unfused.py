"""RepVGG in INT8, with its branches and fused: the comparison of two grids' results."""

import pandas as pd

from lib.classifiers.names import UNFUSED

CELL = ["nncf", "default", "real"]
MEASURES = ["accuracy", "drop_pp", "agreement", "quantizers", "size_bytes"]


def unfused_table(fused: pd.DataFrame, unfused: pd.DataFrame) -> pd.DataFrame:
    """Compare networks quantized with their branches with their fused forms.

    Both are results as `grid.load_results` gives them. A row for each model and form, from nncf's
    default quantization with real images: FP32 accuracy, and of INT8 (means over seeds) accuracy,
    its loss in percentage points, agreement with FP32, FakeQuantize operations, bytes of weights.
    """
    rows = []
    for name in unfused["model"].unique():
        for table, model, form in (
            (fused, name.removesuffix(UNFUSED), "fused"),
            (unfused, name, "unfused"),
        ):
            own = table[(table["model"] == model) & (table["status"] == "ok")]
            int8 = own[(own[["engine", "method", "calibration_set"]] == CELL).all(axis=1)]
            row = {"model": name.removesuffix(UNFUSED), "form": form, "int8_networks": len(int8)}
            row["fp32_accuracy"] = own["fp32_accuracy"].max()
            rows.append(row | int8[MEASURES].astype(float).mean().to_dict())
    return pd.DataFrame(rows)


def unfused_verdict(table: pd.DataFrame) -> str:
    """Say in words, model by model, what INT8 does to each form of `unfused_table`."""
    lines = []
    for model, part in table.groupby("model", sort=False):
        if part["drop_pp"].isna().any():
            lines.append(
                f"{model}: nothing to compare, for want of a network quantized by "
                f"{', '.join(CELL)} in one of the forms."
            )
            continue
        words = [
            f"{row.form} {-row.drop_pp:+.2f} points of accuracy, agreement with FP32 "
            f"{row.agreement:.2%}, {row.quantizers:.0f} operations that round values"
            for row in part.itertuples()
        ]
        lines.append(f"{model} in INT8: {'; '.join(words)}.")
    return "\n".join(lines)
