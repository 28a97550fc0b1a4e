"""Parity of networks and losses with the original's numbers (tests/fixtures/distylegan)."""

import json

import numpy as np
import pytest
import torch
from torch import nn

from lib.common.files import ROOT
from lib.student.networks import Discriminator, Generator
from lib.student.original import discriminator_loss, generator_loss, original_weights
from tests.classifiers.conftest import fill

DATA = ROOT / "tests" / "fixtures" / "distylegan"
GENERATOR = ("z_dim", "c_dim", "ngf", "project_dim", "nc")
PUBLISHED_COUNTS = {"G": 2_054_368, "D": 3_415_178}
DISCRIMINATOR = ("ndf", "c_dim", "project_dim", "nc")


def read_keys(size: str) -> dict:
    return json.loads((DATA / f"{size}_keys.json").read_text())


def read_arrays(name: str) -> dict[str, torch.Tensor]:
    with np.load(DATA / name) as file:
        return {key: torch.from_numpy(file[key]) for key in file.files}


def build(size: str) -> tuple[Generator, Discriminator]:
    sizes = read_keys(size)["args"]
    generator, discriminator = (
        {key: sizes[key] for key in keys} for keys in (GENERATOR, DISCRIMINATOR)
    )
    return Generator(**generator), Discriminator(**discriminator)


def close(actual: torch.Tensor, expected: torch.Tensor) -> None:
    torch.testing.assert_close(actual, expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("size", ["small", "full"])
def test_names_shapes_and_counts(size: str) -> None:
    expected = read_keys(size)
    with torch.device("meta"):  # no memory, no slow initialisation
        networks = build(size)
    for letter, network in zip("GD", networks, strict=True):
        state = network.state_dict().items()
        keys = [[name, list(t.shape), str(t.dtype).removeprefix("torch.")] for name, t in state]
        assert keys == expected[f"{letter}_state_dict"]
        names = [name for name, _ in network.named_parameters()]
        assert names == expected[f"{letter}_parameters"]
        count = sum(parameter.numel() for parameter in network.parameters())
        assert count == expected[f"{letter}_params"]
        assert size == "small" or count == PUBLISHED_COUNTS[letter]


@pytest.mark.parametrize("mode", ["eval", "train"])
def test_generator_images(mode: str) -> None:
    given = read_arrays("small.npz")
    generator, _ = build("small")
    fill(generator, gain=1)
    with torch.no_grad():
        images = generator.train(mode == "train")(given["z"], given["labels"])
    close(images, given[f"g_images_{mode}"])
    if mode == "train":
        state = generator.state_dict()
        after = {k.split("/")[1]: v for k, v in given.items() if k.startswith("g_after_train/")}
        assert len(after) == 4
        for name, expected in after.items():
            close(state[name], expected)


@torch.no_grad()
def test_discriminator_features_and_logits() -> None:
    given = read_arrays("small.npz")
    _, discriminator = build("small")
    fill(discriminator, gain=1)
    norms = {key.split("/")[1]: v for key, v in given.items() if key.startswith("sn/")}
    discriminator.load_state_dict(discriminator.state_dict() | norms)
    features, logits = discriminator.eval()(given["d_images"], given["labels"])
    close(logits, given["d_logits_eval"])
    assert len(features) == 4
    for k, feature in enumerate(features):
        assert list(feature.shape) == given[f"d_feat{k}_shape"].tolist()
        close(feature[:, :4, :2, :2], given[f"d_feat{k}_slice"])
        moments = torch.stack([feature.double().mean(), feature.double().std(correction=1)])
        close(moments, given["d_feat_meanstd"][k])
    close(discriminator(given["g_images_eval"], given["labels"])[1], given["d_logits_on_g"])


@torch.no_grad()
def test_spectral_norm_advances_in_training() -> None:
    given = read_arrays("small.npz")
    _, discriminator = build("small")
    fill(discriminator, gain=1)
    first = discriminator.train()(given["d_images"], given["labels"])[1]
    close(first, given["d_train_fwd1_logits_from_raw_uv"])
    state = discriminator.state_dict()
    for name in ("netD.0.0", "netD.1.0", "netD.2.0", "netD.3.0", "project.0"):
        close(state[f"{name}.weight_u"], given[f"sn_after1/{name}.weight_u"])
    second = discriminator(given["d_images"], given["labels"])[1]
    close(second, given["d_train_fwd2_logits_from_raw_uv"])


def test_generator_loss_over_24_calls() -> None:
    expected = json.loads((DATA / "losses.json").read_text())["GLoss"]
    given = read_arrays("loss_inputs.npz")
    pixels = nn.functional.l1_loss(given["xs"], given["xt"])
    student, teacher = ([given[f"{kind}{k}"] for k in range(4)] for kind in ("sf", "tf"))
    for call in expected["calls"]:
        lambdas = expected["lambda_pixel"], expected["lambda_gan"]
        weights = original_weights(call["call"], 100, *lambdas, interval=2)
        assert weights.pixel == pytest.approx(call["lambda1_used"], abs=1e-12)
        due = weights.adversarial > 0
        assert due == call["adversarial"]
        adversarial = (given["ds"], given["dr"]) if due else ()
        terms = generator_loss(pixels, student, teacher, weights, adversarial)
        log = call["log"]
        names = {"g_pixels": "Pixel Loss", "g_features": "Feature Loss"}
        if due:
            names["g_student"] = "Adversarial Distillation Loss"
            names["g_random"] = "Adversarial GAN Loss"
        given_terms = {name: log[f"G/{original}"] for name, original in names.items()}
        found = {name: term.item() for name, term in terms.items()}
        assert found == pytest.approx(given_terms | {"g_total": call["total"]}, abs=1e-5)


def test_discriminator_loss() -> None:
    expected = json.loads((DATA / "losses.json").read_text())["DLoss"]["log"]
    given = read_arrays("loss_inputs.npz")
    terms = discriminator_loss(given["dt"], given["ds"], given["dreal"], given["dr"])
    assert len(terms) == len(expected) == 5
    for name, term in terms.items():
        original = f"D/{name.removeprefix('d_').capitalize()} Loss"
        assert term.item() == pytest.approx(expected[original], abs=1e-5)
