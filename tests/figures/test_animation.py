"""The GIF of a training, and the size of networks."""

import numpy as np
import torch
from PIL import Image
from torch import nn

from lib.app.export import plain_form
from lib.evaluation.size import count_macs, count_parameters
from lib.figures.animation import TITLE_HEIGHT, training_frames, write_gif
from lib.student.networks import Generator


def test_gif_shows_every_frame_unstretched(tmp_path):
    images = np.zeros((3, 4, 3, 32, 32), np.uint8)
    images[1] += 100
    images[2] += 180
    frames = training_frames(images, ["epoch 0", "epoch 1", "epoch 2"], columns=2)
    write_gif(tmp_path / "training.gif", frames)
    with Image.open(tmp_path / "training.gif") as gif:
        assert gif.n_frames == 3
        assert gif.info["loop"] == 0
        shown, titles = [], []
        for k in range(3):
            gif.seek(k)
            frame = np.asarray(gif.convert("RGB")).astype(int)
            shown.append(frame[TITLE_HEIGHT + 20, 20].tolist())
            titles.append(frame[:TITLE_HEIGHT].tobytes())
    assert np.abs(np.array(shown) - [[0] * 3, [100] * 3, [180] * 3]).max() <= 1
    assert len(set(titles)) == 3


def test_size_of_a_network_by_hand():
    network = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.Flatten(), nn.Linear(4 * 8 * 8, 5))
    assert count_parameters(network) == 3 * 4 * 9 + 4 + 256 * 5 + 5
    assert count_macs(network, torch.zeros(1, 3, 8, 8)) == 3 * 4 * 9 * 64 + 256 * 5


def test_size_of_the_published_student():
    student = Generator().eval()
    assert count_parameters(student) == 2_054_368
    dense = 512 * 256 + 138 * 8192
    upsampled = [256 * 256 * 9 * 64, 128 * 128 * 9 * 256, 64 * 64 * 9 * 1024]
    images = 32 * 3 * 9 * 1024
    plain = count_macs(plain_form(student), torch.zeros(1, 512), torch.zeros(1, 10))
    assert plain == dense + sum(upsampled) + images
    fused = count_macs(student, torch.zeros(16, 512), torch.zeros(16, 10)) / 16
    kernels = 16 * 3 * (4 + 3)  # made once a batch, from each 3×3 kernel
    weights = 256 * 256 + 128 * 128 + 64 * 64
    expected = dense + sum(upsampled) * 4 / 9 + images
    assert expected < fused < expected + weights * kernels / 16
