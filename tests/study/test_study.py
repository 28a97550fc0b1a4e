import itertools
import json
import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from PIL import Image

from lib.common.errors import StudyError
from lib.common.files import ROOT, hash_tree, read_json, sha256_file
from lib.study import study as study_module
from lib.study.params import read_profile, validate
from lib.study.study import Study

TINY = validate(read_profile(ROOT / "params" / "tiny.yaml")).model_dump()


def build_text(out: Path, *, text: str, source: Path | None = None, workers: int = 1) -> None:
    content = source.read_text() if source else ""
    (out / "text.txt").write_text(content + text)
    CALLS.append(text)


CALLS: list[str] = []


@pytest.fixture
def open_study(tmp_path, monkeypatch):
    CALLS.clear()
    monkeypatch.setattr(study_module, "code_fingerprint", lambda function: "code")

    def open_(notebook="04_calibration_sets", **changes):
        return Study.open(notebook, TINY | {"output_dir": str(tmp_path)} | changes)

    return open_


def test_equal_artifact_is_reused_and_changed_one_made_again(open_study, capsys):
    study = open_study()
    study.make("first", build_text, options={"text": "a"})
    path = study.make("first", build_text, options={"text": "a"}, run_options={"workers": 2})
    assert CALLS == ["a"]
    assert "first: unchanged, reused" in capsys.readouterr().out
    assert (path / "text.txt").read_text() == "a"
    study.make("first", build_text, options={"text": "b"})
    assert CALLS == ["a", "b"]


def test_what_follows_depends_on_the_content_of_its_inputs(open_study):
    study = open_study()

    def both(text, extra):
        study.make("first", build_text, options={"text": text})
        inputs = {"source": "first/text.txt"}
        return study.make("second", build_text, inputs=inputs, options={"text": extra})

    both("a", "x")
    assert (both("a", "x") / "text.txt").read_text() == "ax"
    assert CALLS == ["a", "x"]
    assert (both("b", "x") / "text.txt").read_text() == "bx"
    assert CALLS == ["a", "x", "b", "x"]


def test_changed_code_makes_an_artifact_again(open_study, monkeypatch):
    study = open_study()
    study.make("first", build_text, options={"text": "a"})
    monkeypatch.setattr(study_module, "code_fingerprint", lambda function: "other code")
    study.make("first", build_text, options={"text": "a"})
    assert CALLS == ["a", "a"]


def build_parts(out: Path, *, names: str) -> None:
    for name in names:
        if not (out / name).exists():
            (out / name).write_text(name * 3)
            CALLS.append(name)


@pytest.mark.parametrize("damage", [lambda p: p.unlink(), lambda p: p.write_text("x")])
def test_mending_makes_damaged_files_alone(open_study, damage):
    study = open_study()
    make = dict(options={"names": "abc"}, mend=True)
    path = study.make("parts", build_parts, **make)
    before = hash_tree(path)
    damage(path / "b")
    study.make("parts", build_parts, **make)
    assert CALLS == ["a", "b", "c", "b"]
    assert hash_tree(path) == before
    assert not list((study.folder / "work").glob("parts*"))
    study.make("parts", build_parts, options={"names": "abcd"}, mend=True)
    assert CALLS[4:] == ["a", "b", "c", "d"]  # other options: nothing is kept


@pytest.mark.parametrize("damage", [lambda p: p.unlink(), lambda p: p.write_text("x")])
def test_damaged_artifact_is_made_again_and_refused_as_input(open_study, damage):
    study = open_study()
    path = study.make("first", build_text, options={"text": "a"})
    damage(path / "text.txt")
    with pytest.raises(StudyError, match="first.*text.txt is (missing|damaged).*--from 04"):
        study.path("first")
    study.make("first", build_text, options={"text": "a"})
    assert CALLS == ["a", "a"]
    assert study.path("first/text.txt").read_text() == "a"


def test_failed_build_leaves_the_earlier_artifact(open_study):
    study = open_study()
    study.make("first", build_text, options={"text": "a"})

    def fails(out, *, text):
        (out / "text.txt").write_text("half")
        raise StudyError("broken")

    with pytest.raises(StudyError, match="broken"):
        study.make("first", fails, options={"text": "b"})
    assert study.path("first/text.txt").read_text() == "a"


def test_artifact_of_other_parameters_is_refused_by_later_notebooks(open_study):
    open_study("04_calibration_sets").make("first", build_text, options={"text": "a"})
    later = open_study("05_quantization", calibration_per_class=TINY["calibration_per_class"] - 1)
    with pytest.raises(StudyError, match="made with calibration_per_class = .*--from 04"):
        later.path("first")
    assert open_study("05_quantization", jobs=1).path("first").is_dir()


def test_missing_artifact_names_what_to_run(open_study):
    with pytest.raises(StudyError, match="artifact teacher is missing.*run the notebooks before"):
        open_study().path("teacher")


def build_unlucky(out: Path, *, lucky: Callable[[], bool]) -> None:
    (out / "first.txt").write_text((out / "first.txt").read_text() if CALLS else "kept")
    (out / "seconds.csv").write_text(str(len(CALLS)))
    (out / "second.txt").write_text("done" if lucky() else "failed")
    CALLS.append("made")


def test_what_failed_is_tried_again_and_only_that(open_study, capsys):
    study, luck = open_study(), []
    make = {
        "run_options": {"lucky": lambda: bool(luck)},
        "again": lambda folder: (folder / "second.txt").read_text() == "failed",
        "measured_files": ["seconds.*"],
    }
    for _ in range(2):
        path = study.make("parts", build_unlucky, **make)
        assert (path / "second.txt").read_text() == "failed"
    assert len(CALLS) == 2 and "parts: trying again what failed" in capsys.readouterr().out
    luck.append(True)
    for _ in range(2):
        path = study.make("parts", build_unlucky, **make)
    assert len(CALLS) == 3 and (path / "second.txt").read_text() == "done"
    assert (path / "first.txt").read_text() == "kept"
    assert capsys.readouterr().out.endswith("parts: unchanged, reused\n")


def test_timings_within_an_artifact_are_listed_apart(open_study):
    study = open_study()
    make = {"run_options": {"lucky": lambda: True}, "measured_files": ["seconds.*"]}
    path = study.make("parts", build_unlucky, **make)
    manifest = read_json(study.folder / "manifest.json")
    assert set(manifest["artifacts"]["parts"]["files"]) == {"first.txt", "second.txt"}
    assert manifest["measured_artifacts"]["parts"]["files"] == {
        "seconds.csv": sha256_file(path / "seconds.csv")
    }
    assert study.path("parts") == path
    (path / "seconds.csv").write_text("other")
    study.make("parts", build_unlucky, **make)
    assert len(CALLS) == 1


def test_manifest_holds_the_hashes_of_artifacts_tables_and_figures(open_study):
    study = open_study()
    study.make("first", build_text, options={"text": "a"})
    study.save_table("numbers", pd.DataFrame({"x": [1.0, 1 / 3]}))
    study.save_table("seconds", pd.DataFrame({"x": [0.1]}), measured=True)
    figure, _ = plt.subplots()
    study.save_figure("plot", figure)
    plt.close(figure)
    manifest = read_json(study.folder / "manifest.json")
    assert manifest["artifacts"]["first"]["files"] == hash_tree(study.folder / "artifacts/first")
    assert set(manifest["reports"]) == {"tables/numbers.csv", "figures/plot.png"}
    assert set(manifest["measured_reports"]) == {"tables/seconds.csv"}
    for section in ("reports", "measured_reports"):
        for relative, entry in manifest[section].items():
            assert entry["sha256"] == sha256_file(study.folder / relative)
    assert manifest["parameters"]["calibration_per_class"] == TINY["calibration_per_class"]
    assert manifest["environment"]["versions"]["openvino"] != "absent"


def test_figures_name_the_data_in_their_corner(open_study):
    study, pictures = open_study(), []
    figure, _ = plt.subplots()
    for name in ("", "Pets (JPEG copy)"):
        if name:
            record = study.folder / "artifacts" / "real" / "test" / "samples.json"
            record.parent.mkdir(parents=True)
            record.write_text(json.dumps({"info": {"data": name}}))
        assert study.data_name() == name
        study.save_figure("plot", figure)
        pictures.append(np.array(Image.open(study.folder / "figures" / "plot.png")))
    plt.close(figure)
    assert not figure.texts
    without, named = (np.argwhere(picture[..., :3].min(-1) < 250) for picture in pictures)
    assert named[:, 0].max() > without[:, 0].max()


def test_killed_build_resumes_in_its_folder_without_stray_files(tmp_path):
    script = textwrap.dedent(
        """
        import os, signal, sys
        from pathlib import Path
        from lib.study import study as module
        from lib.common.files import atomic_path
        module.code_fingerprint = lambda function: "code"

        def build(out, *, kill):
            steps = len(list(out.glob("step-*")))
            for step in range(steps, 5):
                with atomic_path(out / f"step-{step}.txt") as path:
                    path.write_text(str(step))
                    if step == 3 and Path(sys.argv[2]).exists():
                        os.kill(os.getpid(), signal.SIGKILL)

        values = {"profile": "tiny", "output_dir": sys.argv[1]}
        study = module.Study.open("04_calibration_sets", values)
        study.make("steps", build, options={"kill": 0})
        """
    )
    flag = tmp_path / "kill"
    flag.touch()
    command = [sys.executable, "-c", script, str(tmp_path / "out"), str(flag)]
    killed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    work = next((tmp_path / "out" / "tiny" / "work").iterdir())
    assert any(path.name.startswith(".") for path in work.iterdir())
    flag.unlink()
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    folder = tmp_path / "out" / "tiny" / "artifacts" / "steps"
    assert sorted(p.name for p in folder.iterdir()) == [f"step-{i}.txt" for i in range(5)]
    assert not list((tmp_path / "out" / "tiny" / "work").iterdir())


def test_what_safetensors_leaves_behind_when_killed_does_not_stay(open_study):
    study = open_study()

    def interrupted(out, *, text):
        (out / ".tmpXyZ").write_text("half")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        study.make("first", interrupted, options={"text": "a"})
    work = next((study.folder / "work").iterdir())
    finished = study.folder / "work" / work.name
    assert (finished / ".tmpXyZ").exists()

    def finishes(out, *, text):
        (out / "text.txt").write_text(text)

    finishes.__qualname__ = interrupted.__qualname__
    path = study.make("first", finishes, options={"text": "a"})
    assert [file.name for file in path.iterdir()] == ["text.txt"]


def test_results_made_from_other_inputs_are_refused(open_study):
    study = open_study("04_calibration_sets")
    study.make("first", build_text, options={"text": "a"})
    inputs = {"source": "first/text.txt"}
    later = open_study("05_quantization")
    later.make("second", build_text, inputs=inputs, options={"text": "x"})
    open_study("06_comparison").path("second")
    study.make("first", build_text, options={"text": "b"})
    with pytest.raises(StudyError, match="second: made from another first/text.txt.*--from 05"):
        open_study("06_comparison").path("second")


def test_entries_of_parameters_no_longer_in_force_are_forgotten(open_study):
    study = open_study()
    for name in ("first", "second"):
        study.make(name, build_text, options={"text": name})
    again = open_study()
    again.make("second", build_text, options={"text": "second"})
    again.manifest.forget_untouched(again.notebook)
    assert list(read_json(again.folder / "manifest.json")["artifacts"]) == ["second"]


def test_making_an_artifact_is_timed_and_reusing_it_is_not(open_study, monkeypatch, capsys):
    study = open_study()
    ticks = itertools.count()
    monkeypatch.setattr(study_module.time, "monotonic", lambda: next(ticks))
    study.make("first", build_text, options={"text": "a"})
    noted = study.manifest.read()["seconds"]
    assert noted["first"]["seconds"] > 0 and not noted["first"]["resumed"]
    study.make("first", build_text, options={"text": "a"})
    assert study.manifest.read()["seconds"] == noted

    def interrupted(out, *, text):
        (out / "half").touch()
        if text not in CALLS:
            CALLS.append(text)
            raise StudyError("killed")

    with pytest.raises(StudyError, match="killed"):
        study.make("second", interrupted, options={"text": "b"})
    assert "second" not in study.manifest.read()["seconds"]
    study.make("second", interrupted, options={"text": "b"})
    assert study.manifest.read()["seconds"]["second"]["resumed"]
    said = [line for line in capsys.readouterr().out.splitlines() if line.startswith("second")]
    assert said == ["second: making", "second: making, from where it was interrupted"]


def test_second_run_in_the_same_folder_is_refused(open_study, monkeypatch):
    study, other = open_study(), open_study()
    monkeypatch.setattr(study_module, "SECONDS_TO_WAIT", 0)

    def nested(out, *, text):
        with pytest.raises(StudyError, match="another run writes into"):
            other.make("second", build_text, options={"text": "b"})
        (out / "done").touch()

    study.make("first", nested, options={"text": "a"})
    assert CALLS == []


def test_output_folder_that_cannot_be_made_is_named(tmp_path, open_study):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(StudyError, match="file.*choose another output_dir"):
        open_study(output_dir=str(tmp_path / "file"))


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full on this system")
def test_full_disk_is_one_clear_error(open_study):
    study = open_study()

    def fills(out, *, text):
        with open("/dev/full", "w") as file:
            file.write(text)

    with pytest.raises(StudyError, match="disk full at .*free some space"):
        study.make("first", fills, options={"text": "a"})


def test_names_in_a_notebook_that_are_no_parameters_are_refused(tmp_path):
    cells = ["", "profile = 'tiny'\nseeed = 2", "x = 5", "import os"]
    namespace = {"In": cells, "profile": "tiny", "seeed": 2, "x": 5, "os": os}
    with pytest.raises(StudyError, match="unknown parameter seeed"):
        Study.open("04_calibration_sets", namespace)
    cells[1] = "profile = 'tiny'\nseed = 2"
    namespace |= {"In": cells, "seed": 2, "output_dir": str(tmp_path)}
    cells.append("output_dir = 'x'\nseed = 2")
    assert Study.open("04_calibration_sets", namespace).params.seed == 2
    without_history = {"In": [""], "seed": 3, "output_dir": str(tmp_path), "os": os}
    assert Study.open("04_calibration_sets", without_history).params.seed == 3


@pytest.mark.parametrize(
    "values",
    [
        {"notebook": "04_calibration_sets", "calibration_per_class": 5000},
        {"notebook": "00_teacher_training", "device": "cuda"},
        {"notebook": "00_teacher_training", "evaluation_per_class": 5000},
    ],
)
def test_values_of_other_notebooks_are_not_guessed(tmp_path, values):
    """A notebook knows its own parameters alone: the default profile's say nothing of the rest."""
    notebook = values.pop("notebook")
    study = Study.open(notebook, {"profile": "mine", "output_dir": str(tmp_path)} | values)
    assert study.params.model_dump().items() >= values.items()


def test_what_a_notebook_reads_has_the_default_where_it_is_not_set(tmp_path):
    given = {"profile": "mine", "output_dir": str(tmp_path), "evaluation_per_class": 5000}
    with pytest.raises(StudyError, match="must not exceed sampling_per_class .500."):
        Study.open("03_evaluation", given)  # which samples, too
    study = Study.open("05_quantization", given)
    assert "quantization_seeds" in study.given and "student_kimg" not in study.given


def test_a_notebook_by_itself_takes_the_default_base_alone(tmp_path):
    given = {"profile": "mine", "output_dir": str(tmp_path)}
    assert Study.open("01_teacher_sampling", given | {"base": "digits"}).params.profile == "mine"
    with pytest.raises(StudyError, match="cannot take base: tiny"):
        Study.open("01_teacher_sampling", given | {"base": "tiny"})


def test_values_of_one_notebook_must_fit_together(tmp_path):
    given = {"profile": "mine", "output_dir": str(tmp_path), "device": "cuda"}
    with pytest.raises(StudyError, match="choose torch for cuda"):
        Study.open("01_teacher_sampling", given | {"sampling_backend": "openvino"})
