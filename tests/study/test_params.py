import json
from dataclasses import asdict, replace

import pytest
import yaml
from pydantic import ValidationError

from lib.common.errors import StudyError
from lib.common.files import ROOT
from lib.common.options import outcome
from lib.quantization.plan import grid_cells, grid_plan
from lib.study.notebooks import (
    appendix_paths,
    declared_parameters,
    notebook_paths,
    parameters_cell,
    read_tagged,
)
from lib.study.params import Params, parse_override, read_profile, validate
from lib.study.rules import RULES
from lib.teacher.options import TeacherOptions

PROFILES = sorted((ROOT / "params").glob("*.yaml"))
TINY = read_profile(ROOT / "params" / "tiny.yaml")


@pytest.mark.parametrize("path", PROFILES, ids=lambda path: path.stem)
def test_every_profile_is_valid_and_named_after_its_file(path):
    params = validate(read_profile(path))
    assert params.profile == path.stem


def test_every_parameter_is_explained_and_read_by_a_notebook():
    for name, field in Params.model_fields.items():
        assert len(field.description) > 2, name
    paths = notebook_paths() + appendix_paths()
    assert set(Params.model_fields) == set().union(*map(declared_parameters, paths))


def test_a_profile_holds_what_differs_from_its_base(tmp_path):
    (tmp_path / "mine.yaml").write_text("base: tiny\nprofile: mine\nseed: 7\n")
    (tmp_path / "yours.yaml").write_text("base: mine\nprofile: yours\n")
    values = read_profile(tmp_path / "yours.yaml")
    assert values == TINY | {"profile": "yours", "seed": 7}
    (tmp_path / "mine.yaml").write_text("base: yours\n")
    with pytest.raises(StudyError, match="is its own base"):
        read_profile(tmp_path / "yours.yaml")
    (tmp_path / "mine.yaml").write_text("base: nowhere\n")
    with pytest.raises(StudyError, match="nowhere.yaml is missing"):
        read_profile(tmp_path / "mine.yaml")


@pytest.mark.parametrize("path", notebook_paths() + appendix_paths(), ids=lambda path: path.stem)
def test_parameter_cells_are_those_of_the_default_profile(path):
    notebook = json.loads(path.read_text())
    (cell,) = read_tagged(notebook, "parameters")
    assert "".join(cell["source"]) == parameters_cell(declared_parameters(path))


@pytest.mark.parametrize(
    "change, message",
    [
        ({"seeed": 1}, "unknown parameter seeed"),
        ({"seed": "one"}, "parameter seed"),
        ({"seed": True}, "parameter seed"),
        ({"seed": -1}, "parameter seed.*greater than or equal to 0"),
        ({"teacher_kimg": float("nan")}, "parameter teacher_kimg"),
        ({"student_batch_size": 32.5}, "parameter student_batch_size"),
        ({"student_kimg": 0}, "parameter student_kimg"),
        ({"student_learning_rate": "fast"}, "parameter student_learning_rate"),
        ({"student_learning_rate": None}, "parameter student_learning_rate"),
        ({"data": "mnist"}, "parameter data.*'digits', 'cifar10' or 'imagefolder'"),
        ({"classifiers": ["resnet21"]}, "parameter classifiers.*resnet21"),
        ({"classifiers": ["resnet20", "resnet20"]}, "parameter classifiers.*twice"),
        ({"calibration_sets": ["real", "dreams"]}, "parameter calibration_sets.*dreams"),
        ({"calibration_sets": ["noise", "grey"]}, "real must be among"),
        ({"quantization_accuracy_aware_sets": ["real", "x"]}, "accuracy_aware_sets.*known.*zeroq"),
        ({"profile": "../elsewhere"}, "parameter profile"),
        ({"calibration_sets": ["real"]}, "at least one set"),
        ({"calibration_per_class": 999}, "calibration_per_class must not exceed"),
        ({"device": "cuda"}, "sampling_backend openvino computes on the CPU: choose torch"),
        ({"sampling_precision": "float16"}, "sampling_precision float16 needs device: cuda"),
        ({"data": "digits", "test_images": 0}, "test_images must be 10 or more"),
        (
            {"quantization_engines": ["nncf", "tflite"]},
            "parameter quantization_engines.*'nncf' or 'pot'",
        ),
        ({"quantization_engines": ["pot", "pot"]}, "parameter quantization_engines.*twice"),
        ({"quantization_overflow_fix": "all"}, "parameter quantization_overflow_fix"),
        ({"quantization_pot_seeds": -1}, "parameter quantization_pot_seeds"),
        ({"scheduler": "here"}, "scheduler must be an address such as tcp://"),
    ],
)
def test_wrong_values_are_one_line_that_names_the_key(change, message):
    with pytest.raises(StudyError, match=message) as error:
        validate(TINY | change)
    assert "\n" not in str(error.value)


def test_floats_are_read_as_people_write_them():
    values = yaml.safe_load("{student_learning_rate: 2e-4, teacher_r1_gamma: 1}")
    assert values["student_learning_rate"] == "2e-4"
    params = validate(TINY | values)
    assert params.student_learning_rate == 2e-4
    assert params.teacher_r1_gamma == 1.0


def test_options_of_a_stage_are_the_parameters_with_its_prefix():
    options = validate(TINY).options("teacher")
    assert (options.kimg, options.batch_size) == (TINY["teacher_kimg"], TINY["teacher_batch_size"])
    assert options == replace(TeacherOptions(), **asdict(options))
    assert "checkpoint_kimg" not in outcome(options)
    with pytest.raises(ValidationError, match="greater than 0"):
        TeacherOptions(kimg=0)


@pytest.mark.parametrize(
    "text, message",
    [
        ("seed: 1\nseed: 2\n", "seed given twice"),
        ("seed: [1", "no valid YAML"),
        ("- 1\n", "key: value"),
    ],
)
def test_faulty_files_are_named(tmp_path, text, message):
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    with pytest.raises(StudyError, match=f"mine.yaml.*{message}"):
        read_profile(path)
    with pytest.raises(StudyError, match="nowhere.yaml is missing"):
        read_profile(tmp_path / "nowhere.yaml")


def test_overrides_are_read_as_yaml():
    assert parse_override("[a, b]") == ["a", "b"]
    assert parse_override("3") == 3
    assert parse_override("[a") == "[a"


def test_rules_name_the_parameters_that_they_read():
    """Every rule, given a profile without one of its parameters' values, would fail to read it."""
    values = validate(read_profile(ROOT / "params" / "cifar10.yaml"))
    for rule, keys in RULES.items():
        seen = set()

        class Watched:
            def __init__(self, seen):
                object.__setattr__(self, "seen", seen)

            def __getattribute__(self, key):
                object.__getattribute__(self, "seen").add(key)
                return getattr(values, key)

        rule(Watched(seen))
        assert seen and seen <= keys <= set(values.model_dump())


def test_what_a_notebook_hands_on_is_declared(tmp_path):
    class Watched:
        """Parameters that remember which of them are read."""

        def __init__(self, params):
            self.params, self.read = params, set()

        def options(self, prefix):
            self.read |= {n for n in type(self.params).model_fields if n.startswith(f"{prefix}_")}
            return self.params.options(prefix)

        def __getattr__(self, name):
            self.read.add(name)
            return getattr(self.params, name)

    watched = Watched(validate(TINY))
    grid_plan(watched, grid_cells(watched), tmp_path)
    assert len(watched.read) > 20
    (path,) = [path for path in notebook_paths() if path.stem == "05_quantization"]
    assert watched.read <= declared_parameters(path)
