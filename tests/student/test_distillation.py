"""The distillation: its steps, resuming, the student's files and faults."""

import json
import signal
import subprocess
import sys
import time
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from torch.nn import functional as F

from lib.common.errors import StudyError
from lib.common.files import ROOT
from lib.common.tensors import load_tensors, save_tensors
from lib.data.samples import SampleSet
from lib.student import steps
from lib.student.batches import AUGMENT, Batch, DistillationData
from lib.student.distillation import Distillation, distill
from lib.student.networks import Discriminator
from lib.student.options import CHANGES, StudentOptions, parse_recipe
from lib.student.sampling import build_student, generate, load_student, sample_student
from lib.student.steps import Weights, one_pass_step, original_step, original_weights
from tests.student.conftest import CONFIG, INFO, OPTIONS, contents

RECIPES = pytest.mark.parametrize("recipe", ["default", "original"])


def start(out: Path, sets: dict[str, Path], options: StudentOptions = OPTIONS) -> Distillation:
    return Distillation(out, DistillationData(**sets, seed=3, options=options), options)


def run(out: Path, sets: dict[str, Path], options: StudentOptions = OPTIONS) -> None:
    distill(out, **sets, seed=3, options=options)


def values(module: torch.nn.Module) -> torch.Tensor:
    return torch.cat([parameter.detach().flatten().clone() for parameter in module.parameters()])


def die(*args) -> None:
    raise KeyboardInterrupt


@RECIPES
def test_killed_run_resumes_to_the_same_bytes(tmp_path, sets, monkeypatch, recipe):
    options = replace(OPTIONS, recipe=recipe)
    run(tmp_path / "whole", sets, options)
    step = Distillation.step

    def killed(self, update):
        if update == 7:  # after the render at 6 and the checkpoint at 6
            die()
        step(self, update)

    monkeypatch.setattr(Distillation, "step", killed)
    for _ in range(2):  # the second run dies again, without any progress
        with pytest.raises(KeyboardInterrupt):
            run(tmp_path / "parts", sets, options)
    assert "checkpoint.safetensors" in contents(tmp_path / "parts")
    monkeypatch.undo()
    run(tmp_path / "parts", sets, options)
    assert contents(tmp_path / "parts") == contents(tmp_path / "whole")
    assert len(contents(tmp_path / "whole")) == 3  # no checkpoint


def test_run_ended_by_sigkill_resumes_to_the_same_bytes(tmp_path, sets):
    options = replace(OPTIONS, epochs=30, checkpoint_updates=5)
    arguments = {name: str(path) for name, path in sets.items()} | asdict(options)
    program = (
        "import json, sys, torch; from pathlib import Path;"
        "from lib.student import StudentOptions, distill;"
        "torch.set_num_threads(1); a = json.loads(sys.argv[2]);"
        "sets = {k: Path(a.pop(k)) for k in ('samples', 'real')};"
        "distill(Path(sys.argv[1]), **sets, seed=3, options=StudentOptions(**a))"
    )
    command = [sys.executable, "-c", program, str(tmp_path / "parts"), json.dumps(arguments)]
    checkpoint = tmp_path / "parts" / "checkpoint.safetensors"
    with subprocess.Popen(command, cwd=ROOT) as process:
        while process.poll() is None and not checkpoint.exists():
            time.sleep(0.01)
        process.kill()
    assert process.returncode == -signal.SIGKILL
    done = load_tensors(checkpoint)[1]["state"]["update"]
    assert 0 < done < 90
    run(tmp_path / "parts", sets, options)
    run(tmp_path / "whole", sets, options)
    assert contents(tmp_path / "parts") == contents(tmp_path / "whole")


def test_renders_after_the_last_checkpoint_are_made_again(tmp_path, sets, monkeypatch):
    options = replace(OPTIONS, checkpoint_updates=5)
    run(tmp_path / "whole", sets, options)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Distillation, "_finish", die)
        run(tmp_path / "parts", sets, options)  # 9 updates, checkpoint at 5, renders at 6 and 9
    with pytest.raises(StudyError, match="checkpoint.safetensors was made with other parameters"):
        run(tmp_path / "parts", sets, replace(options, learning_rate=1e-4))
    run(tmp_path / "parts", sets, options)
    assert contents(tmp_path / "parts") == contents(tmp_path / "whole")


def test_progress_and_log(tmp_path, sets):
    run(tmp_path, sets)
    tensors, record = load_tensors(tmp_path / "progress.safetensors")
    assert record["updates"] == [0, 3, 6, 9]
    assert tensors["epochs"].tolist() == [0, 1, 2, 3]
    assert tensors["images"].shape == (4, 78, 3, 32, 32)
    student = load_student(tmp_path / "student.safetensors")
    images = generate(student, tensors["latents"], tensors["labels"])
    np.testing.assert_array_equal(images, tensors["images"][-1].numpy())
    log = pd.read_csv(tmp_path / "log.csv")
    assert log["update"].tolist() == list(range(1, 10))
    assert log["g_student"].notna().tolist() == [False, True] * 4 + [False]
    assert log["pixel_weight"].iloc[-1] == 0
    *constant, before, last = log["learning_rate"]
    assert constant[:5] == [1e-3] * 5 and 0 < last < before < 1e-3


@RECIPES
def test_one_step_changes_both_networks(tmp_path, sets, recipe):
    training, state = start(tmp_path, sets, replace(OPTIONS, recipe=recipe)), torch.get_rng_state()
    before = {name: values(module) for name, module in training.networks.modules.items()}
    training.step(0)
    after = {name: values(module) for name, module in training.networks.modules.items()}
    assert not torch.equal(before["generator"], after["generator"])
    assert not torch.equal(before["discriminator"], after["discriminator"])
    assert torch.equal(after["average"], after["generator"]) == (recipe == "original")
    assert torch.equal(state, torch.get_rng_state())
    assert (training.networks.discriminator.embed is None) == (recipe == "original")


def test_default_step_generates_once_and_judges_pairs_alike(tmp_path, sets):
    training = start(tmp_path, sets)
    networks, made, states = training.networks, [], []
    networks.generator.register_forward_hook(
        lambda _, inputs, images: made.append((len(inputs[0]), images.requires_grad))
    )
    networks.discriminator.register_forward_hook(
        lambda module, *_: states.append(module.netD[0][0].weight_u.clone())
    )
    for update in (0, 1):  # the second is adversarial: fresh images need gradients, too
        made.clear(), states.clear()
        training.step(update)
        assert made == [(OPTIONS.batch_size, True), (OPTIONS.batch_size, update == 1)]
        assert len(states) == 3  # all images; then the teacher's and the student's features
        assert torch.equal(states[1], states[2])


def test_identical_pair_has_no_feature_loss(tmp_path, sets):
    """A student that reproduces its teacher is at the minimum: same state, same augmentation."""
    training = start(tmp_path, sets)
    batch, n = training.data.batch(0), OPTIONS.batch_size
    with torch.no_grad():
        fakes = training.networks.generator(batch.latents[:n], batch.labels[:n])
    perfect = replace(batch, images=torch.cat([fakes, batch.images[n:]]))
    losses = one_pass_step(training.networks, perfect, Weights(0.2, 0.1))
    assert set(perfect.draws) == {"translation", "cutout"}
    assert losses["g_features"].item() == 0
    assert losses["g_pixels"].item() == 0


def test_original_step_sees_eval_images_at_a_new_epoch(tmp_path, sets):
    training = start(tmp_path, sets, replace(OPTIONS, recipe="original"))
    modes = []
    training.networks.generator.register_forward_hook(
        lambda module, *_: modes.append(module.training)
    )
    for update in range(4):  # three updates an epoch, every second one adversarial
        weights = original_weights(update, 3, interval=2)
        original_step(training.networks, training.data.batch(update), weights)
        modes.append(None)
    without, with_hinge = [True] * 3 + [None], [True] * 4 + [None]
    assert modes[:13] == without + with_hinge + without
    assert modes[13:] == [False, False, True, None]


def test_recipes_are_sets_of_changes():
    assert parse_recipe("original") == set()
    assert parse_recipe("original + projection+average") == {"projection", "average"}
    assert parse_recipe("default") >= {"projection", "one_pass"}
    assert "average" not in parse_recipe("default-average")


@pytest.mark.parametrize(
    ("recipe", "message"),
    [
        ("best", "recipe: 'best' is unknown"),
        ("default-colour", "change 'colour' is unknown; there are projection"),
        ("original+one_pass", "one_pass needs one_state and train_mode"),
        ("default-one_state", "one_pass needs"),
    ],
)
def test_wrong_recipes_are_named(recipe, message):
    with pytest.raises(ValueError, match=message):
        replace(OPTIONS, recipe=recipe)


@pytest.mark.parametrize("change", sorted(set(CHANGES) - {"one_pass"}))
def test_each_change_alone_changes_the_training(tmp_path, sets, change):
    weights = []
    for recipe in ("original", f"original+{change}"):
        training = start(tmp_path, sets, replace(OPTIONS, recipe=recipe, ema_kimg=1e-3))
        for update in range(6):  # three an epoch
            training.step(update)
        weights.append(values(training.networks.average))
    assert len(weights[0]) != len(weights[1]) or not torch.equal(*weights)


def test_original_recipe_has_its_own_weights(tmp_path, sets):
    training = start(tmp_path, sets, replace(OPTIONS, recipe="original"))
    for update in (0, 7, 8):
        rate, weights = training.schedule(update)
        assert rate == 2e-4
        assert weights == Weights(pytest.approx(0.2 - 0.01 * update), 0.0)
    adversarial = [original_weights(update, 25).adversarial for update in range(50)]
    assert [k for k, weight in enumerate(adversarial) if weight == 0.01] == [9, 19, 34, 44]


def test_running_average_halves_its_distance_at_half_life(tmp_path, sets):
    training = start(tmp_path, sets, replace(OPTIONS, ema_kimg=0.008))
    assert training.decay(10**6) == pytest.approx(0.5**0.5)
    average, new = torch.nn.BatchNorm1d(2), torch.nn.BatchNorm1d(2)
    new.running_mean += 1
    new.num_batches_tracked += 5
    steps.update_average(average, new, 0.75)
    assert average.running_mean.tolist() == [0.25, 0.25]
    assert average.num_batches_tracked == 5


@pytest.mark.parametrize("projection", [True, False])
def test_gradients_depend_on_the_class_only_with_projection(projection):
    torch.manual_seed(0)
    judge = Discriminator(8, 3, 8, 3, projection).eval()
    gradients = []
    for label in (0, 2):
        images = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(1))
        images.requires_grad_()
        _, logits = judge(images, F.one_hot(torch.tensor([label, label]), 3).float())
        logits.sum().backward()
        gradients.append(images.grad)
    assert gradients[0].abs().sum() > 0
    assert torch.allclose(*gradients, atol=1e-7) != projection


def show(images: torch.Tensor, draws: dict[str, torch.Tensor]) -> torch.Tensor:
    return Batch(images, images, images, 0, 0, draws).show(images)


@pytest.mark.parametrize("augment", ["color", "translation", "cutout", "color,translation,cutout"])
def test_augmentation_is_differentiable_and_belongs_to_its_draws(augment):
    images = torch.rand(5, 3, 32, 32, generator=torch.Generator().manual_seed(1)) * 2 - 1
    images.requires_grad_()
    random = torch.Generator().manual_seed(4)
    draws, others = (
        {name: torch.rand(5, AUGMENT[name][0], generator=random) for name in augment.split(",")}
        for _ in range(2)
    )
    shown = show(images, draws)
    assert torch.equal(shown, show(images, draws))
    assert not torch.equal(shown, show(images, others))
    assert not torch.equal(shown, images)
    (gradient,) = torch.autograd.grad(shown.square().sum(), images)
    assert gradient.isfinite().all()
    assert gradient.abs().amax((1, 2, 3)).min() > 0


def test_translation_moves_and_cutout_cuts_where_the_draws_say():
    images = torch.arange(1.0, 1025).view(1, 1, 32, 32).repeat(1, 3, 1, 1)
    moved = show(images, {"translation": torch.tensor([[0.999, 0.0]])})
    assert torch.equal(moved[:, :, :28, 4:], images[:, :, 4:, :28])
    assert moved[:, :, 28:].abs().sum() == moved[:, :, :, :4].abs().sum() == 0
    kept = show(images, {"translation": torch.tensor([[0.5, 0.5]])})
    assert torch.equal(kept, images)
    cut = show(images, {"cutout": torch.tensor([[0.5, 0.0]])})
    assert (cut == 0).sum() == 3 * 16 * 8
    assert (cut[:, :, 8:24, :8] == 0).all()


def test_augmentation_is_drawn_where_the_recipe_has_it(sets):
    def drawn(**changes):
        data = DistillationData(**sets, seed=3, options=replace(OPTIONS, **changes))
        return data.batch(0).draws

    shapes = {name: draw.shape for name, draw in drawn(augment="color,translation").items()}
    assert shapes == {"color": (8, 3), "translation": (8, 2)}
    assert drawn(augment="none") == drawn(recipe="default-augment") == {}
    with pytest.raises(ValueError, match="augment"):
        drawn(augment="flip")


def test_residual_student_keeps_its_shape_and_reloads(tmp_path, sets):
    run(tmp_path, sets, replace(OPTIONS, epochs=1, recipe="default+residual"))
    student = load_student(tmp_path / "student.safetensors")
    plain = build_student(student.config | {"residual": False})
    assert len(values(student)) > len(values(plain))
    assert generate(student, np.zeros((2, 6)), np.array([0, 1])).shape == (2, 3, 32, 32)


def sample(out: Path, student: Path, seed: int = 1) -> SampleSet:
    sample_student(out, student=student, per_class=4, seed=seed, batch_size=3, shard_size=5)
    return SampleSet.load(out)


def test_samples_are_balanced_normal_and_reproducible(tmp_path, student_file):
    samples = sample(tmp_path / "a", student_file)
    assert samples.labels.tolist() == [0, 1, 2] * 4
    assert samples.latents.min() < 0 < samples.latents.max()
    assert samples.class_names == ["a", "b", "c"]
    remade = generate(load_student(student_file), samples.latents, samples.labels, 5)
    assert np.abs(remade.astype(int) - samples.images).max() <= 1  # other batches, other rounding
    whole = contents(tmp_path / "a")
    for name in ("shard-00001.safetensors", "samples.json"):
        (tmp_path / "a" / name).unlink()
    sample(tmp_path / "a", student_file)
    assert contents(tmp_path / "a") == whole
    other = sample(tmp_path / "c", student_file, seed=2)
    assert not np.array_equal(other.latents, samples.latents)


@RECIPES
def test_nan_stops_and_keeps_the_last_good_checkpoint(tmp_path, sets, monkeypatch, recipe):
    options = replace(OPTIONS, recipe=recipe)
    batch = DistillationData.batch

    def poisoned(self, update):
        good = batch(self, update)
        return replace(good, images=good.images * float("nan")) if update == 5 else good

    monkeypatch.setattr(DistillationData, "batch", poisoned)
    with pytest.raises(StudyError, match=r"d_\w+ is nan at update 5"):
        run(tmp_path, sets, options)
    tensors, record = load_tensors(tmp_path / "checkpoint.safetensors")
    assert record["state"]["update"] == 4
    assert all(t.isfinite().all() for t in tensors.values())
    monkeypatch.undo()
    run(tmp_path, sets, options)
    assert (tmp_path / "student.safetensors").exists()


def test_a_bad_statistic_is_never_written(tmp_path, sets, monkeypatch):
    step = Distillation.step

    def spoiled(self, update):
        step(self, update)
        if update == 5:  # the checkpoint after this update must not be written
            self.networks.generator.project[1].running_var.fill_(float("inf"))

    monkeypatch.setattr(Distillation, "step", spoiled)
    message = "generator's project.1.running_var is not finite at update 6"
    with pytest.raises(StudyError, match=message):
        run(tmp_path, sets)
    assert load_tensors(tmp_path / "checkpoint.safetensors")[1]["state"]["update"] == 4


def test_a_loss_that_runs_away_stops_the_run(tmp_path, sets):
    options = replace(OPTIONS, recipe="original+learning_rate", learning_rate=1e4)
    with pytest.raises(StudyError, match="lower the learning rate .* and start again"):
        run(tmp_path, sets, options)
    assert not (tmp_path / "student.safetensors").exists()


@RECIPES
def test_steps_run_in_mixed_precision(tmp_path, sets, monkeypatch, recipe):
    def losses() -> dict[str, float]:
        training = start(tmp_path, sets, replace(OPTIONS, recipe=recipe))
        training.step(0)
        assert all(p.dtype == torch.float32 for p in training.networks.generator.parameters())
        return training.state["rows"][0]

    expected = losses()
    monkeypatch.setattr(steps, "mixed_precision", partial(torch.autocast, dtype=torch.bfloat16))
    assert losses() == pytest.approx(expected, abs=0.05)
    assert losses()["d_total"] != expected["d_total"]


def test_wrong_inputs_are_named(tmp_path, sets):
    with pytest.raises(StudyError, match="real has no latents"):
        run(tmp_path, {"samples": sets["real"], "real": sets["real"]})
    with pytest.raises(StudyError, match="has 14 images: batch_size must not exceed"):
        run(tmp_path, sets, replace(OPTIONS, batch_size=15))
    real = SampleSet.load(sets["real"])
    SampleSet(real.images, real.labels, info=INFO | {"class_names": ["x"]}).save(tmp_path / "x")
    with pytest.raises(StudyError, match="different classes"):
        run(tmp_path, sets | {"real": tmp_path / "x"})


def test_files_that_are_no_student_are_named(tmp_path, student_file):
    with pytest.raises(StudyError, match="missing.safetensors"):
        load_student(tmp_path / "missing.safetensors")
    save_tensors(tmp_path / "other.safetensors", torch.nn.Linear(2, 2), {"z_dim": 6})
    with pytest.raises(StudyError, match="lacks c_dim, ngf"):
        load_student(tmp_path / "other.safetensors")
    save_tensors(tmp_path / "other.safetensors", torch.nn.Linear(2, 2), CONFIG)
    with pytest.raises(StudyError, match="other.safetensors"):
        load_student(tmp_path / "other.safetensors")
