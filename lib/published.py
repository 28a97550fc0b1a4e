"""Figures that others have published, beside ours, with every known difference in protocol."""

from dataclasses import dataclass

import pandas as pd

from lib.classifiers import family
from lib.errors import StudyError

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

    `degradation` comes from `lib.comparison.degradation_table`. Ours is the FP32 accuracy of our
    network of the same family, or what default quantization by the first engine loses with the
    student's images: of that family, or the largest over all. The text in `differences` says what
    makes the two figures other than one measurement repeated; `data` is our data set, `images`
    the number of its test images, and `trained_here` whether we trained the classifiers.
    """
    rows = []
    chosen = _student_rows(degradation)
    for figure in FIGURES:
        same = degradation if figure.kind == "fp32" else chosen
        if figure.family != "all":
            same = same[[_is_of(name, figure.family) for name in same["model"]]]
        row = {"source": figure.source, "network": figure.network}
        row |= {"quantity": QUANTITIES[figure.kind], "published": figure.reads}
        row |= {"published_value": figure.value, **_ours(figure, same)}
        row["differences"] = _differences(figure, row["our_network"], data, trained_here, images)
        rows.append(row)
    return pd.DataFrame(rows)


QUANTITIES = {"fp32": "FP32 top-1 (%)", "drop": "loss by INT8 (points)"}


def _student_rows(degradation: pd.DataFrame) -> pd.DataFrame:
    rows = degradation[(degradation["calibration_set"] == "student")]
    rows = rows[(rows["method"] == "default") & rows["drop_pp"].notna()]
    keys = ["engine", "calibration_size"]
    return rows[(rows[keys] == rows[keys].iloc[0]).all(axis=1)] if len(rows) else rows


def _is_of(model: str, wanted: str) -> bool:
    try:
        return family(model) == wanted
    except StudyError:  # a network from elsewhere
        return False


def _ours(figure: Figure, rows: pd.DataFrame) -> dict:
    if rows.empty:
        return {"ours": float("nan"), "our_network": "none"}
    if figure.kind == "fp32":
        first = rows.iloc[0]
        return {"ours": 100 * first["fp32_accuracy"], "our_network": first["model"]}
    worst = rows.loc[rows["drop_pp"].idxmax()]
    return {"ours": worst["drop_pp"], "our_network": worst["model"]}


def _differences(
    figure: Figure, our_network: str, data: str, trained_here: bool, images: int
) -> str:
    texts = [figure.protocol]
    if data != "cifar10":
        texts.append(f"CIFAR-10 there, {data} here ({images:,} test images)")
    same = [_published_name(figure.network)] if figure.source != PAPER else _published_names()
    if our_network not in ("none", *same):
        texts.append(f"another size of network here ({our_network})")
    if trained_here:
        texts.append("weights trained by this study")
    if figure.kind == "drop":
        texts.append("default quantization with the student's images here, mean over seeds")
    return "; ".join(texts)


def _published_names() -> list[str]:
    return [_published_name(network) for network in _FP32]


def _published_name(network: str) -> str:
    """Return our name of a published network, such as `mobilenetv2_x1_4`."""
    plain = network.lower().split(" (")[0].replace(" ×", "_x").replace(".", "_")
    return plain.replace("-20", "20").replace("-", "_")
