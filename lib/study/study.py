"""A profile's output folder: artifacts that are made once, tables, figures and the manifest."""

import io
import os
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import is_dataclass
from fnmatch import fnmatch
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
from filelock import FileLock, Timeout
from IPython.display import Image as DisplayedImage
from matplotlib.figure import Figure
from PIL import Image

from lib.common.errors import StudyError
from lib.common.files import (
    NOTEBOOKS,
    atomic_path,
    hash_tree,
    read_json,
    replace_folder,
    sha256_file,
    sha256_json,
    write_csv,
    write_text,
)
from lib.common.fingerprint import code_fingerprint
from lib.common.machine import describe_environment
from lib.common.options import outcome
from lib.data.samples import RECORD
from lib.figures.animation import write_gif
from lib.figures.captions import caption_of, describe
from lib.figures.style import noted_glyphs
from lib.study.manifest import Manifest, changed_parameter
from lib.study.notebooks import assigned_literals, declared_parameters
from lib.study.output_folder import check_writable, file_error, output_folder
from lib.study.params import HOW, Params, validate

SECONDS_TO_WAIT = 30
References = str | list[str] | dict[str, str]


class Study:
    """One notebook's view of `outputs/<profile>/`.

    `make` builds an artifact or reuses it, `path` finds one that an earlier notebook made,
    `save_table` and `save_figure` keep what a reader wants to see.
    """

    def __init__(self, params: Params, notebook: str, given: set[str] | None = None):
        self.params, self.notebook = params, notebook
        self.given = set(Params.model_fields) if given is None else given
        self.folder = output_folder(params)
        self.manifest = Manifest(self.folder)
        self.declared = sorted(declared_parameters(NOTEBOOKS / f"{notebook}.ipynb"))
        self.environment = describe_environment()

    @classmethod
    def open(cls, notebook: str, namespace: dict[str, Any]) -> "Study":
        """Open the study from a notebook, whose parameters are in its `globals()`.

        Those that are absent have the schema's defaults; a name that is no parameter,
        a wrong type or a value out of range is a `StudyError`.
        """
        given = _plain_values(namespace)
        if (base := given.pop("base", "digits")) != "digits":
            raise StudyError(
                f"a notebook by itself cannot take base: {base}: run python -m lib run with --only"
            )
        read = set(given) | declared_parameters(NOTEBOOKS / f"{notebook}.ipynb")
        study = cls(validate(given, read), notebook, read)
        check_writable(study.folder)
        study.manifest.begin(notebook)
        return study

    def make(
        self,
        name: str,
        build: Callable[..., None],
        *,
        inputs: dict[str, References] | None = None,
        options: dict[str, Any] | None = None,
        run_options: dict[str, Any] | None = None,
        measured: bool = False,
        measured_files: Sequence[str] = (),
        mend: bool = False,
        again: Callable[[Path], bool] | None = None,
    ) -> Path:
        """Return the artifact `name`, made by `build` unless an equal one is there already.

        `build(folder, **inputs as paths, **options, **run_options)` writes files into `folder`,
        which survives an interruption. Equal means: the same builder and `lib` code, the same
        options, the same content of the inputs. `run_options` change how, not what, it makes, and
        so do those of a stage's options (`lib.common.options`) that are marked so.
        `measured` artifacts hold timings, which vary; the manifest lists them apart, and likewise
        the files of any other artifact that match one of the patterns `measured_files`. `mend`:
        the builder makes each file by itself, so that a damaged artifact keeps those that are not.
        `again(folder)` tells of an equal artifact that some of it failed: the builder gets it back
        to try that once more.
        """
        inputs, given = inputs or {}, options or {}
        options = {key: _recorded(value) for key, value in given.items()}
        with self._locked():
            hashes = {key: self._hashes(value) for key, value in inputs.items()}
            content = {"code": code_fingerprint(build), "options": options, "inputs": hashes}
            fingerprint = sha256_json(content)
            entry = self.manifest.entry(name)
            target = self.folder / "artifacts" / name
            same = entry is not None and entry["fingerprint"] == fingerprint
            intact = same and not self.manifest.damage(name)
            if intact and not (again and again(target)):
                print(f"{name}: unchanged, reused")
            else:
                print(f"{name}: {self._way(name, fingerprint, intact)}", flush=True)
                if same and (mend or again):
                    self._keep_intact(name, entry)
                paths = {key: self._paths(value) for key, value in inputs.items()}
                arguments = paths | given | (run_options or {})
                self._build(name, fingerprint, partial(build, **arguments))
                found = hash_tree(target)
                timed = {file for file in found for p in measured_files if fnmatch(file, p)}
                files = {file: sha for file, sha in found.items() if file not in timed}
                timings = {file: found[file] for file in timed}
                entry = {
                    "builder": f"{build.__module__}.{build.__qualname__}",
                    "fingerprint": fingerprint,
                    "files": files,
                    "inputs": hashes,
                    "options": options,
                    "notebook": self.notebook,
                    "made_with": self.environment | {"device": self.params.device},
                }
                if timings:
                    self._record("measured_artifacts", name, entry | {"files": timings})
            own = self.params.model_dump(include=set(self.declared) - HOW)
            section = "measured_artifacts" if measured else "artifacts"
            self._record(section, name, entry | {"parameters": own})
        return target

    def path(self, reference: str) -> Path:
        """Return the path of an artifact, or of `artifact/part`, that an earlier notebook made.

        It must be there, unharmed, and made with the parameters that are in force now.
        """
        name, _, part = reference.partition("/")
        entry = self.manifest.entry(name)
        if entry is None:
            raise StudyError(
                f"artifact {name} is missing in {self.folder}: run the notebooks before, or python "
                "-m lib run with the whole profile"
            )
        fault = self.manifest.damage(name)
        if not fault and entry["notebook"] != self.notebook:
            now = self.params.model_dump(include=self.given)
            fault = changed_parameter(entry["parameters"], now)
        fault = fault or self.manifest.changed_input(name)
        if fault:
            number = entry["notebook"][:2]
            raise StudyError(f"artifact {name}: {fault}; run the study again --from {number}")
        return self.folder / "artifacts" / name / part

    def save_table(self, name: str, table: pd.DataFrame, measured: bool = False) -> pd.DataFrame:
        """Write `tables/<name>.csv` and return the table; `measured`: timings, which vary."""
        return self._save(f"tables/{name}.csv", table, measured, write_csv)

    def save_figure(
        self,
        name: str,
        figure: Figure,
        *,
        caption: str | None = None,
        alt: str | None = None,
        measured: bool = False,
    ) -> DisplayedImage:
        """Write `figures/<name>.png` and return it for display; `measured`: shows timings.

        In 256 colours. Its lower right corner names the data. `caption` (the figure's title if not
        given) and `alt`, its alternative text (a description of title, panels and legend if not
        given), go with the picture into the notebook.
        """
        write = partial(_write_png, data=self.data_name())
        self._save(f"figures/{name}.png", figure, measured, write)
        caption = caption or caption_of(figure) or name
        return self._displayed(f"{name}.png", caption, alt or describe(figure))

    def save_animation(
        self, name: str, frames: list[Image.Image], *, caption: str, alt: str
    ) -> DisplayedImage:
        """Write `figures/<name>.gif` and return it for display; frames: `lib.figures.animation`."""
        self._save(f"figures/{name}.gif", frames, False, write_gif)
        return self._displayed(f"{name}.gif", caption, alt)

    def _displayed(self, file: str, caption: str, alt: str) -> DisplayedImage:
        path = self.folder / "figures" / file
        return DisplayedImage(filename=str(path), alt=alt, metadata={"caption": caption})

    def data_name(self) -> str:
        """Return what the real images are called, "" before they are there."""
        record = self.folder / "artifacts" / "real" / "test" / RECORD
        return read_json(record)["info"]["data"] if record.is_file() else ""

    def save_words(self, name: str, text: str) -> str:
        """Write `tables/<name>.md`, words computed from the numbers, and return them."""
        return self._save(f"tables/{name}.md", text, False, lambda p, t: write_text(p, t + "\n"))

    def _save(self, relative: str, thing: Any, measured: bool, write: Callable) -> Any:
        path = self.folder / relative
        with self._locked():
            write(path, thing)
            self._record(
                "measured_reports" if measured else "reports",
                relative,
                {"sha256": sha256_file(path), "notebook": self.notebook},
            )
        return thing

    def _build(self, name: str, fingerprint: str, build: Callable[[Path], None]) -> None:
        work, started = self._work(name, fingerprint), time.monotonic()
        resumed = work.is_dir() and any(work.iterdir())
        try:
            work.mkdir(parents=True, exist_ok=True)
            for stray in work.rglob(".*"):  # what a killed write has left; no builder makes such
                stray.unlink(missing_ok=True)
            build(work)
            replace_folder(work, self.folder / "artifacts" / name)
            for old in work.parent.glob(f"{name}-" + "[0-9a-f]" * 16):
                shutil.rmtree(old)
            self.manifest.record_seconds(name, time.monotonic() - started, resumed)
        except OSError as error:
            raise file_error(error, self.folder) from error

    def _keep_intact(self, name: str, entry: dict) -> None:
        """Hand an artifact back to its builder, without the files that are damaged."""
        artifact, work = self.folder / "artifacts" / name, self._work(name, entry["fingerprint"])
        timings = self.manifest.read()["measured_artifacts"].get(name, {"files": {}})
        for relative, expected in (timings["files"] | entry["files"]).items():
            path = artifact / relative
            if path.is_file() and sha256_file(path) == expected:
                (work / relative).parent.mkdir(parents=True, exist_ok=True)
                os.replace(path, work / relative)

    def _way(self, name: str, fingerprint: str, intact: bool) -> str:
        """Say how an artifact is being made."""
        if intact:
            return "trying again what failed"
        work = self._work(name, fingerprint)
        begun = work.is_dir() and any(work.iterdir())
        return "making, from where it was interrupted" if begun else "making"

    def _work(self, name: str, fingerprint: str) -> Path:
        return self.folder / "work" / f"{name}-{fingerprint[:16]}"

    def _paths(self, value: References) -> Any:
        if isinstance(value, dict):
            return {key: self.path(reference) for key, reference in value.items()}
        if isinstance(value, list):
            return [self.path(reference) for reference in value]
        return self.path(value)

    def _hashes(self, value: References) -> dict[str, str]:
        references = value.values() if isinstance(value, dict) else value
        references = [value] if isinstance(value, str) else list(references)
        for reference in references:
            self.path(reference)  # there, unharmed and of these parameters
        return {reference: self.manifest.hash(reference) for reference in references}

    def _record(self, section: str, name: str, entry: dict) -> None:
        parameters = self.params.model_dump(include=set(self.declared))
        self.manifest.record(section, name, entry, parameters, self.environment)

    @contextmanager
    def _locked(self) -> Iterator[None]:
        try:
            with FileLock(self.folder / ".lock", timeout=SECONDS_TO_WAIT, poll_interval=0.2):
                yield
        except Timeout:
            raise StudyError(
                f"another run writes into {self.folder}: wait for it or stop it"
            ) from None


def _recorded(value: Any) -> Any:
    """Return an option as the manifest holds it."""
    if isinstance(value, list):
        return [_recorded(item) for item in value]
    return outcome(value) if is_dataclass(value) else value


def _plain_values(namespace: dict[str, Any]) -> dict[str, Any]:
    """Return the parameters in a notebook's namespace; elsewhere, all public plain values.

    In IPython they are what the `parameters` cell and papermill's assign: literals alone.
    """
    if "In" in namespace:  # empty where the history is not kept, as under nbval
        cells = [assigned_literals(source) or {} for source in namespace["In"]]
        names = {name for cell in cells if Params.model_fields.keys() & cell for name in cell}
        names |= Params.model_fields.keys()
        return {name: namespace[name] for name in names if name in namespace}
    plain = str | int | float | bool | list | dict | None
    return {k: v for k, v in namespace.items() if not k.startswith("_") and isinstance(v, plain)}


def _write_png(path: Path, figure: Figure, data: str) -> None:
    note = figure.text(1, 0, data, ha="right", va="top", fontsize=7, color="grey")
    with io.BytesIO() as drawn, atomic_path(path) as temporary, noted_glyphs(path.name):
        figure.savefig(drawn, format="png", dpi=110, bbox_inches="tight")
        few = Image.open(drawn).convert("RGB").quantize(256)  # a third of the size
        few.save(temporary, "png", optimize=True)
    note.remove()
