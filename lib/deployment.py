"""From trained classifiers to the FP32 networks that are quantized."""

from pathlib import Path

from lib.classifier_training import load_classifier
from lib.classifiers import prepare_for_deployment
from lib.data import load_real
from lib.openvino_models import export_ir

CHECK_IMAGES = 64


def export_models(out: Path, *, classifiers: dict[str, Path], real: Path) -> None:
    """Write `out/<name>.xml` and `.bin`, OpenVINO IR in FP32, for each trained classifier.

    RepVGG's branches are fused first. The IR takes pixels `(n, 3, 32, 32)` float32 in [0, 255];
    its logits are compared with torch's on real validation images.
    """
    images = load_real(real, "validation").images[:CHECK_IMAGES]
    for name, folder in classifiers.items():
        model = prepare_for_deployment(load_classifier(folder))
        export_ir(out / f"{name}.xml", model, images)
