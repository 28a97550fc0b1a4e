"""Run the study's notebooks, or the distillation alone.

Each notebook is executed by papermill and kept under `outputs/<profile>/notebooks/`. Artifacts
that are still valid are reused, so the same command resumes an interrupted run.
"""

import logging
import os
import sys
import time
from pathlib import Path

import torch

from lib.common.errors import StudyError
from lib.common.files import NOTEBOOKS
from lib.common.processes import count, join
from lib.student.distillation import distill
from lib.study.manifest import Manifest
from lib.study.notebooks import (
    appendix_paths,
    declared_parameters,
    fold_parameters,
    notebook_paths,
)
from lib.study.output_folder import output_folder
from lib.study.params import Params
from lib.study.preflight import check

PYTHON = (3, 11)


def check_python() -> None:
    """Raise `StudyError` unless this Python is the one that the study's pins are for."""
    if sys.version_info[:2] != PYTHON:
        version = ".".join(map(str, sys.version_info[:3]))
        raise StudyError(f"Python {version} is unsuitable: the study's pins are for Python 3.11")


def run_study(params: Params, first: str | None = None, only: str | None = None) -> None:
    """Check everything that can be checked, then execute the chosen notebooks in order.

    `first` is the number of the notebook to start at, `only` that of one to run alone.
    """
    notebooks = chosen(first, only)
    check(params, notebooks)
    folder = output_folder(params)
    started = time.monotonic()
    for path in notebooks:
        execute(path, params.model_dump(), folder / "notebooks")
    print(f"\nDone in {_minutes(time.monotonic() - started)}. Read the results in {folder}:")
    print("  notebooks/   the executed notebooks; 06 is the comparison")
    print("  figures/, and tables/ with every number and, after 06, verdict.md in words")


def chosen(first: str | None, only: str | None) -> list[Path]:
    """Return the notebooks to run; an unknown number is a `StudyError`."""
    paths = notebook_paths()
    alone = {path.name[:2]: [path] for path in paths + appendix_paths()}
    onwards = {path.name[:2]: paths[k:] for k, path in enumerate(paths)}
    for wanted, known in ((first, onwards), (only, alone)):
        if wanted is not None and wanted not in known:
            raise StudyError(f"no notebook {wanted}: there are {', '.join(known)}")
    return alone[only] if only else onwards.get(first, paths)


def execute(path: Path, values: dict, folder: Path) -> None:
    """Execute one notebook; keep it in `folder`, as `<name>.failed.ipynb` when a cell raised."""
    import papermill
    from nbclient.exceptions import DeadKernelError

    print(f"\n=== {path.stem}", flush=True)
    started = time.monotonic()
    folder.mkdir(parents=True, exist_ok=True)
    running, failed = folder / f".{path.stem}.ipynb", folder / f"{path.stem}.failed.ipynb"
    os.environ.setdefault("PYDEVD_DISABLE_FILE_VALIDATION", "1")
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # waiting threads give way to others
    declared = declared_parameters(path)
    # it would call every parameter unknown that the notebook's own cell does not set
    logging.getLogger("papermill").setLevel(logging.ERROR)
    try:
        papermill.execute_notebook(
            path,
            running,
            {key: value for key, value in values.items() if key in declared},
            kernel_name="python3",
            cwd=NOTEBOOKS,
            progress_bar=sys.stderr.isatty(),
            stdout_file=sys.stdout,
            # a kernel is stopped by an interrupt first; one that is not at rest calls it an error
            extra_arguments=["--log-level=CRITICAL"],
        )
        fold_parameters(running)
        os.replace(running, folder / path.name)
        Manifest(folder.parent).forget_untouched(path.stem)
    except papermill.PapermillExecutionError as error:
        os.replace(running, failed)
        raise StudyError(_explain(error, path, failed)) from error
    except DeadKernelError as error:
        raise StudyError(
            f"{path.stem}: the kernel died (out of memory, or killed): run the same command again"
        ) from error
    finally:
        running.unlink(missing_ok=True)
    failed.unlink(missing_ok=True)
    print(f"    {path.stem} took {_minutes(time.monotonic() - started)}", flush=True)


def _explain(error: Exception, path: Path, failed: Path) -> str:
    if error.ename == "StudyError":
        return f"{path.stem}: {error.evalue}"
    where = f"cell {error.exec_count}: {error.ename}: {' '.join(error.evalue.split())[:300]}"
    return f"{path.stem} failed in {where} (traceback in {failed})"


def _minutes(seconds: float) -> str:
    return f"{int(seconds // 60)} min {seconds % 60:.0f} s"


def train_student(params: Params, out: Path, device: str | None = None) -> None:
    """Train the student alone into `out`, in one process or as one of many (docs/machines.md).

    It reads the artifacts `teacher_samples` and, if need be, `real`; an interrupted training
    resumes in `out`.
    `device` takes the place of the profile's.
    """
    device = device or params.device
    if device == "cuda" and not torch.cuda.is_available():
        raise StudyError("device cuda is not available here: choose cpu")
    join(device)
    processes = params.num_processes if count() == 1 else 1
    options = params.options("student")
    artifacts = output_folder(params) / "artifacts"
    sets = {"samples": artifacts / "teacher_samples", "real": artifacts / "real" / "train"}
    out.mkdir(parents=True, exist_ok=True)
    how = {"device": device, "num_processes": processes}
    distill(out, **sets, seed=params.seed, options=options, **how)
