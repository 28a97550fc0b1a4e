"""Published weights: half precision, cards, what is left out."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch

from lib.classifiers.training import load_classifier, predict, train_classifier
from lib.common.errors import StudyError
from lib.common.files import ROOT, sha256_file
from lib.common.tensors import load_tensors
from lib.data.real import prepare_real
from lib.data.samples import SampleSet
from lib.publish.weights import (
    generator_measures,
    half,
    hardware,
    publish_weights,
    training_time,
)
from lib.student.distillation import distill
from lib.student.sampling import load_student
from lib.study import study as study_module
from lib.study.output_folder import output_folder
from lib.study.params import read_profile, validate
from lib.study.study import Study
from lib.teacher.sampling import generate, load_teacher
from lib.teacher.source import adopt_teacher, check_start
from lib.teacher.training import train_teacher

NETWORKS = ["resnet20_x0_5", "student", "teacher"]
TINY = validate(read_profile(ROOT / "params" / "tiny.yaml")).model_dump()


def sample_once(out, *, teacher):
    """Write 40 images of the teacher."""
    network = load_teacher(teacher / "teacher.safetensors")
    z = np.random.default_rng(0).standard_normal((40, network.z_dim)).astype(np.float32)
    labels = np.arange(40, dtype=np.int64) % 10
    info = {"class_names": [str(k) for k in range(10)], "data": "digits", "maker": "teacher"}
    info |= {"latent_distribution": "normal"}
    SampleSet(generate(network, z, labels), labels, z, info).save(out)


@pytest.fixture(scope="module")
def params(tmp_path_factory):
    """A study's parameters whose folder holds a trained teacher and a trained classifier."""
    folder = tmp_path_factory.mktemp("weights")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(study_module, "code_fingerprint", lambda function: "code")
        values = TINY | {"output_dir": str(folder), "teacher_kimg": 0.032}
        study = Study.open("05_quantization", values)
        real = {"data": "digits", "source": "", "name": "", "seed": 1, "test_images": 50}
        real |= {"validation_images": 1700}
        study.make("real", prepare_real, options=real, run_options={"data_dir": ""})
        inputs = {"real": "real/train"}
        options = {"seed": 1, "options": validate(values).options("teacher")}
        study.make("teacher", train_teacher, inputs=inputs, options=options)
        study.make("teacher_samples", sample_once, inputs={"teacher": "teacher"})
        options = {"seed": 1, "options": replace(validate(values).options("student"), kimg=0.032)}
        study.make("student", distill, inputs={"samples": "teacher_samples"}, options=options)
        name, training = "resnet20_x0_5", validate(values).options("classifier")
        options = {"name": name, "seed": 1, "options": replace(training, epochs=1)}
        study.make(f"classifier-{name}", train_classifier, inputs=inputs, options=options)
        yield validate(values)


def test_a_card_says_what_the_time_leaves_out():
    whole = {"seconds": 90.0, "resumed": False}
    assert training_time(None, {}) == "not recorded"
    assert training_time(whole, {"start": ""}) == training_time(whole, {}) == "1.5 min"
    cut = training_time(whole | {"resumed": True}, {"start": "training.safetensors"})
    assert cut.startswith("1.5 min since it was last interrupted")
    assert "without the training that it went on from" in cut


def test_weights_load_again_and_halve_the_file(params):
    written = publish_weights(params)
    folder = output_folder(params)
    assert [path.name for path in written] == [f"{name}.safetensors" for name in NETWORKS]
    test = SampleSet.load(folder / "artifacts/real/test").images
    source = folder / "artifacts/classifier-resnet20_x0_5"
    ours, exact = (predict(load_classifier(path), test) for path in (written[0], source))
    assert 0 < np.abs(ours - exact).max() < 0.05
    whole = (source / "classifier.safetensors").stat().st_size
    assert written[0].stat().st_size < 0.6 * whole
    z = np.random.default_rng(0).standard_normal((20, params.teacher_z_dim))
    images = [
        generate(load_teacher(path), z, np.arange(20) % 10).astype(int)
        for path in (written[2], folder / "artifacts/teacher/teacher.safetensors")
    ]
    assert np.abs(images[0] - images[1]).mean() < 0.5


def test_cards_say_what_the_files_are(params):
    for path in publish_weights(params):
        card = path.with_suffix(".md").read_text()
        assert sha256_file(path) in card and "CC BY 4.0" in card and "- Data: digits" in card
        assert "Hardware" in card and "- Half precision" in card and "nan" not in card
        room = {"teacher": "teacher", "student": "student"}.get(path.stem, "classifiers")
        assert f"- Load: `from lib.{room} import load_" in card and f"`lib.{room}." in card
    assert "Top-1 accuracy" in (path.parent / "resnet20_x0_5.md").read_text()
    for name in ("teacher", "student"):
        card = (path.parent / f"{name}.md").read_text()
        assert "Not evaluated: run notebook 03" in card and "grey levels" in card
    assert load_student(path.parent / "student.safetensors").config["data"] == "digits"
    state = path.parent / "teacher-training.safetensors"
    assert state.name in (path.parent / "teacher.md").read_text() and check_start(str(state))
    assert [p.name for p in path.parent.glob("*-training*")] == [state.name]


def test_cards_tell_what_was_measured_of_a_generator(tmp_path):
    measured = {"set": "student", "n": 100, "n_against": 50, "extractor": "resnet20"}
    measured |= dict.fromkeys(["fid", "fid_low", "fid_high", "precision", "recall"], 0.5)
    measured |= {"label_agreement": 0.75, "against": "real test"}
    measured["distance"] = "Fréchet distance (resnet20)"
    floor = measured | {"set": "real test", "against": "real train", "fid": 0.125}
    pd.DataFrame([floor, measured]).to_csv(tmp_path / "metrics.csv", index=False)
    parts = [measured | {"against": "real train", "class": name} for name in ("cat", "7")]
    pd.DataFrame(parts).to_csv(tmp_path / "per_class.csv", index=False)
    int8 = {"format": "int8", "mean_difference": 0.74, "quantile_difference": 6.1}
    pd.DataFrame([int8 | {"largest_difference": 10.0}]).to_csv(tmp_path / "check.csv", index=False)
    manifest = SimpleNamespace(
        entry=lambda name: None if "evaluator" in name else {"notebook": "03"}
    )
    study = SimpleNamespace(manifest=manifest, path=lambda name: tmp_path)
    lines = generator_measures(study, "student")
    wanted = "Fréchet distance (resnet20) 0.500 (0.500 to 0.500) to 50 real test images, from 100 "
    assert wanted + "(between these and the real training images: 0.125)" in lines[0]
    assert lines[1] == "Label agreement by class: cat 75.0%, 7 75.0%"
    assert "float32's by 0.7 of 255 grey levels on average, by 6 or more in one" in lines[2]


def test_terms_follow_what_a_network_was_made_from(params):
    publish_weights(params.model_copy(update={"teacher": "official"}))
    folder = output_folder(params) / "weights"
    assert "NVIDIA" in (folder / "student.md").read_text()
    assert "NVIDIA" not in (folder / "resnet20_x0_5.md").read_text()


def test_hardware_is_that_of_the_training():
    made = {"cpu": "EPYC", "cpu_flags": ["avx2"], "gpus": ["NVIDIA H100"]}
    assert hardware(made | {"device": "cpu"}) == "EPYC (avx2), no GPU"
    assert hardware(made | {"device": "cuda"}) == "NVIDIA H100 (GPU), EPYC"


def test_published_teacher_serves_as_a_teacher(params, tmp_path):
    path = publish_weights(params)[2]
    names = load_tensors(path)[1]["class_names"]
    adopt_teacher(tmp_path, source=path, origin="", sha256="", class_names=names, data="digits")
    assert load_teacher(tmp_path / "teacher.safetensors").c_dim == 10


def test_values_that_half_precision_cannot_hold_stay_as_they_are():
    assert half(torch.tensor([1.0, 65504.0])).dtype == torch.float16
    assert half(torch.tensor([1.0, 70000.0])).dtype == torch.float32
    assert half(torch.tensor([float("nan")])).dtype == torch.float32
    assert half(torch.tensor([3])).dtype == torch.int64


def test_networks_from_elsewhere_are_not_passed_on(params, tmp_path, monkeypatch):
    monkeypatch.setattr(study_module, "code_fingerprint", lambda function: "code")
    values = params.model_dump() | {"output_dir": str(tmp_path)}
    path = publish_weights(params)[2]
    study = Study.open("00_teacher_training", values)
    options = {"origin": path.name, "sha256": sha256_file(path), "data": "digits"}
    options |= {"class_names": load_tensors(path)[1]["class_names"]}
    study.make("teacher", adopt_teacher, options=options, run_options={"source": path})
    with pytest.raises(StudyError, match="no trained network"):
        publish_weights(validate(values))


def test_networks_taken_from_the_published_weights_get_their_cards(params, tmp_path, monkeypatch):
    monkeypatch.setattr(study_module, "code_fingerprint", lambda function: "code")
    values = params.model_dump() | {"output_dir": str(tmp_path)}
    path = tmp_path / params.profile / "weights" / "teacher.safetensors"
    path.parent.mkdir(parents=True)
    path.write_bytes(publish_weights(params)[2].read_bytes())
    study = Study.open("00_teacher_training", values)
    real = {"data": "digits", "source": "", "name": "", "seed": 1, "test_images": 50}
    real |= {"validation_images": 1700}
    study.make("real", prepare_real, options=real, run_options={"data_dir": ""})
    options = {"origin": path.name, "sha256": sha256_file(path), "data": "digits"}
    options |= {"class_names": load_tensors(path)[1]["class_names"]}
    study.make("teacher", adopt_teacher, options=options, run_options={"source": path})
    before = path.read_bytes()
    assert publish_weights(validate(values)) == [path] and path.read_bytes() == before
    card = path.with_suffix(".md").read_text()
    assert "in an earlier run" in card and sha256_file(path) in card
    assert not any(word in card for word in ("Hardware", "Software", "Half precision"))
