"""Training of the teacher: batches, steps, checkpoints, states to go on from."""

import csv
import io
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from lib.common.errors import StudyError
from lib.common.files import ROOT, hash_tree
from lib.common.tensors import load_tensors
from lib.data.samples import SampleSet
from lib.gan.adversarial import interleave
from lib.gan.batches import MOMENTS, Batches
from lib.gan.discriminator import DiscriminatorBlock
from lib.gan.generator import SynthesisLayer
from lib.teacher.source import STATE, check_start, read_record, round_state
from lib.teacher.training import TeacherTraining
from tests.teacher.conftest import OPTIONS, train


def trainer_of(real, **changes) -> TeacherTraining:
    return TeacherTraining(SampleSet.load(real), 3, replace(OPTIONS, **changes))


def test_training_writes_teacher_log_and_snapshots(trained):
    files = ["log.csv", "snapshots.safetensors", "teacher.safetensors", "training.safetensors"]
    assert sorted(hash_tree(trained)) == files
    rows = list(csv.DictReader(io.StringIO((trained / "log.csv").read_text())))
    assert [int(row["step"]) for row in rows] == [1, 2, 3, 4, 5, 6]
    assert [bool(row["r1"]) for row in rows] == [True, False] * 3
    assert all(math.isfinite(float(row[name])) for row in rows for name in row if name != "r1")
    assert float(rows[-1]["kimg"]) == pytest.approx(0.048)
    tensors, record = load_tensors(trained / "snapshots.safetensors")
    assert tensors["images"].shape == (MOMENTS, 12, 3, 32, 32)
    assert tensors["steps"].tolist()[0] == 0 and tensors["steps"].tolist()[-1] == 6
    assert not torch.equal(tensors["images"][0], tensors["images"][-1])
    assert tensors["labels"].tolist() == [0, 1, 2] * 4
    assert record["class_names"] == ["dark", "grey", "light"] and record["data"] == "blobs"


@pytest.mark.parametrize("stop", [1, 3, 5])
def test_resumed_training_ends_in_the_same_bytes(real, trained, tmp_path, stop):
    resume_after_a_kill(tmp_path, stop, real)
    assert hash_tree(tmp_path) == hash_tree(trained)


def test_training_in_bfloat16_resumes_to_the_same_bytes(real, trained, tmp_path):
    train(tmp_path / "at once", real, precision="bfloat16")
    resume_after_a_kill(tmp_path / "twice", 3, real, precision="bfloat16")
    assert hash_tree(tmp_path / "twice") == hash_tree(tmp_path / "at once") != hash_tree(trained)


def resume_after_a_kill(out, stop, real, **changes):
    """Train until step `stop`, then again from the last of the checkpoints every two steps."""
    step, done = TeacherTraining.step, []

    def fail(trainer, number):
        if number == stop:
            raise KeyboardInterrupt
        return step(trainer, number)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(TeacherTraining, "step", fail)
        with pytest.raises(KeyboardInterrupt):
            train(out, real, **changes)
        assert (out / "checkpoint.safetensors").exists() == (stop >= 2)
        patch.setattr(TeacherTraining, "step", lambda s, n: (done.append(n), step(s, n))[1])
        train(out, real, **changes)
    assert done[0] == stop // 2 * 2


def test_bfloat16_is_the_precision_of_feature_maps_alone(real):
    trainers, losses, seen = {}, {}, {"float32": set(), "bfloat16": set()}
    for precision, types in seen.items():
        trainers[precision] = trainer_of(real, precision=precision)
        for part in trainers[precision].networks.values():
            for module in part.modules():
                if isinstance(module, SynthesisLayer | DiscriminatorBlock):
                    module.register_forward_hook(
                        lambda _, inputs, output, types=types: types.add(
                            (output[0] if isinstance(output, tuple) else output).dtype
                        )
                    )
        losses[precision] = trainers[precision].step(1)  # one without the penalty
    assert seen == {"float32": {torch.float32}, "bfloat16": {torch.bfloat16}}
    exact, rounded = losses.values()
    for part in trainers["bfloat16"].networks.values():
        assert {p.dtype for p in part.parameters()} <= {torch.float32}
    for name in ("loss_generator", "loss_discriminator"):
        one, other = exact[name].item(), rounded[name].item()
        assert one != other and one == pytest.approx(other, rel=0.05)


def test_the_penalty_is_the_same_in_either_precision(real):
    gradients = []
    for precision in ("float32", "bfloat16"):
        trainer = trainer_of(real, precision=precision)
        images, labels = trainer.batches.real(0)
        trainer.r1_step(0, images, labels)  # through the second derivative
        parts = [p.grad.flatten() for p in trainer.discriminator.parameters() if p.grad is not None]
        gradients.append(torch.cat(parts))
        blocks = [m for m in trainer.discriminator.modules() if isinstance(m, DiscriminatorBlock)]
        assert {block.precision for block in blocks} == {getattr(torch, precision)}
    assert gradients[0].any() and torch.equal(*gradients)


def test_rounding_leaves_the_gradients_their_direction(real):
    gradients = []
    for precision in ("float32", "bfloat16"):
        trainer = trainer_of(real, precision=precision)
        images, labels = trainer.batches.real(1)
        fake, _ = trainer.generator_step(1, images, labels)
        both = [p.grad.flatten() for p in trainer.generator.parameters() if p.grad is not None]
        trainer.discriminator_step(1, images, labels, fake)
        both += [p.grad.flatten() for p in trainer.discriminator.parameters() if p.grad is not None]
        gradients.append(torch.cat(both))
    assert not torch.equal(*gradients) and torch.cosine_similarity(*gradients, dim=0) > 0.99


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
    assert [int(row["step"]) for row in rows] == [1, 2, 3, 4, 5, 6]


def test_a_training_that_went_on_resumes_to_the_same_bytes(real, begun, tmp_path):
    train(tmp_path / "at once", real, start=begun)
    resume_after_a_kill(tmp_path / "twice", 5, real, start=begun)
    assert hash_tree(tmp_path / "twice") == hash_tree(tmp_path / "at once")


def test_the_published_state_is_one_to_go_on_from():
    state = ROOT / "outputs" / "cifar10-cpu" / "weights" / "teacher-start.safetensors"
    assert read_record(state).step * read_record(state).options.batch_size == 2_800_000


def test_a_rounded_state_goes_on_with_this_trainings_settings(real, begun, tmp_path):
    rounded = tmp_path / "state.safetensors"
    round_state(Path(begun), rounded)
    assert rounded.stat().st_size < 0.3 * Path(begun).stat().st_size
    trainer = trainer_of(real, learning_rate=0.5)
    assert trainer.go_on_from(rounded) == 3
    exact, _ = load_tensors(begun)
    for name, weight in trainer.generator.state_dict().items():
        assert weight.dtype == torch.float32
        torch.testing.assert_close(weight, exact[f"module/generator/{name}"], rtol=0.01, atol=0)
    assert trainer.optimizers["generator"].param_groups[0]["lr"] == 0.5
    adam = trainer.optimizers["generator"]
    assert not adam.state
    trainer.step(3)
    moments = adam.state[trainer.generator.mapping.fc0.weight]
    assert moments["step"] == 1 and moments["exp_avg_sq"].dtype == torch.float32


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


def test_the_seed_matters_and_the_global_generator_stays(real, trained, tmp_path):
    before = torch.get_rng_state()
    train(tmp_path, real, seed=4)
    assert hash_tree(tmp_path)["teacher.safetensors"] != hash_tree(trained)["teacher.safetensors"]
    assert torch.equal(torch.get_rng_state(), before)


def test_a_checkpoint_of_other_parameters_is_refused(real, tmp_path):
    trainer = trainer_of(real)
    trainer.save(tmp_path / "checkpoint.safetensors", 2)
    with pytest.raises(StudyError, match="other parameters"):
        train(tmp_path, real, learning_rate=0.1)


def test_divergence_stops_and_keeps_the_checkpoint(real, tmp_path, monkeypatch):
    step = TeacherTraining.step

    def poison(trainer, number):
        if number == 3:
            trainer.generator.synthesis.b4.const.data.fill_(float("nan"))
        return step(trainer, number)

    monkeypatch.setattr(TeacherTraining, "step", poison)
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
    batches = Batches(SampleSet.load(real), "teacher", seed=0, batch_size=8, device="cpu")
    images, labels = zip(*(batches.real(step) for step in range(11)), strict=True)
    images, labels = torch.cat(images), torch.cat(labels).argmax(dim=1)
    for label, members in enumerate(batches.members):
        shown = images[labels == label].flatten(1)
        assert len(shown) > len(members)
        distances = torch.cdist(shown, shown)
        assert (distances < 1e-3).sum(dim=1).max() <= -(-len(shown) // len(members)) + 1
        assert len(shown.unique(dim=0)) == len(members)


def test_groups_share_a_class_and_classes_are_balanced(real):
    batches = Batches(SampleSet.load(real), "teacher", seed=0, batch_size=8, device="cpu")
    counts = torch.zeros(3)
    for step in range(6):
        (images, labels), z = batches.real(step), batches.latents(step, 4)
        assert images.shape == (8, 3, 32, 32) and z.shape == (8, 4)
        assert torch.equal(labels.view(4, 2, 3), labels[:2].expand(4, 2, 3))
        counts += labels.sum(dim=0)
    assert counts.tolist() == [16, 16, 16]


def test_a_class_without_images_is_refused():
    info = {"class_names": ["a", "b"], "data": "blobs"}
    one = SampleSet(np.zeros((4, 3, 32, 32), np.uint8), np.zeros(4, np.int64), None, info)
    with pytest.raises(StudyError, match="lack a class"):
        Batches(one, "teacher", 0, 4, "cpu")


def test_real_and_fake_share_no_group():
    mixed = interleave(torch.zeros(8, 1), torch.ones(8, 1)).flatten()
    groups = mixed.view(4, 4)  # of 16 images, 4 groups: image i belongs to group i mod 4
    assert mixed[0::2].sum() == 0
    assert all(len(set(groups[:, k].tolist())) == 1 for k in range(4))
