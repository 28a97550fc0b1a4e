"""The size of networks, by hand."""

import torch
from torch import nn

from lib.app.export import plain_form
from lib.evaluation.size import count_macs, count_parameters
from lib.student.networks import Generator


def test_size_of_a_network_by_hand():
    network = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.Flatten(), nn.Linear(4 * 8 * 8, 5))
    assert count_parameters(network) == 3 * 4 * 9 + 4 + 256 * 5 + 5
    assert count_macs(network, torch.zeros(1, 3, 8, 8)) == 3 * 4 * 9 * 64 + 256 * 5


def test_size_of_the_published_student():
    student = Generator(z_dim=512, c_dim=10, ngf=256, project_dim=128, nc=3).eval()
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
