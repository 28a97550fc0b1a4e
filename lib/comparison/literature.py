"""Figures that others have published, beside ours, with every known difference in protocol."""

from dataclasses import dataclass

import pandas as pd

from lib.classifiers.names import family
from lib.common.errors import StudyError

CHENYAOFO = "chenyaofo/pytorch-cifar-models"
PAPER = "arXiv 2305.06052"


@dataclass(frozen=True)
class Figure:
    """A published figure of a network on CIFAR-10's test images, in per cent or points.

    `kind`: `fp32` is an accuracy in FP32, `drop` a loss by INT8.
    """

    source: str
    network: str
    family: str
    kind: str
    value: float
    reads: str
    protocol: str


_FP32 = {
    "ResNet20": ("resnet", 92.60),
    "VGG16-BN": ("vgg", 94.16),
    "MobileNetV2 ×1.4": ("mobilenetv2", 94.22),
    "ShuffleNetV2 ×2.0": ("shufflenetv2", 93.81),
    "RepVGG-A2": ("repvgg", 94.98),
}
_POT = "INT8 by OpenVINO's POT; 50,000 real or 5,000 synthetic images; one run, no intervals"
FIGURES = (
    *(
        Figure(CHENYAOFO, name, kin, "fp32", value, f"{value:.2f} %", "its own training")
        for name, (kin, value) in _FP32.items()
    ),
    Figure(PAPER, "the selected models", "all", "drop", 0.6, "under 0.6 %", _POT),
    Figure(PAPER, "MobileNetV2 (its best)", "mobilenetv2", "drop", 0.05, "0.05 %", _POT),
    Figure(
        *("KMDFQ (data-free)", "ResNet-20", "resnet", "drop", -0.16),
        *("93.89 % to 94.05 % (W8A8)", "generated images and fine-tuning, not calibration alone"),
    ),
)
"""Only these: the tables of the paper could not be obtained."""


def published_table(
    degradation: pd.DataFrame, *, data: str, trained_here: bool, images: int
) -> pd.DataFrame:
    """Return each published figure with ours beside it, or none where we have none.

    `degradation` comes from `lib.comparison.tables.degradation_table`. Ours is the FP32 accuracy of
    our network of the same family, or what default quantization loses with the student's images: of
    that family, or the largest over all. The paper quantized with POT, so beside its figures stand
    ours by POT where we have them; else, and beside others, by NNCF. `engine`, `our_network` and
    `our_data` say what ours is of, and `differences` what makes the two figures other than one
    measurement repeated; `data` is our data set (`SampleSet.info["data"]`), `images` the number of
    its test images, and `trained_here` whether we trained the classifiers.
    """
    rows = []
    for figure in FIGURES:
        same = _ours_like(figure, degradation)
        ours = _ours(figure, same)
        row = {"source": figure.source, "network": figure.network}
        row |= {"quantity": QUANTITIES[figure.kind], "published": figure.reads}
        row |= {"published_value": figure.value, **ours}
        row["our_data"] = "none" if ours["our_network"] == "none" else data
        row["differences"] = _differences(figure, same, ours, data, trained_here, images)
        rows.append(row)
    return pd.DataFrame(rows)


QUANTITIES = {"fp32": "FP32 top-1 (%)", "drop": "loss by INT8 (points)"}


def _ours_like(figure: Figure, degradation: pd.DataFrame) -> pd.DataFrame:
    """Return our rows that a published figure may stand beside, of one engine and one size."""
    rows = degradation
    if figure.family != "all":
        rows = rows[[_is_of(name, figure.family) for name in rows["model"]]]
    if figure.kind == "fp32":
        return rows
    rows = rows[(rows["calibration_set"] == "student") & (rows["method"] == "default")]
    rows = rows[rows["drop_pp"].notna()]
    for engine in ("pot", "nncf") if figure.source == PAPER else ("nncf", "pot"):
        chosen = rows[rows["engine"] == engine]
        if len(chosen):
            return chosen[chosen["calibration_size"] == chosen["calibration_size"].max()]
    return rows[:0]


def _is_of(model: str, wanted: str) -> bool:
    try:
        return family(model) == wanted
    except StudyError:  # a network from elsewhere
        return False


def _ours(figure: Figure, rows: pd.DataFrame) -> dict:
    if rows.empty:
        return {"ours": float("nan"), "engine": "none", "our_network": "none"}
    if figure.kind == "fp32":
        first = rows.iloc[0]
        return {
            "ours": 100 * first["fp32_accuracy"],
            "engine": "FP32",
            "our_network": first["model"],
        }
    worst = rows.loc[rows["drop_pp"].idxmax()]
    return {
        "ours": worst["drop_pp"],
        "engine": worst["engine"].upper(),
        "our_network": worst["model"],
    }


def _differences(
    figure: Figure, rows: pd.DataFrame, ours: dict, data: str, trained_here: bool, images: int
) -> str:
    texts = [figure.protocol]
    if ours["our_network"] == "none":
        return f"{texts[0]}; no figure of ours"
    if data != "CIFAR-10":
        texts.append(f"CIFAR-10 there, {data} here ({images:,} test images)")
    same = [_published_name(figure.network)] if figure.source != PAPER else _published_names()
    if ours["our_network"] not in same:
        texts.append(f"another size of network here ({ours['our_network']})")
    if trained_here:
        texts.append("weights trained by this study")
    if figure.kind == "drop":
        texts.append(_our_protocol(figure, rows, ours))
    return "; ".join(texts)


def _our_protocol(figure: Figure, rows: pd.DataFrame, ours: dict) -> str:
    row = rows[rows["model"] == ours["our_network"]].iloc[0]
    seeds = f"mean over {row['seeds']} seeds" if row["seeds"] > 1 else "one seed"
    over = f", the largest loss of {len(rows)} networks" if figure.family == "all" else ""
    return (
        f"here default quantization by {ours['engine']} with {row['calibration_size']} of the "
        f"student's images, {seeds}{over}"
    )


def _published_names() -> list[str]:
    return [_published_name(network) for network in _FP32]


def _published_name(network: str) -> str:
    """Return our name of a published network, such as `mobilenetv2_x1_4`."""
    plain = network.lower().split(" (")[0].replace(" ×", "_x").replace(".", "_")
    return plain.replace("-20", "20").replace("-", "_")
