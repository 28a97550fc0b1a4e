"""Small sets, a student and options for the tests of the student and of several processes."""

from pathlib import Path

import numpy as np
import pytest
import torch

from lib.common.tensors import save_tensors
from lib.data.samples import SampleSet
from lib.student.build import build_student
from lib.student.options import StudentOptions

INFO = {"class_names": ["a", "b", "c"], "data": "test", "latent_distribution": "normal"}
CONFIG = {"z_dim": 6, "c_dim": 3, "ngf": 8, "project_dim": 8, "nc": 3}
MODULATED = {
    "z_dim": 6,
    "c_dim": 3,
    "w_dim": 8,
    "img_resolution": 32,
    "img_channels": 3,
    "mapping_kwargs": {"num_layers": 1},
    "synthesis_kwargs": {"channel_base": 64, "channel_max": 8, "use_noise": False},
}
OPTIONS = StudentOptions(
    kimg=0.08,
    batch_size=8,
    w_dim=8,
    channel_base=64,
    channel_max=8,
    discriminator_base=64,
    discriminator_max=8,
    learning_rate=1e-3,
    r1_interval=2,
    ema_kimg=0.1,
    ada_kimg=0.1,
    pairing_kimg=0.04,
    ngf=8,
    ndf=4,
    project_dim=8,
    checkpoint_kimg=0.032,
)


def write_sets(folder: Path) -> dict[str, Path]:
    """Write 14 samples of a teacher and 9 real images, of noise."""
    rng = np.random.default_rng(0)
    for name, n in (("samples", 14), ("real", 9)):
        images = rng.integers(0, 256, (n, 3, 32, 32), dtype=np.uint8)
        latents = rng.standard_normal((n, 6), dtype=np.float32) if name == "samples" else None
        SampleSet(images, np.arange(n) % 3, latents, INFO).save(folder / name)
    return {"samples": folder / "samples", "real": folder / "real"}


def write_student(path: Path, config: dict = MODULATED) -> Path:
    """Write an untrained student."""
    torch.manual_seed(0)
    save_tensors(path, build_student(config), config | INFO)
    return path


@pytest.fixture(scope="session")
def sets(tmp_path_factory) -> dict[str, Path]:
    return write_sets(tmp_path_factory.mktemp("sets"))


@pytest.fixture(scope="session", params=[CONFIG, MODULATED], ids=["original", "modulated"])
def student_file(request, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("student") / "student.safetensors"
    return write_student(path, request.param)


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
