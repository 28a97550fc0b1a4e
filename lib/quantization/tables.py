"""Tables and sentences of a grid's results: by class, by engine, by form of RepVGG, speed."""

from dataclasses import asdict, replace

import numpy as np
import pandas as pd

from lib.calibration.kinds import KINDS
from lib.classifiers.names import UNFUSED, network_name
from lib.quantization.cell import CELL_KEYS, Cell, cells_of

MEASURES = ["accuracy", "drop_pp", "agreement", "quantizers", "size_bytes"]


def accuracy_table(int8: pd.DataFrame, table: pd.DataFrame, sets: list[str]) -> pd.DataFrame:
    """Return top-1 accuracy, the mean over draws: a column a set, and `fp32` before quantization.

    `int8` are the rows of `table` that count; a row for each engine, method and model.
    """
    fp32 = table[table["method"] == "fp32"].set_index("model")["accuracy"]
    groups = int8.groupby(["engine", "method", "model", "calibration_set"], sort=False)
    means = groups["accuracy"].mean().unstack().reindex(columns=sets).reset_index()
    means.insert(3, "fp32", means["model"].map(fp32))
    return means.rename_axis(columns=None)


def loss_words(int8: pd.DataFrame) -> str:
    """Say of each set which network loses most accuracy by NNCF's default quantization."""
    own = int8.query("engine == 'nncf' and method == 'default'")
    losses = own.groupby(["calibration_set", "model"], sort=False)["drop_pp"].mean().dropna()
    return "\n".join(
        f"{KINDS[name].title}: mean loss {part.mean():.2f} points by NNCF's default quantization, "
        f"largest {part.max():.2f} ({network_name(part.idxmax()[1])})"
        for name, part in losses.groupby("calibration_set", sort=False)
    )


def per_class_table(
    predictions: dict[str, np.ndarray], labels: np.ndarray, class_names: list[str]
) -> pd.DataFrame:
    """Return top-1 accuracy by class, a row for each cell (FP32 too) and class of test images.

    Networks with classes of their own are left out.
    """
    rows = []
    for name, predicted in predictions.items():
        if predicted.max() >= len(class_names):
            continue
        of_images = labels[: len(predicted)]
        for label, class_name in enumerate(class_names):
            hits = predicted[of_images == label] == label
            row = asdict(Cell(*name.split("/"))) | {"class": class_name, "images": len(hits)}
            rows.append(row | {"accuracy": hits.mean() if len(hits) else np.nan})
    return pd.DataFrame(rows)


def compare_engines(table: pd.DataFrame, predictions: dict[str, np.ndarray]) -> pd.DataFrame:
    """Compare nncf and pot over the cells that both have finished.

    A row for each method and calibration set: number of `pairs`, mean losses in percentage points
    (`nncf`, `pot`), share of test images that the two INT8 networks classify `alike`.
    """
    ok = table[table["status"] == "ok"]
    first, second = (ok[ok["engine"] == engine] for engine in ("nncf", "pot"))
    keys = [key for key in CELL_KEYS if key != "engine"]
    pairs = first.merge(second[[*keys, "drop_pp"]], on=keys, suffixes=("", "_pot"))
    rows = []
    for (method, kind), part in pairs.groupby(["method", "calibration_set"], sort=False):
        alike = [
            (predictions[cell.name] == predictions[replace(cell, engine="pot").name]).mean()
            for cell in cells_of(part)
        ]
        means = part[["drop_pp", "drop_pp_pot"]].mean()
        rows.append([method, kind, len(part), *means, np.mean(alike)])
    columns = ["method", "calibration_set", "pairs", "nncf", "pot", "alike"]
    return pd.DataFrame(rows, columns=columns)


def engine_words(engines: pd.DataFrame, failed: pd.DataFrame) -> str:
    """Say how alike the two engines are by `compare_engines`, or why that is not known."""
    if engines.empty:
        reasons = failed.loc[failed["engine"] == "pot", "error"].unique()
        why = "; ".join(reasons) or "the parameters name one of them"
        return f"No cell has both engines: {why}."
    apart = (engines["nncf"] - engines["pot"]).abs().max()
    return (
        f"INT8 of both engines agrees on {engines['alike'].mean():.1%} of the test images on "
        f"average; their mean losses differ by {apart:.2f} points at most."
    )


def speed_words(timings: pd.DataFrame, seconds: pd.DataFrame) -> str:
    """Say of each way to quantize how much faster and smaller INT8 is, and how long it took."""
    fp32 = timings[timings["method"] == "fp32"].set_index("model")
    lines = []
    for (engine, method), part in timings.groupby(["engine", "method"], sort=False):
        own = seconds[(seconds["engine"] == engine) & (seconds["method"] == method)]["seconds"]
        if method == "fp32" or own.empty:
            continue
        part = part.set_index("model")
        faster = (part["throughput"] / fp32["throughput"]).dropna()
        smaller = (fp32["size_bytes"] / part["size_bytes"]).dropna()
        lines.append(
            f"{engine}, {method.replace('_', '-')}: {faster.min():.1f} to {faster.max():.1f} times "
            f"as fast as FP32 here, weights {smaller.min():.1f} to {smaller.max():.1f} times "
            f"smaller; {own.median():.0f} seconds a cell, {own.max():.0f} at most"
        )
    return "\n".join(lines)


def unfused_table(table: pd.DataFrame) -> pd.DataFrame:
    """Compare networks quantized with their branches with their fused forms.

    `table` holds results as `grid.load_results` gives them. A row for each model and form, from
    nncf's default quantization with real images: FP32 accuracy, and of INT8 (means over draws)
    accuracy, its loss in percentage points, agreement with FP32, FakeQuantize operations, bytes of
    weights.
    """
    way = "engine == 'nncf' and method == 'default' and calibration_set == 'real'"
    rows, names = [], table["model"].unique()
    size = table["calibration_size"].max()
    for name in (name for name in names if name.endswith(UNFUSED)):
        model = name.removesuffix(UNFUSED)
        for own_name, form in ((model, "fused"), (name, "unfused")):
            own = table[(table["model"] == own_name) & (table["status"] == "ok")]
            int8 = own.query(f"{way} and calibration_size == {size}")
            row = {"model": model, "form": form, "int8_networks": len(int8)}
            row["fp32_accuracy"] = own["fp32_accuracy"].max()
            rows.append(row | int8[MEASURES].astype(float).mean().to_dict())
    return pd.DataFrame(rows)


def unfused_verdict(table: pd.DataFrame) -> str:
    """Say in words, model by model, what INT8 does to each form of `unfused_table`."""
    lines = []
    for model, part in table.groupby("model", sort=False):
        if part["drop_pp"].isna().any():
            name = network_name(model)
            lines.append(f"{name}: nothing to compare, no INT8 network of one of its forms.")
            continue
        words = [
            f"{row.form} {-row.drop_pp:+.2f} points of accuracy, agreement with FP32 "
            f"{row.agreement:.2%}, {row.quantizers:.0f} operations that round values"
            for row in part.itertuples()
        ]
        lines.append(f"{network_name(model)} in INT8: {'; '.join(words)}.")
    return "\n".join(lines)
