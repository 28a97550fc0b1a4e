import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
import yaml

from lib.__main__ import main
from lib.common.errors import StudyError
from lib.common.files import ROOT
from lib.study import preflight, reference, run
from lib.study.params import read_profile, validate

TINY = str(ROOT / "params" / "tiny.yaml")


def call(*arguments, capsys):
    code = main(["run", *arguments])
    return code, capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["params/nowhere.yaml"], "params/nowhere.yaml is missing"),
        ([TINY, "-p", "seeed", "2"], "unknown parameter seeed"),
        ([TINY, "-p", "seed", "two"], "parameter seed"),
        ([TINY, "-p", "student_kimg", "0"], "parameter student_kimg"),
        ([TINY, "--only", "42"], "no notebook 42: there are 00, 01"),
        (
            [TINY, "-p", "data", "imagefolder", "-p", "data_dir", "/nowhere"],
            "/nowhere is missing: data_dir needs train",
        ),
        ([TINY, "-p", "teacher", "/nowhere/teacher.safetensors"], "/nowhere/teacher.safetensors"),
        ([TINY, "-p", "output_dir", "/proc/nowhere"], "choose another output_dir"),
    ],
)
def test_wrong_input_is_one_line_and_a_nonzero_exit(arguments, message, capsys):
    code, text = call(*arguments, capsys=capsys)
    assert code == 1
    assert text.startswith("error: ")
    assert message in text
    assert len(text.splitlines()) == 1


def test_missing_earlier_artifact_is_named(tmp_path, capsys):
    code, text = call(TINY, "--only", "04", "-p", "output_dir", str(tmp_path), capsys=capsys)
    assert code == 1
    assert "04_calibration_sets: artifact real is missing" in text
    assert (tmp_path / "tiny" / "notebooks" / "04_calibration_sets.failed.ipynb").is_file()


def test_appendices_run_on_request_only():
    assert [path.stem for path in run.chosen(None, "A1")] == ["A1_distillation_ablation"]
    assert not any(path.name.startswith("A") for path in run.chosen(None, None))
    assert [path.name[:2] for path in run.chosen("05", None)] == ["05", "06", "07"]
    with pytest.raises(StudyError, match="no notebook A1: there are 00, 01"):
        run.chosen("A1", None)


def test_unsuitable_python_is_refused(monkeypatch, capsys):
    monkeypatch.setattr(sys, "version_info", (3, 13, 1, "final", 0))
    code, text = call(TINY, capsys=capsys)
    assert code == 1
    assert "Python 3.13.1 is unsuitable" in text


def test_full_disk_is_noticed_before_work_starts(monkeypatch, tmp_path, capsys):
    usage = type("Usage", (), {"free": 1_000_000})
    monkeypatch.setattr(preflight.shutil, "disk_usage", lambda path: usage)
    code, text = call(TINY, "-p", "output_dir", str(tmp_path), capsys=capsys)
    assert code == 1
    assert "disk full" in text and "1 MB free" in text
    assert not (tmp_path / "tiny" / "artifacts").exists()


def write_notebook(folder: Path, source: str) -> Path:
    parameters = nbformat.v4.new_code_cell("seed = 1", metadata={"tags": ["parameters"]})
    notebook = nbformat.v4.new_notebook(cells=[parameters, nbformat.v4.new_code_cell(source)])
    notebook.metadata["kernelspec"] = {"name": "python3", "display_name": "", "language": "python"}
    path = folder / "90_test.ipynb"
    nbformat.write(notebook, path)
    return path


def test_parameters_reach_the_notebook_and_it_is_kept(tmp_path, capfd):
    path = write_notebook(tmp_path, "print('seed', seed)")
    run.execute(path, {"seed": 7, "data": "digits"}, tmp_path / "out")
    assert "seed 7" in capfd.readouterr().out
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["90_test.ipynb"]


@pytest.mark.parametrize(
    "source, message",
    [
        ("1 / 0", "90_test failed in cell .*ZeroDivisionError.*90_test.failed.ipynb"),
        (
            "from lib.common.errors import StudyError\nraise StudyError('no such thing: mend it')",
            "^90_test: no such thing: mend it$",
        ),
        ("import os\nos.kill(os.getpid(), 9)", "90_test: the kernel died"),
    ],
)
def test_a_raising_cell_fails_the_run_and_keeps_the_earlier_notebook(tmp_path, source, message):
    out = tmp_path / "out"
    run.execute(write_notebook(tmp_path, "print(1)"), {}, out)
    before = (out / "90_test.ipynb").read_bytes()
    with pytest.raises(StudyError, match=message):
        run.execute(write_notebook(tmp_path, source), {}, out)
    assert (out / "90_test.ipynb").read_bytes() == before


def test_command_line_exits_nonzero():
    command = [sys.executable, "-m", "lib", "run", TINY, "-p", "seed", "-1"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr.startswith("error: parameter seed")


@pytest.mark.parametrize("command", ["", "run", "app", "export", "parameters"])
def test_help_explains_each_command(command, capsys):
    with pytest.raises(SystemExit) as stop:
        main([*command.split(), "--help"])
    assert stop.value.code == 0
    assert len(capsys.readouterr().out.splitlines()) > 5


def test_parameters_are_listed_with_their_values(capsys):
    assert main(["parameters", TINY, "-p", "seed", "9"]) == 0
    lines = capsys.readouterr().out
    assert "seed: 9  # every random number" in lines
    assert yaml.safe_load(lines) == validate(read_profile(TINY) | {"seed": 9}).model_dump()


@pytest.mark.parametrize("page", ["parameters", "library"])
def test_reference_pages_are_those_of_the_code(page):
    written = (ROOT / "docs" / f"{page}.md").read_text(encoding="utf-8")
    assert written == getattr(reference, f"{page}_page")(), "python -m lib docs writes it anew"


def test_makefile_refuses_an_unsuitable_python(tmp_path):
    command = ["make", "-f", str(ROOT / "Makefile"), "study", "PYTHON=python0"]
    for name in ("requirements.txt", "constraints.txt", "pyproject.toml"):
        (tmp_path / name).touch()
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode != 0
    assert "the study needs Python 3.11" in done.stderr


def test_image_folder_with_one_class_is_refused_before_work(tmp_path):
    for split in ("train", "test"):
        (tmp_path / split / "only").mkdir(parents=True)
    values = read_profile(TINY) | {"data": "imagefolder", "data_dir": str(tmp_path)}
    with pytest.raises(StudyError, match=r"one class \(only\): it takes two or more"):
        preflight.check_data(validate(values))
