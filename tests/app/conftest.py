"""Random networks in the folder that the image generator reads: nothing is trained."""

from pathlib import Path

import openvino as ov
import torch

from lib.app.generator import CONFIG, EVALUATOR, FILES
from lib.classifiers.build import NormalizedClassifier, build_classifier
from lib.common.files import write_json
from lib.common.openvino import save_ir
from lib.student.sampling import build_student

CLASSES = ["cat", "dog", "<b>bird</b>"]
SIZES = {"z_dim": 6, "c_dim": 3, "ngf": 16, "project_dim": 8, "nc": 3}


def write_networks(folder: Path) -> Path:
    torch.manual_seed(0)
    for file in FILES.values():
        example = (torch.randn(2, 6), torch.eye(3)[:2])
        model = ov.convert_model(
            random_student(), example_input=example, input=[[-1, 6], [-1, 3]], verbose=False
        )
        save_ir(folder / file, model)
    network = NormalizedClassifier(build_classifier("resnet20_x0_25", 3), [0.5] * 3, [0.5] * 3)
    images = torch.zeros(1, 3, 32, 32)
    model = ov.convert_model(network.eval(), example_input=images, input=[-1, 3, 32, 32])
    save_ir(folder / EVALUATOR, model)
    write_json(folder / CONFIG, SIZES | {"class_names": CLASSES, "data": "test"})
    return folder


def random_student() -> torch.nn.Module:
    network = build_student(SIZES)
    with torch.no_grad():  # running statistics of its own, or images would be grey
        for _ in range(20):
            network.train()(torch.randn(64, 6), torch.eye(3)[torch.arange(64) % 3])
    return network.eval()
