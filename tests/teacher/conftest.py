"""A small data set and the teacher that was trained on it."""

from dataclasses import replace

import numpy as np
import pytest

from lib.data.samples import SampleSet
from lib.teacher.options import TeacherOptions
from lib.teacher.training import train_teacher

OPTIONS = TeacherOptions(
    kimg=0.048,
    batch_size=8,
    z_dim=8,
    w_dim=8,
    channel_base=64,
    channel_max=8,
    learning_rate=0.002,
    r1_gamma=0.1,
    r1_interval=2,
    ema_kimg=1.0,
    ada_kimg=0.1,
    checkpoint_kimg=0.016,
)


def train(out, real, seed=3, start="", start_sha256="", **changes) -> None:
    begin = {"start": start, "start_sha256": start_sha256}
    train_teacher(out, real=real, seed=seed, options=replace(OPTIONS, **changes), **begin)


@pytest.fixture(scope="session")
def real(tmp_path_factory):
    random = np.random.default_rng(0)
    labels = np.arange(20) % 3
    images = random.integers(0, 60, (20, 3, 32, 32)) + 60 * labels[:, None, None, None]
    info = {"class_names": ["dark", "grey", "light"], "data": "blobs"}
    folder = tmp_path_factory.mktemp("real")
    SampleSet(images.astype(np.uint8), labels.astype(np.int64), None, info).save(folder)
    return folder


@pytest.fixture(scope="session")
def trained(real, tmp_path_factory):
    out = tmp_path_factory.mktemp("teacher")
    train(out, real)
    return out
