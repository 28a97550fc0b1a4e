"""Calibration sets in one file each and INT8 networks: what is shipped, with which words."""

import numpy as np
import openvino as ov
import pytest

from lib.calibration.sets import make_calibration_set
from lib.common.errors import StudyError
from lib.common.files import ROOT, read_json, sha256_file, write_csv, write_json, write_text
from lib.common.openvino import save_ir
from lib.comparison.answer import answers
from lib.comparison.service import service_table
from lib.data.layouts import load_one_file
from lib.data.samples import SampleSet
from lib.publish.shipped import publish_calibration, publish_int8
from lib.study import study as study_module
from lib.study.output_folder import output_folder
from lib.study.params import read_profile, validate
from lib.study.study import Study
from tests.comparison.conftest import study

TINY = validate(read_profile(ROOT / "params" / "tiny.yaml")).model_dump()
NAMES = ["ant", "bee"]
TRAINED, PUBLISHED = "mobilenetv2_x0_25", "resnet20"


@pytest.fixture
def open_study(tmp_path, monkeypatch):
    monkeypatch.setattr(study_module, "code_fingerprint", lambda function: "code")
    values = TINY | {"output_dir": str(tmp_path), "quantization_subset_size": 4}
    values |= {"classifiers": [PUBLISHED, TRAINED], "quantization_unfused": []}
    values["classifier_learning_rates"] = {}
    return Study.open("04_calibration_sets", values)


def add_set(kind, open_study):
    options = {"kind": kind, "per_class": 6, "seed": 1, "class_names": NAMES}
    open_study.make(f"calibration-{kind}", make_calibration_set, options=options)


def test_a_set_is_one_file_of_as_many_images_as_are_read(open_study):
    for kind in ("fractal", "photographs", "noise"):
        add_set(kind, open_study)
    files = publish_calibration(open_study.params)
    assert [file.name for file in files] == ["fractal.safetensors", "photographs.safetensors"]
    card = (files[0].parent / "README.md").read_text()
    for file in files:
        whole = SampleSet.load(open_study.path(f"calibration-{file.stem}"))
        few = load_one_file(file)
        assert few.class_names == NAMES and sorted(few.labels[:2]) == sorted(few.labels[2:]) == [
            0,
            1,
        ]
        known = [image.tobytes() for image in whole.images]
        assert all(image.tobytes() in known for image in few.images)
        assert sha256_file(file) in card and "4 images" in card
    assert "Apache License 2.0" in card and "danielbuechele" in card


def test_without_sets_there_is_nothing_to_ship(open_study):
    with pytest.raises(StudyError, match="no calibration sets: run notebook 04"):
        publish_calibration(open_study.params)


def adopt(out, *, sha256):
    write_text(out / "file", sha256)


def networks(out):
    """Write a kept INT8 network of either classifier and either set, as the grid does."""
    x = ov.opset13.parameter([1, 3, 32, 32], np.float32)
    for model in (PUBLISHED, TRAINED):
        for kind in ("student", "fractal"):
            stem = out / "models" / f"{model}.nncf.default.{kind}.4"
            save_ir(stem.with_suffix(stem.suffix + ".xml"), ov.Model([ov.opset13.relu(x)], [x]))
            about = {"class_names": NAMES, "test_images": 20, "set": kind}
            shares = {"fp32_accuracy": 0.9, "accuracy": 0.85, "agreement": 0.95}
            write_json(stem.with_suffix(stem.suffix + ".json"), about | {"measured": shares})


def test_networks_are_those_of_the_best_set_without_data(open_study):
    folder = output_folder(open_study.params)
    weights = folder / "weights" / f"{TRAINED}.safetensors"
    write_text(weights, "weights")
    open_study.make(f"classifier-{PUBLISHED}", adopt, options={"sha256": "of another file"})
    open_study.make("quantization", networks)
    with pytest.raises(StudyError, match="06_answers.csv is missing: run notebook 06"):
        publish_int8(open_study.params)
    services = service_table(*study({"real": 200, "fractal": 200, "student": 400}), resamples=300)
    write_csv(folder / "tables" / "06_answers.csv", answers(services))
    assert publish_int8(open_study.params) == []  # one is from elsewhere, one was not made
    open_study.make(f"classifier-{TRAINED}", adopt, options={"sha256": sha256_file(weights)})
    (file,) = publish_int8(open_study.params)
    assert file == folder / "int8" / f"{TRAINED}.xml"
    assert read_json(file.with_suffix(".json"))["set"] == "fractal"
    card = (file.parent / "README.md").read_text()
    assert "*fractals*" in card and "| 90.00% | 85.00% | 95.00% | 20 |" in card
    assert sha256_file(file.with_suffix(".bin")) in card
    lines = card.split("```python\n")[1].split("```")[0].replace(file.name, str(file))
    exec(lines, {})
