"""Random networks in the folder that the image generator reads: nothing is trained."""

from pathlib import Path

import pytest
import torch

from lib.app.generator import CONFIG, EVALUATOR, FILES
from lib.app.truncation import Truncatable
from lib.classifiers.build import NormalizedClassifier, build_classifier
from lib.common.files import write_json
from lib.common.openvino import convert, save_ir
from lib.student.build import build_student

CLASSES = ["cat", "dog", "<b>bird</b>"]
ABOUT = {"class_names": CLASSES, "data": "test"}
SIZES = {"z_dim": 6, "c_dim": 3, "ngf": 16, "project_dim": 8, "nc": 3} | ABOUT
MODULATED = {"z_dim": 6, "c_dim": 3, "w_dim": 8, "img_resolution": 32, "img_channels": 3} | ABOUT
MODULATED |= {"mapping_kwargs": {"num_layers": 2, "lr_multiplier": 1.0}}
MODULATED |= {"synthesis_kwargs": {"channel_base": 256, "channel_max": 16, "use_noise": False}}


@pytest.fixture(scope="session")
def networks(tmp_path_factory) -> Path:
    """The folder of an image generator, with a teacher."""
    folder = tmp_path_factory.mktemp("networks")
    example, sizes = (torch.randn(2, 6), torch.eye(3)[:2], torch.ones(2, 1)), (6, 3, 1)
    for name, file in FILES.items():
        network = Truncatable(random_student(SIZES if name == "student INT8" else MODULATED))
        save_ir(folder / file, convert(network, example, [[-1, size] for size in sizes]))
    network = NormalizedClassifier(build_classifier("resnet20_x0_25", 3), [0.5] * 3, [0.5] * 3)
    model = convert(network.eval(), torch.zeros(1, 3, 32, 32), [-1, 3, 32, 32])
    save_ir(folder / EVALUATOR, model)
    write_json(folder / CONFIG, SIZES)
    return folder


def random_student(config: dict) -> torch.nn.Module:
    network = build_student(config)
    with torch.no_grad():  # running statistics of its own, or images would be grey
        for _ in range(20):
            network.train()(torch.randn(64, 6), torch.eye(3)[torch.arange(64) % 3])
    return network.eval()
