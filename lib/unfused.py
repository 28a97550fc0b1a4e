"""RepVGG in INT8, with its branches and fused: the comparison of two grids' results."""

import pandas as pd

from lib.classifiers import UNFUSED

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


CELL = ["nncf", "default", "real"]


def unfused_verdict(table: pd.DataFrame) -> str:
    """Say in words, model by model, which form of `unfused_table` lost less and by how much."""
    lines = []
    for model, part in table.groupby("model", sort=False):
        form = part.set_index("form")
        loss, quantizers = form["drop_pp"], form["quantizers"]
        if loss.isna().any():
            lines.append(
                f"{model}: one form could not be quantized, see the table of failed cells."
            )
            continue
        better = (
            "as much as"
            if abs(loss["unfused"] - loss["fused"]) < 0.005
            else ("more than" if loss["unfused"] > loss["fused"] else "less than")
        )
        lines.append(
            f"{model}: unfused it loses {loss['unfused']:.2f} points by INT8, {better} fused "
            f"({loss['fused']:.2f}); agreement with FP32 {form['agreement']['unfused']:.2%} and "
            f"{form['agreement']['fused']:.2%}, {quantizers['unfused']:.0f} and "
            f"{quantizers['fused']:.0f} places where values are rounded."
        )
    return "\n".join(lines)
