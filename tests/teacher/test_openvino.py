"""The teacher in OpenVINO against torch and the numbers of the original implementation."""

import numpy as np
import pytest
import torch
from openvino import Type

from lib.common.errors import StudyError
from lib.gan.generator import Generator
from lib.teacher import sampling
from lib.teacher.sampling import OpenVinoGenerator
from tests.gan.conftest import DATA, fill, read_keys, tiny_generator, tiny_inputs

UNEVEN = {"channel_base": 200, "channel_max": 24, "conv_clamp": 0.5, "architecture": "resnet"}


def test_images_are_those_of_the_original():
    generator = fill(Generator(**read_keys("small")["init_kwargs"])).eval().requires_grad_(False)
    reference = np.load(DATA / "small.npz")
    z, c = torch.from_numpy(reference["z"]), torch.from_numpy(reference["labels"])
    for name, options in (
        ("img_psi0.7_const", {"truncation": 0.7, "noise_mode": "const"}),
        ("img_psi1_none", {"truncation": 1.0, "noise_mode": "none"}),
    ):
        converted = OpenVinoGenerator(generator, batch_size=8, **options)
        assert np.abs(converted(z, c).numpy() - reference[name]).max() < 1e-3, name
        compiled = converted.request.get_compiled_model()
        assert compiled.get_property("INFERENCE_PRECISION_HINT") == Type.f32


@pytest.mark.parametrize(
    "options",
    [{"c_dim": 0}, {"synthesis": UNEVEN}],
    ids=["no labels", "uneven"],
)
def test_random_noise_is_that_of_each_image(options):
    generator = tiny_generator(**options).requires_grad_(False)
    z, c = tiny_inputs(3)
    converted = OpenVinoGenerator(generator, truncation=0.7, noise_mode="random", batch_size=4)

    def sources():
        return [torch.Generator().manual_seed(image) for image in range(3)]

    found = converted(z, c, sources())
    noise = {"noise_mode": "random", "noise_generator": sources()}
    expected = generator(z, c, truncation_psi=0.7, **noise)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)
    torch.testing.assert_close(
        converted(z[:1], c[:1], sources()[:1]), expected[:1], atol=1e-5, rtol=0
    )


def test_other_images_than_torchs_are_noticed(monkeypatch):
    monkeypatch.setattr(sampling, "TOLERANCE", 1e-12)
    generator = tiny_generator().requires_grad_(False)
    with pytest.raises(StudyError, match="differs from torch by .*sampling_backend: torch"):
        OpenVinoGenerator(generator, truncation=1.0, noise_mode="const", batch_size=4)
