"""A profile's output folder: artifacts that are made once, tables, figures and the manifest."""

import fcntl
import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.figure import Figure
from PIL import Image

from lib.animation import write_gif
from lib.environment import describe_environment
from lib.errors import StudyError
from lib.files import (
    atomic_path,
    hash_tree,
    is_disk_full,
    read_json,
    replace_folder,
    sha256_file,
    sha256_json,
    write_json,
    write_text,
)
from lib.fingerprint import code_fingerprint
from lib.notebooks import assigned_literals, declared_parameters
from lib.params import Params, read_profile, validate
from lib.paths import NOTEBOOKS, ROOT, resolve

# These say how or where the study runs, not what comes out.
RUN_ONLY = {
    "output_dir",
    "device",
    "num_processes",
    "jobs",
    "teacher_checkpoint_kimg",
    "student_checkpoint_updates",
}
SECTIONS = ("artifacts", "reports", "measured_artifacts", "measured_reports")
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
        self.declared = sorted(declared_parameters(NOTEBOOKS / f"{notebook}.ipynb"))
        self.environment = describe_environment()

    @classmethod
    def open(cls, notebook: str, namespace: dict[str, Any]) -> "Study":
        """Open the study from a notebook, whose parameters are in its `globals()`.

        Parameters that only other notebooks declare may be absent; a name that is no parameter,
        a wrong type or a value out of range is a `StudyError`.
        """
        given = _plain_values(namespace)
        values = read_profile(ROOT / "params" / "digits.yaml") | given
        study = cls(validate(values), notebook, set(given))
        check_writable(study.folder)
        write_json(touched_file(study.folder, notebook), [])
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
    ) -> Path:
        """Return the artifact `name`, made by `build` unless an equal one is there already.

        `build(folder, **inputs as paths, **options, **run_options)` writes files into `folder`,
        which survives an interruption. Equal means: the same builder and `lib` code, the same
        options, the same content of the inputs. `run_options` change how, not what, it makes.
        `measured` artifacts hold timings, which vary; the manifest lists them apart.
        """
        inputs, options = inputs or {}, options or {}
        with self._locked():
            fingerprint = self._fingerprint(build, inputs, options)
            entry = self._entry_of(name)
            target = self.folder / "artifacts" / name
            if entry and entry["fingerprint"] == fingerprint and not self._fault(name, entry):
                print(f"{name}: unchanged, reused")
            else:
                print(f"{name}: making", flush=True)
                paths = {key: self._paths(value) for key, value in inputs.items()}
                arguments = paths | options | (run_options or {})
                self._build(name, fingerprint, partial(build, **arguments))
                entry = self._entry(build, fingerprint, inputs, options, hash_tree(target))
            section = "measured_artifacts" if measured else "artifacts"
            self._record(section, name, entry | {"parameters": self._own_parameters()})
        return target

    def path(self, reference: str) -> Path:
        """Return the path of an artifact, or of `artifact/part`, that an earlier notebook made.

        It must be there, unharmed, and made with the parameters that are in force now.
        """
        name, _, part = reference.partition("/")
        entry = self._entry_of(name)
        if entry is None:
            raise StudyError(
                f"artifact {name} is missing in {self.folder}: run the notebooks before"
            )
        fault = self._fault(name, entry) or self._outdated(entry) or self._other_inputs(entry)
        if fault:
            number = entry["notebook"][:2]
            raise StudyError(f"artifact {name}: {fault}; run the study again --from {number}")
        return self.folder / "artifacts" / name / part

    def save_table(self, name: str, table: pd.DataFrame, measured: bool = False) -> pd.DataFrame:
        """Write `tables/<name>.csv` and return the table; `measured`: timings, which vary."""
        return self._save(f"tables/{name}.csv", table, measured, _write_csv)

    def save_figure(self, name: str, figure: Figure, measured: bool = False) -> Figure:
        """Write `figures/<name>.png` and return the figure; `measured`: shows timings."""
        return self._save(f"figures/{name}.png", figure, measured, _write_png)

    def save_animation(self, name: str, frames: list[Image.Image]) -> Path:
        """Write `figures/<name>.gif` and return its path; for frames see `lib.animation`."""
        self._save(f"figures/{name}.gif", frames, False, write_gif)
        return self.folder / "figures" / f"{name}.gif"

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
        work = self.folder / "work" / f"{name}-{fingerprint[:16]}"
        try:
            work.mkdir(parents=True, exist_ok=True)
            for stray in work.rglob(".*"):  # what a killed write has left; no builder makes such
                stray.unlink(missing_ok=True)
            build(work)
            replace_folder(work, self.folder / "artifacts" / name)
            for old in work.parent.glob(f"{name}-" + "[0-9a-f]" * 16):
                shutil.rmtree(old)
        except OSError as error:
            raise _file_error(error, self.folder) from error

    def _fingerprint(self, build: Callable, inputs: dict[str, References], options: dict) -> str:
        return sha256_json(
            {
                "builder": f"{build.__module__}.{build.__qualname__}",
                "code": code_fingerprint(build),
                "options": options,
                "inputs": {key: self._hashes(value) for key, value in inputs.items()},
            }
        )

    def _entry(self, build, fingerprint, inputs, options, files) -> dict:
        return {
            "builder": f"{build.__module__}.{build.__qualname__}",
            "fingerprint": fingerprint,
            "files": files,
            "inputs": {key: self._hashes(value) for key, value in inputs.items()},
            "options": options,
            "notebook": self.notebook,
            "made_with": self.environment,
        }

    def _paths(self, value: References) -> Any:
        if isinstance(value, dict):
            return {key: self.path(reference) for key, reference in value.items()}
        if isinstance(value, list):
            return [self.path(reference) for reference in value]
        return self.path(value)

    def _hashes(self, value: References) -> dict[str, str]:
        references = value.values() if isinstance(value, dict) else value
        references = [value] if isinstance(value, str) else list(references)
        return {reference: self._hash(reference) for reference in references}

    def _hash(self, reference: str) -> str:
        self.path(reference)
        return self._content(self._entry_of(reference.partition("/")[0]), reference)

    def _content(self, entry: dict, reference: str) -> str:
        name, _, part = reference.partition("/")
        files = entry["files"]
        chosen = {k: v for k, v in files.items() if not part or f"{k}/".startswith(f"{part}/")}
        if not chosen:
            raise StudyError(f"artifact {name} holds no {part}")
        return sha256_json(chosen)

    def _fault(self, name: str, entry: dict) -> str | None:
        folder = self.folder / "artifacts" / name
        for relative, expected in entry["files"].items():
            if not (folder / relative).is_file():
                return f"{folder / relative} is missing"
            if sha256_file(folder / relative) != expected:
                return f"{folder / relative} is damaged or was changed"
        return None

    def _outdated(self, entry: dict) -> str | None:
        if entry["notebook"] == self.notebook:
            return None
        now = self.params.model_dump(include=self.given)
        return changed_parameter(entry["parameters"], now)

    def _other_inputs(self, entry: dict) -> str | None:
        """Say which input has changed since, followed back to what no notebook made."""
        for references in entry["inputs"].values():
            for reference, then in references.items():
                source = self._entry_of(reference.partition("/")[0])
                if source is None or self._content(source, reference) != then:
                    return f"made from another {reference} than there is now"
                if fault := self._other_inputs(source):
                    return fault
        return None

    def _own_parameters(self) -> dict[str, Any]:
        values = self.params.model_dump()
        return {key: values[key] for key in self.declared if key not in RUN_ONLY}

    def _entry_of(self, name: str) -> dict | None:
        manifest = self._manifest()
        return (manifest["artifacts"] | manifest["measured_artifacts"]).get(name)

    def _manifest(self) -> dict:
        path = self.folder / "manifest.json"
        empty = {"profile": self.params.profile, "parameters": {}, "environment": {}}
        sections = {section: {} for section in SECTIONS}
        return empty | sections | (read_json(path) if path.exists() else {})

    def _record(self, section: str, name: str, entry: dict) -> None:
        touched = touched_file(self.folder, self.notebook)
        if touched.exists():
            write_json(touched, sorted({*read_json(touched), name}))
        manifest = self._manifest()
        manifest[section][name] = entry
        manifest["parameters"] |= {k: self.params.model_dump()[k] for k in self.declared}
        manifest["environment"] = self.environment
        write_json(self.folder / "manifest.json", manifest)

    @contextmanager
    def _locked(self) -> Iterator[None]:
        with open(self.folder / ".lock", "w", encoding="utf-8") as file:
            deadline = time.monotonic() + SECONDS_TO_WAIT
            while True:
                try:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    if time.monotonic() > deadline:
                        raise StudyError(
                            f"another run writes into {self.folder}: wait for it or stop it"
                        ) from None
                    time.sleep(0.2)
            yield


def touched_file(folder: Path, notebook: str) -> Path:
    """Return where the names that a notebook's last run has made or reused are noted."""
    return folder / f".{notebook}.touched.json"


def forget_untouched(folder: Path, notebook: str) -> None:
    """Drop from the manifest what `notebook` made in earlier runs, but not in its last one.

    Such entries are of parameters that are no longer in force; their files stay.
    """
    touched, path = touched_file(folder, notebook), folder / "manifest.json"
    if not (touched.exists() and path.exists()):
        return
    manifest, kept = read_json(path), set(read_json(touched))
    for section in SECTIONS:
        entries = manifest.get(section, {}).items()
        manifest[section] = {k: v for k, v in entries if v["notebook"] != notebook or k in kept}
    write_json(path, manifest)


def changed_parameter(then: dict[str, Any], now: dict[str, Any]) -> str | None:
    """Say which parameter an artifact was made with that has another value now, if any."""
    for key, value in then.items():
        if key in now and now[key] != value:
            return f"made with {key} = {value!r}, now {now[key]!r}"
    return None


def output_folder(params: Params) -> Path:
    """Return the profile's folder; a relative `output_dir` starts at the repository's root."""
    return resolve(params.output_dir) / params.profile


def check_writable(folder: Path) -> None:
    """Make the folder; raise `StudyError` if it cannot be made or written."""
    probe = folder / f".probe-{os.getpid()}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe.write_bytes(b"x" * 4096)
        probe.unlink()
    except OSError as error:
        probe.unlink(missing_ok=True) if folder.is_dir() else None
        raise _file_error(error, folder) from error


def _file_error(error: OSError, folder: Path) -> StudyError:
    if is_disk_full(error):
        return StudyError(
            f"disk full at {folder}: free some space, then run the same command again"
        )
    return StudyError(
        f"cannot write into {error.filename or folder} ({error.strerror or error}): "
        "mend its permissions or choose another output_dir"
    )


def _plain_values(namespace: dict[str, Any]) -> dict[str, Any]:
    """Return the parameters in a notebook's namespace.

    In IPython these are the names assigned by cells that hold nothing but assignments of literals,
    some of them to parameters: the `parameters` cell and the one that papermill injects.
    Elsewhere they are all public plain values.
    """
    if "In" in namespace:  # empty where the history is not kept, as under nbval
        cells = [assigned_literals(source) or {} for source in namespace["In"]]
        names = {name for cell in cells if Params.model_fields.keys() & cell for name in cell}
        names |= Params.model_fields.keys()
        return {name: namespace[name] for name in names if name in namespace}
    plain = str | int | float | bool | list | dict | None
    return {k: v for k, v in namespace.items() if not k.startswith("_") and isinstance(v, plain)}


def _write_csv(path: Path, table: pd.DataFrame) -> None:
    write_text(path, table.to_csv(index=False, float_format="%.6g"))


def _write_png(path: Path, figure: Figure) -> None:
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=110, metadata={"Software": None})
