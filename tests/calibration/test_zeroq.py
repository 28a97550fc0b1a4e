"""ZeroQ's images: their statistics, determinism, resumption, errors."""

import csv
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from lib.calibration import zeroq
from lib.calibration.options import ZeroQOptions
from lib.calibration.zeroq import (
    StatisticsLoss,
    can_have_zeroq,
    distil,
    make_zeroq_set,
    make_zeroq_sets,
)
from lib.classifiers.build import NormalizedClassifier, build_classifier
from lib.classifiers.training import WEIGHTS
from lib.common.errors import StudyError
from lib.common.tensors import save_tensors
from lib.data.real import load_digits_32
from lib.data.samples import SampleSet

NAMES = ["ant", "bee", "cat"]
ZEROQ = ZeroQOptions(per_class=4, steps=25, batch_size=6)
OPTIONS = dict(class_names=NAMES, options=ZEROQ, seed=1)
SMALL = "resnet20_x0_5"


def with_statistics_of(name, images):
    """An untrained classifier whose batch normalisations have seen the images."""
    torch.manual_seed(0)
    network = NormalizedClassifier(build_classifier(name, 3), mean=[0.5] * 3, std=[0.5] * 3)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = None  # the plain mean over batches
    network.train()
    with torch.no_grad():
        for part in np.split(images, 4):
            network(torch.from_numpy(part).float())
    return network.eval()


def save(network, name, folder):
    config = {"name": name, "mean": [0.5] * 3, "std": [0.5] * 3, "seed": 0}
    config |= {"num_classes": 3, "class_names": NAMES}
    save_tensors(folder / WEIGHTS, network.model, config)
    return folder


@pytest.fixture(scope="module")
def real():
    return load_digits_32()[0].images[:134]


@pytest.fixture(scope="module")
def network(real):
    return with_statistics_of(SMALL, real[:128])


@pytest.fixture(scope="module")
def classifier(network, tmp_path_factory):
    return save(network, SMALL, tmp_path_factory.mktemp("classifier"))


@pytest.fixture(scope="module")
def made(classifier, tmp_path_factory):
    folder = tmp_path_factory.mktemp("zeroq")
    make_zeroq_set(folder, classifier=classifier, **OPTIONS)
    return folder


def test_loss_by_hand():
    network = NormalizedClassifier(nn.BatchNorm2d(3), mean=[0.5] * 3, std=[0.5] * 3)
    network.model.running_mean[:] = torch.tensor([1.0, 0.0, 0.0])
    network.model.running_var[:] = 4.0
    loss = StatisticsLoss(network)
    black = np.zeros((2, 3, 32, 32), np.uint8)  # -1 once normalised, without spread
    # input: mean 1² off 0, deviation 1² off 1; norm: means 2², 1², 1² off, deviations 2² off
    assert loss.of(black) == pytest.approx((1 + 1) + (6 / 3 + 4), abs=0.02)


def test_images_match_the_network_better_than_noise(network, made, real):
    loss = StatisticsLoss(network)
    found = SampleSet.load(made).images
    rng = np.random.default_rng(0)
    mean, std = real.mean((0, 2, 3)), real.std((0, 2, 3))
    gaussian = rng.standard_normal((6, 3, 32, 32)) * std[:, None, None] + mean[:, None, None]
    gaussian = np.clip(gaussian, 0, 255).astype(np.uint8)
    noise = rng.integers(0, 256, (6, 3, 32, 32), dtype=np.uint8)
    assert loss.of(real[128:]) < loss.of(found[:6])
    assert loss.of(found[:6]) < 0.3 * min(loss.of(gaussian), loss.of(noise))


def test_statistics_of_every_layer_come_closer(network, made):
    noise = torch.randn(6, *zeroq.IMAGE_SHAPE, generator=torch.Generator().manual_seed(5))
    start = (255 * (0.5 * noise + 0.5)).clamp(0, 255)
    made = torch.from_numpy(SampleSet.load(made).images[:6]).float()
    distances = [by_layer(network, images) for images in (start, made)]
    nearer = [found < start for start, found in zip(*distances, strict=True)]
    assert len(nearer) > 15 and np.mean(nearer) > 0.8


def by_layer(network, pixels):
    found = []
    norms = [m for m in network.modules() if isinstance(m, nn.BatchNorm2d)]

    def note(norm, inputs):
        off = inputs[0].mean((0, 2, 3)) - norm.running_mean
        spread = inputs[0].std((0, 2, 3)) - norm.running_var.sqrt()
        found.append((off.square() + spread.square()).mean().item())

    handles = [norm.register_forward_pre_hook(note) for norm in norms]
    with torch.no_grad():
        network(pixels)
    for handle in handles:
        handle.remove()
    return found


def test_labels_take_turns_and_the_record_says_what_was_done(made):
    samples = SampleSet.load(made)
    assert samples.labels.tolist() == [0, 1, 2] * 4
    assert samples.info["kind"] == "zeroq" and samples.info["steps"] == ZEROQ.steps
    with open(made / zeroq.LOSSES, encoding="utf-8", newline="") as file:
        rows = [{k: float(v) for k, v in row.items()} for row in csv.DictReader(file)]
    assert [row["batch"] for row in rows] == [0, 1]
    for row in rows:
        assert row["optimised"] < 0.3 * row["start"]
        assert row["stored"] == pytest.approx(row["optimised"], rel=0.02)


def test_an_interrupted_run_ends_in_the_same_bytes(classifier, made, tmp_path, monkeypatch):
    class Killed(Exception):
        pass

    def fail_later(loss, *arguments):
        if calls:
            raise Killed
        calls.append(1)
        return distil(loss, *arguments)

    calls = []
    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(zeroq, "distil", fail_later)
        make_zeroq_set(tmp_path, classifier=classifier, **OPTIONS)
    assert not (tmp_path / "samples.json").exists()
    monkeypatch.setattr(zeroq, "distil", lambda *a: calls.append(1) or distil(*a))
    make_zeroq_set(tmp_path, classifier=classifier, **OPTIONS)
    assert len(calls) == 2  # the finished batch is not made again
    for path in made.iterdir():
        assert (tmp_path / path.name).read_bytes() == path.read_bytes()


def test_the_seed_and_the_network_decide(classifier, real, tmp_path):
    short = OPTIONS | {"options": replace(ZEROQ, per_class=2, steps=2)}
    repvgg = with_statistics_of("repvgg_a0_x0_25", real[:32])
    folders = {"a": classifier, "b": save(repvgg, "repvgg_a0_x0_25", tmp_path / "repvgg")}
    make_zeroq_sets(tmp_path / "sets", classifiers=folders, **short)
    make_zeroq_set(tmp_path / "other", classifier=classifier, **short | {"seed": 2})
    first, second, other = (
        SampleSet.load(tmp_path / name).images for name in ("sets/a", "sets/b", "other")
    )
    assert first.shape == second.shape == (6, 3, 32, 32)
    assert not np.array_equal(first, second) and not np.array_equal(first, other)


def test_a_network_without_batch_normalisation_is_named():
    network = NormalizedClassifier(nn.Sequential(nn.Flatten(), nn.Linear(3072, 3)))
    with pytest.raises(StudyError, match="zeroq needs a network with batch normalisation"):
        StatisticsLoss(network)


def test_images_are_optimised_only_for_networks_that_can_have_them():
    names = ["resnet20", "repvgg_a0_x0_5", "efficientnet_b0_x0_25", "efficientnet_lite0", "vit_p4"]
    assert [can_have_zeroq(name) for name in names] == [True, True, True, False, False]
