"""Random networks in the folder that the image generator reads: nothing is trained."""

from pathlib import Path

import pytest
import torch

from lib.app.generator import CONFIG, EVALUATOR, FILES
from lib.classifiers.build import NormalizedClassifier, build_classifier
from lib.common.files import write_json
from lib.common.openvino import convert, save_ir
from lib.student.sampling import build_student

CLASSES = ["cat", "dog", "<b>bird</b>"]
SIZES = {"z_dim": 6, "c_dim": 3, "ngf": 16, "project_dim": 8, "nc": 3, "residual": True}
SIZES |= {"class_names": CLASSES, "data": "test"}


@pytest.fixture(scope="session")
def networks(tmp_path_factory) -> Path:
    """The folder of an image generator, with a teacher."""
    folder = tmp_path_factory.mktemp("networks")
    for file in FILES.values():
        example = (torch.randn(2, 6), torch.eye(3)[:2])
        save_ir(folder / file, convert(random_student(), example, [[-1, 6], [-1, 3]]))
    network = NormalizedClassifier(build_classifier("resnet20_x0_25", 3), [0.5] * 3, [0.5] * 3)
    model = convert(network.eval(), torch.zeros(1, 3, 32, 32), [-1, 3, 32, 32])
    save_ir(folder / EVALUATOR, model)
    write_json(folder / CONFIG, SIZES)
    return folder


def random_student() -> torch.nn.Module:
    network = build_student(SIZES)
    with torch.no_grad():  # running statistics of its own, or images would be grey
        for _ in range(20):
            network.train()(torch.randn(64, 6), torch.eye(3)[torch.arange(64) % 3])
    return network.eval()
