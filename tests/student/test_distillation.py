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

from lib.common.errors import StudyError
from lib.common.files import ROOT, hash_tree
from lib.common.tensors import load_tensors, save_tensors
from lib.data.samples import SampleSet, to_float
from lib.gan.batches import MOMENTS
from lib.gan.generator import SynthesisLayer
from lib.gan.training import Training
from lib.student import original
from lib.student.build import build_student
from lib.student.distillation import distill, load_sets
from lib.student.original import OriginalTraining, original_step, original_weights
from lib.student.sampling import generate, load_student, sample_student
from lib.student.source import read_student, student_maker
from lib.student.training import StudentTraining
from tests.student.conftest import CONFIG, INFO, MODULATED, OPTIONS

VARIANTS = {
    "default": {},
    "bfloat16": {"precision": "bfloat16"},
    "old generator": {"generator": "distylegan"},
    "some real": {"real_share": 0.5},
    "original": {"recipe": "original"},
}
EACH = pytest.mark.parametrize("changes", VARIANTS.values(), ids=VARIANTS.keys())
RECIPES = pytest.mark.parametrize("recipe", ["default", "original"])


def start(sets: dict[str, Path], **changes) -> StudentTraining | OriginalTraining:
    options = replace(OPTIONS, **changes)
    kind = OriginalTraining if options.recipe == "original" else StudentTraining
    return kind(*load_sets(**sets, options=options), 3, options)


def run(out: Path, sets: dict[str, Path], **changes) -> None:
    distill(out, **sets, seed=3, options=replace(OPTIONS, **changes))


def values(module: torch.nn.Module) -> torch.Tensor:
    return torch.cat([parameter.detach().flatten().clone() for parameter in module.parameters()])


@EACH
def test_killed_run_resumes_to_the_same_bytes(tmp_path, sets, monkeypatch, changes):
    run(tmp_path / "whole", sets, **changes)
    note = Training.note

    def killed(self, step, losses):
        if step == 6:  # after the checkpoint at 4 and snapshots before and after it
            raise KeyboardInterrupt
        note(self, step, losses)

    monkeypatch.setattr(Training, "note", killed)
    for _ in range(2):  # the second run dies again, without any progress
        with pytest.raises(KeyboardInterrupt):
            run(tmp_path / "parts", sets, **changes)
    assert (tmp_path / "parts" / "checkpoint.safetensors").exists()
    monkeypatch.undo()
    with pytest.raises(StudyError, match="checkpoint.safetensors was made with other parameters"):
        run(tmp_path / "parts", sets, **changes | {"ema_kimg": 5.0})
    run(tmp_path / "parts", sets, **changes)
    assert hash_tree(tmp_path / "parts") == hash_tree(tmp_path / "whole")
    assert not (tmp_path / "parts" / "checkpoint.safetensors").exists()


def test_run_ended_by_sigkill_resumes_to_the_same_bytes(tmp_path, sets):
    options = replace(OPTIONS, kimg=0.8, checkpoint_kimg=0.08)
    arguments = {"samples": str(sets["samples"])} | asdict(options)
    program = (
        "import json, sys, torch; from pathlib import Path;"
        "from lib.student import StudentOptions, distill;"
        "torch.set_num_threads(1); a = json.loads(sys.argv[2]); samples = Path(a.pop('samples'));"
        "distill(Path(sys.argv[1]), samples=samples, seed=3, options=StudentOptions(**a))"
    )
    command = [sys.executable, "-c", program, str(tmp_path / "parts"), json.dumps(arguments)]
    checkpoint = tmp_path / "parts" / "checkpoint.safetensors"
    with subprocess.Popen(command, cwd=ROOT) as process:
        while process.poll() is None and not checkpoint.exists():
            time.sleep(0.01)
        process.kill()
    assert process.returncode == -signal.SIGKILL
    assert 0 < load_tensors(checkpoint)[1]["state"]["step"] < 100
    for name in ("parts", "whole"):
        distill(tmp_path / name, samples=sets["samples"], seed=3, options=options)
    assert hash_tree(tmp_path / "parts") == hash_tree(tmp_path / "whole")


def test_the_student_is_the_mean_of_the_last_moments(tmp_path, sets):
    run(tmp_path / "one", sets)
    run(tmp_path / "three", sets, final_moments=3)
    last = sorted((tmp_path / "one/moments").iterdir())[-3:]
    for name, tensor in load_tensors(tmp_path / "three/student.safetensors")[0].items():
        mean = sum(load_tensors(file)[0][name] for file in last) / 3
        torch.testing.assert_close(tensor, mean)
    assert [file.read_bytes() for file in last] == [
        (tmp_path / "three/moments" / file.name).read_bytes() for file in last
    ]


@RECIPES
def test_what_a_training_writes(tmp_path, sets, recipe):
    run(tmp_path, sets, recipe=recipe)
    tensors, record = load_tensors(tmp_path / "snapshots.safetensors")
    assert tensors["images"].shape == (MOMENTS, 12, 3, 32, 32)
    assert tensors["labels"].tolist() == [0, 1, 2] * 4
    student = load_student(tmp_path / "student.safetensors")
    assert student.config == record and record["class_names"] == ["a", "b", "c"]
    samples = SampleSet.load(sets["samples"])  # whose first of each class the snapshots show
    first = [int(np.flatnonzero(samples.labels == k % 3)[k // 3]) for k in range(12)]
    images = generate(student, samples.latents[first], tensors["labels"])
    np.testing.assert_array_equal(images, tensors["images"][-1].numpy())
    moments = sorted((tmp_path / "moments").iterdir())
    steps = sorted(set(tensors["steps"].tolist()))
    assert [float(path.stem) for path in moments] == [step * 8 / 1000 for step in steps]
    assert moments[-1].read_bytes() == (tmp_path / "student.safetensors").read_bytes()
    log = pd.read_csv(tmp_path / "log.csv")
    assert log["step"].tolist() == list(range(1, 11))
    assert log["auc"].between(0, 1).all()
    if recipe == "default":  # the pairing ends after half of the images
        assert log["pair_features"].notna().tolist() == [True] * 5 + [False] * 5
        assert log["r1"].notna().tolist() == [True, False] * 5


@EACH
def test_one_step_changes_both_networks(sets, changes):
    training, state = start(sets, **changes), torch.get_rng_state()
    before = {name: values(module) for name, module in training.networks.items()}
    training.step(0)
    after = {name: values(module) for name, module in training.networks.items()}
    assert not torch.equal(before["generator"], after["generator"])
    assert not torch.equal(before["discriminator"], after["discriminator"])
    assert torch.equal(state, torch.get_rng_state())


def test_the_default_sees_no_real_image(tmp_path, sets):
    run(tmp_path / "with", sets)
    run(tmp_path / "without", {"samples": sets["samples"]})
    assert hash_tree(tmp_path / "with") == hash_tree(tmp_path / "without")
    for changes in ({"recipe": "original"}, {"real_share": 0.1}):
        with pytest.raises(StudyError, match="want real images"):
            run(tmp_path / "none", {"samples": sets["samples"]}, **changes)


def test_real_share_replaces_whole_groups_of_the_same_classes(sets):
    training = start(sets, real_share=0.5)
    (samples, labels), (real, others) = training.batches.real(0), training.real.real(0)
    shown = training.judged(0, samples)
    assert torch.equal(labels, others)
    replaced = [torch.equal(shown[k], real[k]) for k in range(8)]
    assert replaced == [True, False] * 4
    assert all(torch.equal(shown[k], samples[k]) for k in range(1, 8, 2))


def test_a_student_that_reproduces_its_teacher_has_no_distance_to_it(sets):
    training = start(sets, ada_kimg=1e-6)
    training.adaptive.p = 1.0  # both must be seen under the same augmentation
    images, labels = training.batches.real(0)

    def maps_of(fake: torch.Tensor) -> list[torch.Tensor]:
        shown = training.show(fake, "generator", 0)
        return training.discriminator.maps_and_logits(shown, labels)[0]

    loss, parts = training.pairing(0, images, maps_of(images), images, labels)
    assert loss == parts["pair_features"] == parts["pair_pixels"] == 0
    other = -images, maps_of(-images), images, labels
    for step, left in ((0, 1), (training.steps // 4, 0.6)):
        loss, parts = training.pairing(step, *other)
        assert parts["pair_pixels"].item() == pytest.approx(2 * images.abs().mean().item())
        assert parts["pair_features"] > 0
        assert loss.item() == pytest.approx(left * sum(part.item() for part in parts.values()))
    assert training.pairing(training.steps // 2, *other) == (0.0, {})


def test_images_belong_to_the_latents_of_the_batch(sets):
    training, samples = start(sets), SampleSet.load(sets["samples"])
    index = training.batches.index(4)
    images, labels = training.batches.real(4)
    assert torch.equal(images, to_float(torch.from_numpy(samples.images[index])))
    expected = training.generator(torch.from_numpy(samples.latents[index]), labels)
    assert torch.equal(training.generate(4, labels), expected)
    layers = [part for part in training.generator.modules() if isinstance(part, SynthesisLayer)]
    assert layers and not any(layer.use_noise for layer in layers)


def test_original_step_sees_eval_images_at_a_new_epoch(sets):
    training = start(sets, recipe="original")
    modes = []
    training.generator.register_forward_hook(lambda module, *_: modes.append(module.training))
    for step in range(4):  # three an epoch, every second one adversarial
        weights = original_weights(step, 3, interval=2)
        batch = replace(training.data.batch(step), epoch=step // 3, position=step % 3)
        original_step(training.pair, batch, weights)
        modes.append(None)
    without, with_hinge = [True] * 3 + [None], [True] * 4 + [None]
    assert modes[:13] == without + with_hinge + without
    assert modes[13:] == [False, False, True, None]


def test_original_recipe_has_its_own_rate_and_weights(sets):
    training = start(sets, recipe="original", learning_rate=0.5)
    training.step(0)
    assert {adam.param_groups[0]["lr"] for adam in training.optimizers.values()} == {2e-4}
    assert [original_weights(k, 25).pixel for k in (0, 7, 20)] == pytest.approx([0.2, 0.13, 0])
    adversarial = [original_weights(update, 25).adversarial for update in range(50)]
    assert [k for k, weight in enumerate(adversarial) if weight == 0.01] == [9, 19, 34, 44]


def test_running_average_halves_its_distance_at_half_life(sets):
    training = start(sets, ema_kimg=0.008, generator="distylegan")
    before = {name: tensor.clone() for name, tensor in training.average.state_dict().items()}
    for tensor in training.generator.state_dict().values():
        tensor.add_(1)
    training.update_average(10**6)
    for name, tensor in training.average.state_dict().items():
        half = 1 if "num_batches" in name else 0.5
        torch.testing.assert_close(
            tensor, before[name] + half, rtol=0, atol=1e-6, check_dtype=False
        )


@RECIPES
def test_nan_stops_and_keeps_the_last_good_checkpoint(tmp_path, sets, monkeypatch, recipe):
    kind = {"default": StudentTraining, "original": OriginalTraining}[recipe]
    step = kind.step

    def poisoned(self, number):
        if number == 6:
            next(self.generator.parameters()).data.fill_(float("nan"))
        return step(self, number)

    monkeypatch.setattr(kind, "step", poisoned)
    with pytest.raises(StudyError, match="is nan at step 6: lower the learning rate"):
        run(tmp_path, sets, recipe=recipe)
    tensors, record = load_tensors(tmp_path / "checkpoint.safetensors")
    assert record["state"]["step"] == 4
    assert all(t.isfinite().all() for t in tensors.values())
    monkeypatch.undo()
    run(tmp_path, sets, recipe=recipe)
    assert (tmp_path / "student.safetensors").exists()


def test_a_bad_statistic_is_never_written(tmp_path, sets, monkeypatch):
    step = StudentTraining.step

    def spoiled(self, number):
        losses = step(self, number)
        if number == 7:  # the checkpoint after this step must not be written
            self.generator.mapping.w_avg.fill_(float("inf"))
        return losses

    monkeypatch.setattr(StudentTraining, "step", spoiled)
    with pytest.raises(StudyError, match="generator's mapping.w_avg is not finite at step 8"):
        run(tmp_path, sets)
    assert load_tensors(tmp_path / "checkpoint.safetensors")[1]["state"]["step"] == 4


def test_original_steps_run_in_mixed_precision(sets, monkeypatch):
    def losses() -> dict[str, float]:
        training = start(sets, recipe="original")
        found = training.step(0)
        assert all(p.dtype == torch.float32 for p in training.generator.parameters())
        return {name: value.item() for name, value in found.items() if name != "auc"}

    expected = losses()
    monkeypatch.setattr(original, "mixed_precision", partial(torch.autocast, dtype=torch.bfloat16))
    assert losses() == pytest.approx(expected, abs=0.05)
    assert losses()["d_total"] != expected["d_total"]


def test_wrong_inputs_are_named(tmp_path, sets):
    with pytest.raises(StudyError, match="real has no latents"):
        run(tmp_path, sets | {"samples": sets["real"]})
    with pytest.raises(StudyError, match="batch_size 10 is no multiple of 4"):
        run(tmp_path, sets, batch_size=10)
    with pytest.raises(StudyError, match="there are 9 real images: batch_size must not exceed"):
        run(tmp_path, sets, batch_size=12, recipe="original")
    real = SampleSet.load(sets["real"])
    SampleSet(real.images, real.labels, info=INFO | {"class_names": ["x"]}).save(tmp_path / "x")
    with pytest.raises(StudyError, match="different classes"):
        run(tmp_path, sets | {"real": tmp_path / "x"}, recipe="original")


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
    whole = hash_tree(tmp_path / "a")
    for name in ("shard-00001.safetensors", "samples.json"):
        (tmp_path / "a" / name).unlink()
    sample(tmp_path / "a", student_file)
    assert hash_tree(tmp_path / "a") == whole
    other = sample(tmp_path / "c", student_file, seed=2)
    assert not np.array_equal(other.latents, samples.latents)


@pytest.mark.parametrize(("config", "missing"), [(CONFIG, "c_dim"), (MODULATED, "mapping_kwargs")])
def test_files_that_are_no_student_are_named(tmp_path, config, missing):
    with pytest.raises(StudyError, match=r"missing.safetensors"):
        load_student(tmp_path / "missing.safetensors")
    path = tmp_path / "other.safetensors"
    lacking = {name: value for name, value in config.items() if name != missing}
    save_tensors(path, build_student(config), lacking)
    with pytest.raises(StudyError, match=f"the configuration lacks {missing}"):
        load_student(path)
    save_tensors(path, torch.nn.Linear(2, 2), config)
    with pytest.raises(StudyError, match=r"other.safetensors does not fit"):
        load_student(path)


def test_a_student_is_trained_or_taken_from_a_file(tmp_path, sets, student_file):
    plan = student_maker("train", options=OPTIONS, seed=3)
    assert plan["build"] is distill and set(plan["inputs"]) == {"samples"}
    plan = student_maker("train", options=replace(OPTIONS, real_share=0.5), seed=3)
    assert plan["inputs"]["real"] == "real/train"
    plan = student_maker(str(student_file), options=OPTIONS, seed=3)
    given = plan["options"] | plan["run_options"]
    plan["build"](tmp_path, samples=sets["samples"], **given)
    taken, config = load_tensors(tmp_path / "student.safetensors")
    assert all(
        torch.equal(taken[key], value) for key, value in load_tensors(student_file)[0].items()
    )
    assert config["origin"] == "student.safetensors" and config["sha256"] == given["sha256"]
    with pytest.raises(StudyError, match="classes a, b, c; x, y are wanted: choose another file"):
        read_student(student_file, ["x", "y"])
