"""Training as the original did, step by step, and its checkpoint folder."""

import json
import os
import pickle
from copy import deepcopy
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch.nn import functional as F
from torch.optim import Adam

from lib.common.errors import StudyError
from lib.student.batches import Batch
from lib.student.networks import Discriminator, Generator
from lib.student.original import (
    Networks,
    original_learning_rate,
    original_step,
    original_weights,
)
from lib.student.original_checkpoint import (
    OriginalCheckpoint,
    import_original_student,
    load_original,
    save_original,
)
from lib.student.sampling import load_student

SIZES = {"z_dim": 7, "c_dim": 3, "ngf": 20, "project_dim": 5, "nc": 3, "ndf": 6}
LAMBDAS = {"lambda_pixel": 0.05, "lambda_ganG": 0.3, "lambda_ganD": 0.4}
PER_EPOCH, INTERVAL, N = 5, 3, 4


def build(sizes: dict[str, int]) -> tuple[Generator, Discriminator]:
    torch.manual_seed(0)
    generator = Generator(**{k: v for k, v in sizes.items() if k != "ndf"})
    return generator, Discriminator(sizes["ndf"], sizes["c_dim"], sizes["project_dim"], sizes["nc"])


def make_batch(update: int, sizes: dict[str, int], n: int = N) -> Batch:
    draws = torch.Generator().manual_seed(update)
    labels = torch.randint(sizes["c_dim"], (2 * n,), generator=draws)
    return Batch(
        images=torch.rand(2 * n, sizes["nc"], 32, 32, generator=draws) * 2 - 1,
        labels=F.one_hot(labels, sizes["c_dim"]).float(),
        latents=torch.randn(3 * n, sizes["z_dim"], generator=draws),
        epoch=update // PER_EPOCH,
        position=update % PER_EPOCH,
    )


def train_by_the_book(generator, judge, batches: list[Batch]) -> list[float]:
    """Train as facts and papers state the original's loop, written apart from the library's."""
    adam_g = Adam(generator.parameters(), 2e-4, betas=(0.5, 0.999))
    adam_d = Adam(judge.parameters(), 2e-4, betas=(0.5, 0.999))
    pixel_weight, losses = LAMBDAS["lambda_pixel"], []
    for batch in batches:
        (teacher, real), (c, rc) = batch.images.chunk(2), batch.labels.chunk(2)
        z, noise, noise_again = batch.latents.chunk(3)
        if batch.position == 0 and batch.epoch > 0:
            generator.eval()  # the original renders its test grid between epochs
        features_teacher, d_teacher = judge(teacher, c)
        features_teacher = [feature.detach() for feature in features_teacher]
        d_student = judge(generator(z, c).detach(), c)[1]
        d_real = judge(real, rc)[1]
        d_random = judge(generator(noise, rc).detach(), rc)[1]
        pair = F.relu(1 - d_teacher).mean() + F.relu(1 + d_student).mean()
        other = F.relu(1 - d_real).mean() + F.relu(1 + d_random).mean()
        loss_d = pair + LAMBDAS["lambda_ganD"] * other
        adam_d.zero_grad()
        loss_d.backward()
        adam_d.step()

        generator.train()
        image = generator(z, c)
        features, d_student = judge(image, c)
        loss_g = pixel_weight * (image - teacher).abs().mean()
        for k, one, two in zip((16, 8, 4, 1), features, features_teacher, strict=True):
            loss_g = loss_g + (one - two).abs().mean() / k
        if (batch.position + 1) % INTERVAL == 0:
            d_random = judge(generator(noise_again, rc), rc)[1]
            hinge = -d_student.mean() - 0.2 * d_random.mean()
            loss_g = loss_g + LAMBDAS["lambda_ganG"] * hinge
        adam_g.zero_grad()
        loss_g.backward()
        adam_g.step()
        pixel_weight = max(0.0, pixel_weight - 0.01)
        losses += [loss_d.item(), loss_g.item()]
    return losses


def train(networks: Networks, batches: list[Batch]) -> list[float]:
    pixel, adversarial, random = LAMBDAS.values()
    losses = []
    for update, batch in enumerate(batches):
        weights = original_weights(update, PER_EPOCH, pixel, adversarial, INTERVAL, random)
        terms = original_step(networks, batch, weights)
        losses += [terms["d_total"].item(), terms["g_total"].item()]
    return losses


@pytest.mark.parametrize(
    "changed", [{}, {"nc": 1, "c_dim": 7}, {"ngf": 8, "ndf": 3, "z_dim": 2, "project_dim": 1}]
)
def test_twelve_updates_are_the_originals(changed):
    sizes = SIZES | changed
    generator, judge = build(sizes)
    networks = Networks(deepcopy(generator), deepcopy(judge))
    batches = [make_batch(update, sizes) for update in range(12)]
    expected = train_by_the_book(generator, judge, batches)
    assert train(networks, batches) == pytest.approx(expected, abs=1e-5)
    for mine, theirs in ((networks.generator, generator), (networks.discriminator, judge)):
        states = mine.state_dict(), theirs.state_dict()
        torch.testing.assert_close(*states, rtol=0, atol=1e-5)


def test_learning_rate_falls_where_the_original_lets_it():
    assert original_learning_rate(1.0, 349_999, 450_000) == 1.0
    assert original_learning_rate(1.0, 399_999, 450_000) == pytest.approx(0.5)
    assert original_learning_rate(1.0, 449_999, 450_000) == pytest.approx(0.0)
    assert original_learning_rate(1.0, 58_499, 58_500) == 1.0


@pytest.fixture()
def trained() -> OriginalCheckpoint:
    networks = Networks(*build(SIZES))
    train(networks, [make_batch(update, SIZES) for update in range(3)])
    noise, labels = torch.randn(4, SIZES["z_dim"]), torch.eye(4, SIZES["c_dim"])
    log = {"epoch": 1, "lossG": {"G/Total Loss": 0.5}, "lossD": {"D/Total Loss": 1.5}}
    return OriginalCheckpoint(networks, SIZES | LAMBDAS, log, noise, labels)


def test_checkpoint_goes_round_and_the_training_goes_on_alike(tmp_path, trained):
    save_original(tmp_path, trained)
    names = "config.json discriminator.pt generator.pt labels.pt log.json noise.pt"
    names += " optimizerD.pt optimizerG.pt"
    assert sorted(path.name for path in tmp_path.iterdir()) == names.split()
    loaded = load_original(tmp_path)
    assert (loaded.config, loaded.log) == (trained.config, trained.log)
    assert torch.equal(loaded.noise, trained.noise) and torch.equal(loaded.labels, trained.labels)
    batches = [make_batch(update, SIZES) for update in range(3, 6)]
    assert train(loaded.networks, batches) == train(trained.networks, batches)
    for name in ("generator", "discriminator"):
        mine, theirs = (c.networks.modules[name].state_dict() for c in (loaded, trained))
        torch.testing.assert_close(mine, theirs, rtol=0, atol=0)


def test_files_of_the_run_may_lie_two_folders_above(tmp_path, trained):
    folder = tmp_path / "checkpoints" / "epoch-1"
    save_original(folder, trained)
    for name in ("config.json", "noise.pt", "labels.pt"):
        os.replace(folder / name, tmp_path / name)
    assert torch.equal(load_original(folder).noise, trained.noise)


def test_old_optimizer_states_are_read(tmp_path, trained):
    """Torch of 2022 kept plain step counts and fewer options."""
    save_original(tmp_path, trained)
    state = torch.load(tmp_path / "optimizerG.pt", weights_only=True)
    for entry in state["state"].values():
        entry["step"] = int(entry["step"])
    kept = ("lr", "betas", "eps", "weight_decay", "amsgrad", "params")
    state["param_groups"] = [{k: state["param_groups"][0][k] for k in kept}]
    torch.save(state, tmp_path / "optimizerG.pt")
    batches = [make_batch(update, SIZES) for update in range(3, 6)]
    assert train(load_original(tmp_path).networks, batches) == train(trained.networks, batches)


def test_imported_generator_is_a_student(tmp_path, trained):
    save_original(tmp_path, trained)
    path = tmp_path / "student.safetensors"
    import_original_student(tmp_path, path, ["a", "b", "c"], "test")
    student = load_student(path)
    expected = trained.networks.generator.eval()(trained.noise, trained.labels)
    assert torch.equal(student(trained.noise, trained.labels), expected)
    with pytest.raises(StudyError, match="3 classes, but 1 names given"):
        import_original_student(tmp_path, path, ["a"], "test")


class Hostile:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


@pytest.mark.parametrize("name", ["generator", "optimizerD", "noise"])
@pytest.mark.parametrize(
    "writer", [torch.save, lambda value, path: path.write_bytes(pickle.dumps(value, 2))]
)
def test_hostile_pickles_are_refused(tmp_path, trained, name, writer):
    save_original(tmp_path, trained)
    writer({"weight": Hostile(tmp_path / "executed")}, tmp_path / f"{name}.pt")
    with pytest.raises(StudyError, match=f"{name}.pt is damaged or holds more than tensors"):
        load_original(tmp_path)
    assert not (tmp_path / "executed").exists()


@pytest.mark.parametrize(
    ("name", "key", "message"),
    [
        ("generator.pt", None, "generator.pt is missing"),
        ("labels.pt", None, "labels.pt is missing"),
        ("log.json", None, "log.json is missing"),
        ("config.json", "ngf", "config.json lacks ngf"),
        ("generator.pt", "fc.0.weight", r"generator.pt does not fit Generator: .*fc.0.weight"),
        ("discriminator.pt", "project.0.weight_u", r"discriminator.pt .*project.0.weight_u"),
        ("optimizerG.pt", "state", "optimizerG.pt does not fit the networks"),
    ],
)
def test_what_is_missing_is_named(tmp_path, trained, name, key, message):
    save_original(tmp_path, trained)
    path = tmp_path / name
    if key is None:
        path.unlink()
    elif name == "config.json":
        path.write_text(json.dumps({k: v for k, v in trained.config.items() if k != key}))
    else:
        state = torch.load(path, weights_only=True)
        del state[key]
        torch.save(state, path)
    with pytest.raises(StudyError, match=message):
        load_original(tmp_path)


def test_files_that_do_not_fit_are_named(tmp_path, trained):
    save_original(tmp_path, replace(trained, noise=trained.noise[:3]))
    with pytest.raises(StudyError, match="noise.pt and labels.pt must hold as many rows, of 7"):
        load_original(tmp_path)
    (tmp_path / "generator.pt").write_bytes(b"PK\x03\x04 cut")
    with pytest.raises(StudyError, match="generator.pt is damaged"):
        load_original(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps(trained.config | {"ngf": 1e9}))
    with pytest.raises(StudyError, match="ngf is 1000000000.0"):
        load_original(tmp_path)
