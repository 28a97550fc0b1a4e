"""Figures that others have published for CIFAR-10, each with its protocol."""

import pandas as pd

CHENYAOFO = "chenyaofo/pytorch-cifar-models"
PAPER = "arXiv 2305.06052"
POT = "INT8 by OpenVINO's POT; 50,000 real or 5,000 synthetic images; one run, no intervals"
FP32 = {"ResNet20": 92.60, "VGG16-BN": 94.16, "MobileNetV2 ×1.4": 94.22}
FP32 |= {"ShuffleNetV2 ×2.0": 93.81, "RepVGG-A2": 94.98}
PUBLISHED = [(CHENYAOFO, name, f"{top1:.2f} % in FP32", "its own") for name, top1 in FP32.items()]
PUBLISHED += [
    (PAPER, "the selected networks", "loses under 0.6 %", POT),
    (PAPER, "MobileNetV2 (its best)", "loses 0.05 %", POT),
    ("KMDFQ (data-free)", "ResNet-20", "93.89 % to 94.05 % (W8A8)", "images and fine-tuning"),
]


def published_table(data: str) -> pd.DataFrame:
    """Return published top-1 figures on CIFAR-10's test images; no rows for other `data`."""
    columns = ["source", "network", "published", "protocol"]
    return pd.DataFrame(PUBLISHED if data.startswith("CIFAR-10") else [], columns=columns)
