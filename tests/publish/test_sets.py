"""Published image sets: both forms, data cards, reuse, faults."""

import numpy as np
import pytest
from torchvision.datasets import ImageFolder

from lib.calibration.sets import make_calibration_set
from lib.common.errors import StudyError
from lib.common.files import ROOT, hash_tree, read_json, replace_folder, sha256_file
from lib.data.samples import SampleSet
from lib.publish.cards import licence
from lib.publish.sets import publish_sets
from lib.study import study as study_module
from lib.study.output_folder import output_folder
from lib.study.params import read_profile, validate
from lib.study.study import Study

TINY = validate(read_profile(ROOT / "params" / "tiny.yaml")).model_dump()
NAMES = ["ant", "bee"]


def make_samples(out, *, parts=()):
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (6, 3, 32, 32), dtype=np.uint8)
    labels, info = np.arange(6, dtype=np.int64) % 2, {"class_names": NAMES, "data": "digits"}
    latents = None if parts else rng.standard_normal((6, 4)).astype(np.float32)
    for part in parts or ["."]:
        SampleSet(images, labels, latents, info).save(out / part)


@pytest.fixture
def params(tmp_path, monkeypatch):
    """A study's parameters whose folder holds three kinds of image sets and another artifact."""
    monkeypatch.setattr(study_module, "code_fingerprint", lambda function: "code")
    values = TINY | {"output_dir": str(tmp_path)}
    study = Study.open("04_calibration_sets", values)
    options = {"kind": "noise", "per_class": 2, "seed": 1, "class_names": NAMES}
    study.make("calibration-noise", make_calibration_set, options=options)
    study.make("student_samples", make_samples)
    study.make("calibration-zeroq", make_samples, options={"parts": ["resnet20", "vgg11_bn"]})
    study.make("evaluator", make_samples)
    return validate(values)


def published(params):
    folders = publish_sets(params)
    root = output_folder(params) / "published"
    return root, [folder.relative_to(root).as_posix() for folder in folders]


def test_every_set_is_written_in_both_forms(params):
    root, names = published(params)
    zeroq = ["calibration-zeroq/resnet20", "calibration-zeroq/vgg11_bn"]
    assert names == ["calibration-noise", *zeroq, "student_samples"]
    for name in names:
        samples = SampleSet.load(root / name / "samples")
        pngs = ImageFolder(root / name / "images")
        assert pngs.classes == NAMES and len(pngs) == len(samples)
        for path, label in pngs.samples:
            index = int(path[-9:-4])
            image = np.asarray(pngs.loader(path)).transpose(2, 0, 1)
            assert np.array_equal(image, samples.images[index]) and label == samples.labels[index]
    assert SampleSet.load(root / "student_samples" / "samples").latents is not None


def test_the_card_says_what_is_there(params):
    root, _ = published(params)
    card = read_json(root / "calibration-noise" / "card.json")
    assert card["images"] == 4 and card["images_per_class"] == {"ant": 2, "bee": 2}
    assert card["options"]["seed"] == 1 and not card["labels_have_meaning"]
    assert card["made_by"] == "lib.calibration.sets.make_calibration_set"
    for name, value in card["sha256"].items():
        assert sha256_file(root / "calibration-noise" / "samples" / name) == value
    text = (root / "calibration-noise" / "README.md").read_text()
    assert "Apache License 2.0" in text and card["sha256"]["samples.json"] in text
    assert "- Images a class: ant 2, bee 2 (the images show no classes" in text
    assert "\n- `samples/`: safetensors with `images`, `labels`; `images/<class>/NNNNN.png`" in text
    assert "- Made from: nothing else\n- Made with: " in text
    assert read_json(root / "calibration-zeroq/vgg11_bn/card.json")["name"].endswith("vgg11_bn")


def test_an_interrupted_run_keeps_what_is_complete(params, monkeypatch, capsys):
    first = []

    def killed(new, target):
        first.append(target)
        if len(first) > 1:
            raise KeyboardInterrupt
        replace_folder(new, target)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr("lib.publish.sets.replace_folder", killed)
        publish_sets(params)
    root = first[0].parent
    assert not (root / "calibration-zeroq" / "resnet20").exists()
    publish_sets(params)
    lines = capsys.readouterr().out
    assert "calibration-noise: published already, kept" in lines
    before = hash_tree(root)
    publish_sets(params)
    assert hash_tree(root) == before
    assert not [path for path in root.rglob(".*")]


def test_a_set_that_was_made_anew_is_published_anew(params):
    root, _ = published(params)
    study = Study(params, "04_calibration_sets")
    options = {"kind": "noise", "per_class": 1, "seed": 2, "class_names": NAMES}
    study.make("calibration-noise", make_calibration_set, options=options)
    published(params)
    assert len(list((root / "calibration-noise" / "images").rglob("*.png"))) == 2


def test_faults_are_named(params, tmp_path):
    damaged = output_folder(params) / "artifacts/student_samples/samples.json"
    damaged.write_text("{}")
    with pytest.raises(StudyError, match="student_samples.*damaged"):
        publish_sets(params)
    empty = validate(TINY | {"output_dir": str(tmp_path / "empty")})
    with pytest.raises(StudyError, match="holds no image sets: run the study first"):
        publish_sets(empty)


def test_terms_follow_the_data_and_the_teacher():
    digits = validate(TINY)
    official = validate(TINY | {"teacher": "official"})
    assert "CC BY 4.0" in licence("data", digits) and "CC BY 4.0" in licence("generator", digits)
    assert "NVIDIA" not in licence("generator", digits)
    assert "NVIDIA" in licence("generator", official) and "NVIDIA" not in licence("data", official)
    assert "Apache" in licence("code", official)
