"""Figures that others have published for CIFAR-10, each with its protocol."""

import pandas as pd

CHENYAOFO = "chenyaofo/pytorch-cifar-models"
PAPER = "arXiv 2305.06052"
POT = "INT8 by OpenVINO's POT; 50,000 real or 5,000 synthetic images; one run, no intervals"
PUBLISHED = [
    (CHENYAOFO, "ResNet20", "92.60 % in FP32", "its own training"),
    (CHENYAOFO, "VGG16-BN", "94.16 % in FP32", "its own training"),
    (CHENYAOFO, "MobileNetV2 ×1.4", "94.22 % in FP32", "its own training"),
    (CHENYAOFO, "ShuffleNetV2 ×2.0", "93.81 % in FP32", "its own training"),
    (CHENYAOFO, "RepVGG-A2", "94.98 % in FP32", "its own training"),
    (PAPER, "the selected networks", "loses under 0.6 %", POT),
    (PAPER, "MobileNetV2 (its best)", "loses 0.05 %", POT),
    ("KMDFQ (data-free)", "ResNet-20", "93.89 % to 94.05 % (W8A8)", "images and fine-tuning"),
]


def published_table(data: str) -> pd.DataFrame:
    """Return published top-1 figures on CIFAR-10's test images; no rows for other `data`."""
    columns = ["source", "network", "published", "protocol"]
    return pd.DataFrame(PUBLISHED if data.startswith("CIFAR-10") else [], columns=columns)
