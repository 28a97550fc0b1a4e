"""Augmentation, training and sampling of the teacher."""

import csv
import io
import math
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from lib.common.errors import StudyError
from lib.common.files import ROOT, hash_tree
from lib.common.tensors import load_tensors, save_tensors
from lib.data.samples import SampleSet, read_shard
from lib.gan.augment import AdaptiveProbability, Augment, grid_sample
from lib.gan.discriminator import DiscriminatorBlock
from lib.gan.generator import SynthesisLayer
from lib.teacher import training as teacher_training
from lib.teacher.batches import Batches
from lib.teacher.options import SamplingOptions, TeacherOptions
from lib.teacher.sampling import (
    choose_backend,
    generate,
    load_teacher,
    open_teacher,
    sample_latents,
    sample_teacher,
    set_precision,
)
from lib.teacher.source import STATE, check_start, round_state
from lib.teacher.training import TeacherTrainer, interleave, train_teacher

OFFICIAL_LAYOUT = ROOT / "tests" / "fixtures" / "stylegan2" / "tiny_p4.pkl"
OPTIONS = TeacherOptions(
    kimg=0.048,
    batch_size=8,
    z_dim=8,
    w_dim=8,
    mapping_layers=2,
    mapping_lr_multiplier=0.1,
    label_lr_multiplier=1.0,
    channel_base=64,
    channel_max=8,
    learning_rate=0.002,
    r1_gamma=0.1,
    r1_interval=2,
    ema_kimg=1.0,
    ada_target=0.6,
    ada_kimg=0.1,
    precision="float32",
    checkpoint_kimg=0.016,
)
SAMPLING = SamplingOptions(
    per_class=7,
    truncation=0.9,
    backend="torch",
    batch_size=4,
    shard_size=9,
)
PROGRESS = [4, 8, 9, 13, 17, 21]  # of 21 images in shards of 9 and batches of 4


def train(out, real, seed=3, start="", start_sha256="", **changes) -> None:
    begin = {"start": start, "start_sha256": start_sha256}
    train_teacher(out, real=real, seed=seed, options=replace(OPTIONS, **changes), **begin)


def trainer_of(real, **changes) -> TeacherTrainer:
    return TeacherTrainer(SampleSet.load(real), 3, replace(OPTIONS, **changes))


def draws(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def unit_images(n: int = 4, side: int = 16) -> torch.Tensor:
    return torch.rand(n, 3, side, side, generator=draws()) * 2 - 1


@pytest.fixture(scope="module")
def real(tmp_path_factory):
    random = np.random.default_rng(0)
    labels = np.arange(20) % 3
    images = random.integers(0, 60, (20, 3, 32, 32)) + 60 * labels[:, None, None, None]
    info = {"class_names": ["dark", "grey", "light"], "data": "blobs"}
    folder = tmp_path_factory.mktemp("real")
    SampleSet(images.astype(np.uint8), labels.astype(np.int64), None, info).save(folder)
    return folder


@pytest.fixture(scope="module")
def trained(real, tmp_path_factory):
    out = tmp_path_factory.mktemp("teacher")
    train(out, real)
    return out


def test_no_augmentation_at_probability_zero():
    images = unit_images()
    assert Augment()(images, 0.0, draws()) is images


def test_weakest_augmentation_is_the_identity():
    still = Augment(**{name: 0 for name in Augment.__dataclass_fields__})
    images = unit_images()
    torch.testing.assert_close(still(images, 1.0, draws()), images, rtol=0, atol=1e-5)


def test_every_augmentation_changes_images_and_keeps_them_finite():
    images, neutral = unit_images(), {name: 0 for name in Augment.__dataclass_fields__}
    for name, field in Augment.__dataclass_fields__.items():
        strength = True if name in ("xflip", "rotate90") else field.default
        changed = Augment(**{**neutral, name: strength})(images, 1.0, draws(1))
        assert changed.shape == images.shape and changed.isfinite().all()
        assert (changed - images).abs().max() > 0.01, name


def test_probability_is_the_share_of_changed_images():
    only = {name: 0 for name in Augment.__dataclass_fields__} | {"brightness_std": 1.0}
    images = torch.zeros(2000, 3, 4, 4)
    changed = Augment(**only)(images, 0.3, draws()).flatten(1).any(dim=1)
    assert changed.float().mean() == pytest.approx(0.3, abs=0.04)


def test_integer_shifts_move_whole_pixels():
    neutral = {name: 0 for name in Augment.__dataclass_fields__}
    images = unit_images(400, side=16)
    changed = Augment(**neutral | {"integer_shift": 0.125})(images, 1.0, draws())
    centres = changed[:, :, 4:12, 4:12]
    windows = images.unfold(2, 8, 1).unfold(3, 8, 1)[:, :, 2:7, 2:7]
    distance = (windows - centres[:, :, None, None]).abs().amax(dim=[1, 4, 5]).flatten(1)
    assert distance.amin(dim=1).max() < 1e-4
    assert distance.argmin(dim=1).unique().numel() == 25


def test_augmentation_depends_on_the_generator_alone():
    images = unit_images()
    one, same, other = (Augment()(images, 0.8, draws(seed)) for seed in (1, 1, 2))
    assert torch.equal(one, same) and not torch.allclose(one, other, atol=1e-2)


def test_sampling_has_exact_second_derivatives():
    turn = torch.tensor([[[0.8, -0.3, 0.1], [0.2, 0.9, -0.2]]], dtype=torch.float64)
    grid = torch.nn.functional.affine_grid(turn, [1, 2, 4, 4], align_corners=False)
    x = torch.randn(1, 2, 4, 4, generator=draws(), dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: grid_sample(x, grid), x)
    assert torch.autograd.gradgradcheck(lambda x: grid_sample(x, grid).square(), x)


def test_r1_passes_through_the_augmentation():
    images = unit_images().requires_grad_(True)
    weight = torch.randn(3, 16, 16, generator=draws(1), requires_grad=True)
    logits = (Augment()(images, 1.0, draws()) * weight).square().sum()
    (gradient,) = torch.autograd.grad(logits, images, create_graph=True)
    gradient.square().sum().backward()
    assert weight.grad.isfinite().all() and weight.grad.abs().sum() > 0


def test_probability_follows_overfitting():
    adaptive = AdaptiveProbability(target=0.6, kimg=1, interval=2)
    for step in range(4):
        adaptive.observe(torch.ones(10))
        adaptive.update(step)
    assert adaptive.p == pytest.approx(0.04)
    for step in range(4, 6):
        adaptive.observe(torch.tensor([1.0] * 7 + [-1.0] * 3))  # mean sign 0.4
        adaptive.update(step)
    assert adaptive.p == pytest.approx(0.02)
    still = AdaptiveProbability(target=0, kimg=1, interval=1)
    still.observe(torch.ones(10))
    still.update(0)
    assert still.p == 0


def test_training_writes_teacher_log_and_snapshots(trained):
    files = ["log.csv", "snapshots.safetensors", "teacher.safetensors", "training.safetensors"]
    assert sorted(hash_tree(trained)) == files
    rows = list(csv.DictReader(io.StringIO((trained / "log.csv").read_text())))
    assert [int(row["step"]) for row in rows] == [2, 4, 6]
    assert all(math.isfinite(float(row[name])) for row in rows for name in row)
    assert float(rows[-1]["kimg"]) == pytest.approx(0.048)
    tensors, record = load_tensors(trained / "snapshots.safetensors")
    assert tensors["images"].shape == (10, 12, 3, 32, 32)
    assert tensors["steps"].tolist()[0] == 0 and tensors["steps"].tolist()[-1] == 6
    assert not torch.equal(tensors["images"][0], tensors["images"][-1])
    assert tensors["labels"].tolist() == [0, 1, 2] * 4
    assert record["class_names"] == ["dark", "grey", "light"] and record["data"] == "blobs"


@pytest.mark.parametrize("stop", [1, 3, 5])
def test_resumed_training_ends_in_the_same_bytes(real, trained, tmp_path, monkeypatch, stop):
    resume_after_a_kill(tmp_path, monkeypatch, stop, real)
    assert hash_tree(tmp_path) == hash_tree(trained)


def test_training_in_bfloat16_resumes_to_the_same_bytes(real, trained, tmp_path, monkeypatch):
    train(tmp_path / "at once", real, precision="bfloat16")
    resume_after_a_kill(tmp_path / "twice", monkeypatch, 3, real, precision="bfloat16")
    assert hash_tree(tmp_path / "twice") == hash_tree(tmp_path / "at once") != hash_tree(trained)


def resume_after_a_kill(out, monkeypatch, stop, real, **changes):
    step = TeacherTrainer.step

    def fail_at(trainer, number):
        if number == stop:
            raise KeyboardInterrupt
        step(trainer, number)

    monkeypatch.setattr(TeacherTrainer, "step", fail_at)
    with pytest.raises(KeyboardInterrupt):
        train(out, real, **changes)
    assert (out / "checkpoint.safetensors").exists() == (stop >= 2)
    done = []
    monkeypatch.setattr(TeacherTrainer, "step", lambda s, n: (done.append(n), step(s, n)))
    train(out, real, **changes)
    assert done[0] == stop // 2 * 2


def test_bfloat16_is_the_precision_of_feature_maps_alone(real):
    trainers, seen = {}, {"float32": set(), "bfloat16": set()}
    for precision, types in seen.items():
        trainers[precision] = trainer_of(real, precision=precision)
        for part in trainers[precision].networks().values():
            for module in part.modules():
                if isinstance(module, SynthesisLayer | DiscriminatorBlock):
                    module.register_forward_hook(
                        lambda _, inputs, output, types=types: types.add(
                            (output[0] if isinstance(output, tuple) else output).dtype
                        )
                    )
        trainers[precision].step(0)
    assert seen == {"float32": {torch.float32}, "bfloat16": {torch.bfloat16}}
    exact, rounded = trainers.values()
    for part in rounded.networks().values():
        assert {p.dtype for p in part.parameters()} <= {torch.float32}
    for name in ("loss_generator", "loss_discriminator"):
        one, other = exact.sums[name][0], rounded.sums[name][0]
        assert one != other and one == pytest.approx(other, rel=0.05)


def test_rounding_leaves_the_gradients_their_direction(real):
    gradients, penalties = [], []
    for precision in ("float32", "bfloat16"):
        trainer = trainer_of(real, precision=precision)
        images, labels = trainer.batches.real(0)
        trainer.r1_step(0, images, labels)  # through the second derivative
        parts = [p.grad.flatten() for p in trainer.discriminator.parameters() if p.grad is not None]
        gradients.append(torch.cat(parts))
        penalties += trainer.sums["r1"]
    assert penalties[0] != penalties[1] and penalties[0] == pytest.approx(penalties[1], rel=0.05)
    assert torch.cosine_similarity(*gradients, dim=0) > 0.99


@pytest.fixture(scope="module")
def begun(real, tmp_path_factory):
    """Half of the training `trained`."""
    out = tmp_path_factory.mktemp("begun")
    train(out, real, kimg=0.024)
    return str(out / STATE)


def test_two_trainings_end_in_the_weights_of_one(real, trained, begun, tmp_path):
    train(tmp_path, real, start=begun, start_sha256=check_start(begun))
    whole, parts = (load_tensors(folder / "teacher.safetensors") for folder in (trained, tmp_path))
    assert whole[1] == parts[1]
    assert all(torch.equal(whole[0][name], parts[0][name]) for name in whole[0])
    snapshots, _ = load_tensors(tmp_path / "snapshots.safetensors")
    assert snapshots["steps"].tolist()[0] == 3 and snapshots["steps"].tolist()[-1] == 6
    assert snapshots["images"].flatten(1).any(dim=1).all()
    rows = list(csv.DictReader(io.StringIO((tmp_path / "log.csv").read_text())))
    assert [int(row["step"]) for row in rows] == [2, 3, 4, 6]


def test_a_training_that_went_on_resumes_to_the_same_bytes(real, begun, tmp_path, monkeypatch):
    train(tmp_path / "at once", real, start=begun)
    step = TeacherTrainer.step

    def fail_at_5(trainer, number):
        if number == 5:
            raise KeyboardInterrupt
        step(trainer, number)

    monkeypatch.setattr(TeacherTrainer, "step", fail_at_5)
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path / "twice", real, start=begun)
    monkeypatch.setattr(TeacherTrainer, "step", step)
    train(tmp_path / "twice", real, start=begun)
    assert hash_tree(tmp_path / "twice") == hash_tree(tmp_path / "at once")


def test_a_rounded_state_goes_on_with_this_trainings_settings(real, begun, tmp_path):
    rounded = tmp_path / "state.safetensors"
    round_state(Path(begun), rounded)
    assert rounded.stat().st_size < 0.5 * Path(begun).stat().st_size
    trainer = trainer_of(real, learning_rate=0.5)
    assert trainer.go_on_from(rounded) == 3
    exact, _ = load_tensors(begun)
    for name, weight in trainer.generator.state_dict().items():
        assert weight.dtype == torch.float32
        torch.testing.assert_close(weight, exact[f"module/generator/{name}"], rtol=0.01, atol=0)
    assert trainer.optimizer_g.param_groups[0]["lr"] == 0.5
    moments = trainer.optimizer_g.state[trainer.generator.mapping.fc0.weight]
    assert moments["step"] == 3 and moments["exp_avg_sq"].dtype == torch.float32
    trainer.step(3)


def test_unfit_states_are_refused(real, trained, begun, tmp_path):
    with pytest.raises(StudyError, match="missing"):
        check_start(str(tmp_path / "none.safetensors"))
    with pytest.raises(StudyError, match="no training state of a teacher"):
        check_start(str(trained / "teacher.safetensors"))
    with pytest.raises(StudyError, match="0.024 thousand images already: raise teacher_kimg"):
        train(tmp_path, real, start=begun, kimg=0.024)
    with pytest.raises(StudyError, match="does not fit"):
        train(tmp_path, real, start=begun, channel_max=16)
    others = SampleSet.load(real)
    others.info["class_names"] = ["a", "b", "c"]
    others.save(tmp_path / "others")
    with pytest.raises(StudyError, match="other classes"):
        train(tmp_path, tmp_path / "others", start=begun)
    with pytest.raises(StudyError, match="not the file it was"):
        train(tmp_path, real, start=begun, start_sha256="0" * 64)


def test_the_seed_matters(real, trained, tmp_path):
    train(tmp_path, real, seed=4)
    assert hash_tree(tmp_path)["teacher.safetensors"] != hash_tree(trained)["teacher.safetensors"]


def test_training_does_not_touch_the_global_generator(real, tmp_path):
    torch.manual_seed(11)
    before = torch.get_rng_state()
    train(tmp_path, real, kimg=0.008)
    assert torch.equal(torch.get_rng_state(), before)


def test_a_checkpoint_of_other_parameters_is_refused(real, tmp_path):
    trainer = trainer_of(real)
    trainer.save(tmp_path / "checkpoint.safetensors", 2)
    with pytest.raises(StudyError, match="other parameters"):
        train(tmp_path, real, learning_rate=0.1)


def test_divergence_stops_and_keeps_the_checkpoint(real, tmp_path, monkeypatch):
    step = TeacherTrainer.step

    def poison(trainer, number):
        if number == 3:
            trainer.generator.synthesis.b4.const.data.fill_(float("nan"))
        step(trainer, number)

    monkeypatch.setattr(TeacherTrainer, "step", poison)
    with pytest.raises(StudyError, match="loss_generator is nan at step 3"):
        train(tmp_path, real)
    assert (tmp_path / "checkpoint.safetensors").exists()


def test_learning_rates_of_the_mappings_are_set_apart(real):
    trainer = trainer_of(real)
    assert trainer.generator.mapping.fc0.bias_gain == 0.1
    assert trainer.discriminator.mapping.fc0.bias_gain == 1.0


def test_an_odd_batch_is_refused(real, tmp_path):
    with pytest.raises(StudyError, match="batch_size 6"):
        train(tmp_path, real, batch_size=6)


def test_each_class_shows_every_image_once_an_epoch(real):
    batches = Batches(SampleSet.load(real), seed=0, batch_size=8, z_dim=4, device="cpu")
    images, labels = zip(*(batches.real(step) for step in range(11)), strict=True)
    images, labels = torch.cat(images), torch.cat(labels).argmax(dim=1)
    for label, members in enumerate(batches.members):
        shown = images[labels == label].flatten(1)
        assert len(shown) > len(members)
        distances = torch.cdist(shown, shown)
        assert (distances < 1e-3).sum(dim=1).max() <= -(-len(shown) // len(members)) + 1
        assert len(shown.unique(dim=0)) == len(members)


def test_groups_share_a_class_and_classes_are_balanced(real):
    batches = Batches(SampleSet.load(real), seed=0, batch_size=8, z_dim=4, device="cpu")
    counts = torch.zeros(3)
    for step in range(6):
        (images, labels), (z, fake_labels) = batches.real(step), batches.fake(step)
        assert images.shape == (8, 3, 32, 32) and z.shape == (8, 4)
        assert torch.equal(labels, fake_labels)
        assert torch.equal(labels.view(4, 2, 3), labels[:2].expand(4, 2, 3))
        counts += labels.sum(dim=0)
    assert counts.tolist() == [16, 16, 16]


def test_a_class_without_images_is_refused():
    info = {"class_names": ["a", "b"], "data": "blobs"}
    one = SampleSet(np.zeros((4, 3, 32, 32), np.uint8), np.zeros(4, np.int64), None, info)
    with pytest.raises(StudyError, match="lack a class"):
        Batches(one, 0, 4, 4, "cpu")


def test_real_and_fake_share_no_group():
    mixed = interleave(torch.zeros(8, 1), torch.ones(8, 1)).flatten()
    groups = mixed.view(4, 4)  # of 16 images, 4 groups: image i belongs to group i mod 4
    assert mixed[0::2].sum() == 0
    assert all(len(set(groups[:, k].tolist())) == 1 for k in range(4))


def test_loaded_teacher_is_the_trained_average(trained):
    generator, record = open_teacher(trained / "teacher.safetensors")
    assert record["class_names"] == ["dark", "grey", "light"] and record["data"] == "blobs"
    assert (generator.z_dim, generator.c_dim, generator.num_ws) == (8, 3, 8)
    assert not generator.training and not any(p.requires_grad for p in generator.parameters())
    tensors, _ = load_tensors(trained / "snapshots.safetensors")
    z = torch.randn(12, 8, generator=teacher_training.torch_generator(3, "teacher snapshot"))
    images = generator(z, torch.eye(3)[tensors["labels"]], noise_mode="const")
    assert torch.equal(teacher_training.to_uint8(images), tensors["images"][-1])


def test_other_files_are_no_teacher(trained, tmp_path):
    with pytest.raises(StudyError, match="missing"):
        load_teacher(tmp_path / "teacher.safetensors")
    with pytest.raises(StudyError, match=r"expected one of .*safetensors"):
        load_teacher(tmp_path / "teacher.txt")
    with pytest.raises(StudyError, match="holds no teacher"):
        save_tensors(tmp_path / "a.safetensors", {"x": torch.zeros(2)}, {})
        load_teacher(tmp_path / "a.safetensors")
    with pytest.raises(StudyError, match="other weights than its record says"):
        load_teacher(trained / "snapshots.safetensors")
    cut = tmp_path / "cut.safetensors"
    cut.write_bytes((trained / "teacher.safetensors").read_bytes()[:5000])
    with pytest.raises(StudyError, match="damaged"):
        load_teacher(cut)


def test_a_record_that_asks_for_more_than_the_weights_is_refused(trained, tmp_path):
    state, record = load_tensors(trained / "teacher.safetensors")
    for change in ({"z_dim": 10**9}, {"z_dim": "64"}, {"depth": 3}, {"w_dim": 128}):
        changed = record | {"generator": record["generator"] | change}
        save_tensors(tmp_path / "b.safetensors", state, changed)
        with pytest.raises(StudyError, match="b.safetensors"):
            load_teacher(tmp_path / "b.safetensors")


def test_samples_of_another_seed_are_made_anew(trained, tmp_path):
    sample(trained, tmp_path / "x")
    sample(trained, tmp_path / "x", seed=99)
    sample(trained, tmp_path / "y", seed=99)
    assert hash_tree(tmp_path / "x") == hash_tree(tmp_path / "y")


def test_one_call_makes_a_teachers_images(trained):
    generator = load_teacher(trained / "teacher.safetensors")
    z = np.random.default_rng(0).standard_normal((5, generator.z_dim))
    labels = np.arange(5, dtype=np.uint8) % generator.c_dim
    images = generate(generator, z, labels)
    assert images.shape == (5, 3, 32, 32) and images.dtype == np.uint8
    assert np.array_equal(images, generate(generator, z, labels, batch_size=2))
    assert not np.array_equal(images, generate(generator, z, (labels + 1) % generator.c_dim))


def test_latents_depend_on_seed_and_shard():
    latents = sample_latents(500, 16, seed=1, shard=2)
    assert latents.shape == (500, 16) and latents.dtype == torch.float32
    assert latents.mean().abs() < 0.05 and latents.std() == pytest.approx(1, abs=0.05)
    assert torch.equal(latents, sample_latents(500, 16, seed=1, shard=2))
    assert not torch.equal(latents, sample_latents(500, 16, seed=1, shard=3))
    assert not torch.equal(latents, sample_latents(500, 16, seed=2, shard=2))
    uniform = sample_latents(500, 16, 1, 2, "uniform")
    assert uniform.min() >= 0 and uniform.max() < 1


def sample(trained, out, seed=5, **changes) -> SampleSet:
    options = replace(SAMPLING, **changes)
    sample_teacher(out, teacher=trained / "teacher.safetensors", seed=seed, options=options)
    return SampleSet.load(out)


def test_samples_are_balanced_and_recorded(trained, tmp_path):
    samples = sample(trained, tmp_path)
    assert samples.images.shape == (21, 3, 32, 32) and samples.latents.shape == (21, 8)
    assert np.bincount(samples.labels).tolist() == [7, 7, 7]
    shard, _ = read_shard(tmp_path / "shard-00001.safetensors")
    assert np.bincount(shard["labels"]).tolist() == [3, 3, 3]
    assert samples.class_names == ["dark", "grey", "light"]
    assert samples.info["truncation"] == 0.9 and samples.info["latent_distribution"] == "normal"
    generator = load_teacher(trained / "teacher.safetensors")
    labels = torch.eye(3)[samples.labels]
    images = generator(torch.from_numpy(samples.latents), labels, 0.9, noise_mode="const")
    difference = teacher_training.to_uint8(images).int() - torch.from_numpy(samples.images).int()
    assert difference.abs().max() <= 1


@pytest.mark.parametrize("noise_mode", ["const", "random"])
def test_batches_do_not_change_the_samples(trained, tmp_path, noise_mode):
    one = sample(trained, tmp_path / "a", noise_mode=noise_mode)
    two = sample(trained, tmp_path / "b", noise_mode=noise_mode, batch_size=9)
    assert np.array_equal(one.latents, two.latents)
    assert np.abs(one.images.astype(int) - two.images.astype(int)).max() <= 1


def test_sampling_resumes_to_the_same_bytes(trained, tmp_path):
    sample(trained, tmp_path / "a")
    sample(trained, tmp_path / "b")
    (tmp_path / "b" / "samples.json").unlink()
    (tmp_path / "b" / "shard-00001.safetensors").unlink()
    kept = (tmp_path / "b" / "shard-00000.safetensors").stat().st_mtime_ns
    sample(trained, tmp_path / "b")
    assert hash_tree(tmp_path / "a") == hash_tree(tmp_path / "b")
    assert (tmp_path / "b" / "shard-00000.safetensors").stat().st_mtime_ns == kept


def test_sampling_options_matter(trained, tmp_path):
    base = sample(trained, tmp_path / "base")
    for name, value in [("seed", 6), ("truncation", 0.3), ("latent_distribution", "uniform")]:
        other = sample(trained, tmp_path / name, **{name: value})
        assert not np.array_equal(other.images, base.images), name


def test_sampling_survives_a_kill(trained, tmp_path):
    """Kill -9 in the middle of sampling, sample again: the bytes of one uninterrupted run."""
    options = replace(SAMPLING, per_class=30)
    teacher = trained / "teacher.safetensors"
    script = (
        "import sys, time; from pathlib import Path; import lib.teacher.sampling as t;"
        "import lib.teacher.options as o;"
        f"chosen = o.{options!r};"
        "f = t.sample_latents;"
        "t.sample_latents = lambda *a: time.sleep(0.5) or f(*a);"
        "t.sample_teacher(Path(sys.argv[1]), teacher=Path(sys.argv[2]), seed=5, options=chosen)"
    )
    command = [sys.executable, "-c", script, str(tmp_path / "a"), str(teacher)]
    process = subprocess.Popen(command, cwd=ROOT)
    try:
        while not (tmp_path / "a" / "shard-00001.safetensors").exists():
            assert process.poll() is None, "sampling ended before it was killed"
            time.sleep(0.02)
    finally:
        process.kill()
        process.wait()
    kept = hash_tree(tmp_path / "a")
    assert process.returncode == -signal.SIGKILL and "samples.json" not in kept
    for folder in ("a", "b"):
        sample_teacher(tmp_path / folder, teacher=teacher, seed=5, options=options)
    found = hash_tree(tmp_path / "a")
    assert found == hash_tree(tmp_path / "b") and len(found) == 11
    assert {k: v for k, v in kept.items() if not k.startswith(".")}.items() <= found.items()


def test_a_sample_takes_few_bytes_beside_its_numbers(trained, tmp_path):
    """50,000 samples with latents of 512 numbers must fit into 300 MB."""
    sample(trained, tmp_path, per_class=3000, shard_size=4500, batch_size=500)
    disk = sum(path.stat().st_size for path in tmp_path.iterdir())
    overhead = disk / 9000 - (3 * 32 * 32 + 8 + 4 * 8)
    assert overhead < 1
    assert 50_000 * (3 * 32 * 32 + 8 + 4 * 512 + overhead) < 300e6


def test_progress_of_sampling_is_in_images(trained, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("lib.common.progress.PAUSE", 0)
    monkeypatch.setattr("lib.common.progress.person_watches", lambda: False)
    sample(trained, tmp_path / "x")
    *lines, last = capsys.readouterr().out.splitlines()
    assert last.startswith("teacher: 21 images in ") and last.endswith("/s")
    assert [line.split(",")[0] for line in lines] == [f"teacher: {n}/21 images" for n in PROGRESS]
    assert all("/s, " in line and line.endswith(" s left") for line in lines)


def test_backends_make_the_same_images(trained, tmp_path):
    one = sample(trained, tmp_path / "a", backend="openvino")
    made = hash_tree(tmp_path / "a")
    (tmp_path / "a" / "shard-00001.safetensors").write_bytes(b"damaged")
    sample(trained, tmp_path / "a", backend="openvino")
    assert hash_tree(tmp_path / "a") == made
    two = sample(trained, tmp_path / "b", backend="torch")
    assert np.array_equal(one.latents, two.latents) and one.info == two.info
    assert np.abs(one.images.astype(int) - two.images.astype(int)).max() <= 1


@pytest.mark.parametrize(
    ("backend", "precision", "message"),
    [
        ("jax", "float32", "sampling_backend 'jax' is unknown"),
        ("torch", "float16", "float16 needs device: cuda"),
        ("openvino", "float16", "float16 needs device: cuda"),
        ("torch", "bfloat16", "sampling_precision 'bfloat16' is unknown"),
    ],
)
def test_unfit_backends_are_refused(trained, backend, precision, message):
    generator = load_teacher(trained / "teacher.safetensors")
    with pytest.raises(StudyError, match=message):
        choose_backend(generator, backend, precision, batch_size=4)


def test_half_precision_is_where_the_network_marks_it():
    generator = load_teacher(OFFICIAL_LAYOUT)
    blocks = [getattr(generator.synthesis, f"b{side}") for side in (4, 8, 16, 32)]
    marked = [block.use_fp16 for block in blocks]
    gpu = torch.device("cuda")
    set_precision(generator, "float16", gpu)
    types = [block.dtype(gpu) for block in blocks]
    assert types == [torch.float16 if mark else torch.float32 for mark in marked]
    set_precision(generator, "float32", gpu)
    assert {block.dtype(gpu) for block in blocks} == {torch.float32}
    set_precision(generator, "float16", gpu)
    assert [block.dtype(gpu) for block in blocks] == types
    for block in blocks:
        block.marked_fp16 = False
    with pytest.raises(StudyError, match="marks no blocks"):
        set_precision(generator, "float16", gpu)
