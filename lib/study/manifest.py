"""`manifest.json` of a profile's output folder: what was made, from what, and its hashes."""

from pathlib import Path
from typing import Any

from lib.common.errors import StudyError
from lib.common.files import read_json, sha256_file, sha256_json, write_json

SECTIONS = ("artifacts", "reports", "measured_artifacts", "measured_reports")
"""Artifacts by name, reports (tables, figures) by path; the measured ones hold timings.

An artifact of which only some files do is in both sections, each with its share of the files.
Beside them `seconds` notes how long each artifact took to make, which varies, too.
"""


class Manifest:
    """The manifest of the output folder `folder`; every call reads the file afresh."""

    def __init__(self, folder: Path):
        self.folder, self.file = folder, folder / "manifest.json"

    def read(self) -> dict[str, Any]:
        """Return the whole manifest; one without entries where there is none yet."""
        empty = {"profile": self.folder.name, "parameters": {}, "environment": {}}
        sections = {section: {} for section in (*SECTIONS, "seconds")}
        return empty | sections | (read_json(self.file) if self.file.exists() else {})

    def entry(self, reference: str) -> dict[str, Any] | None:
        """Return the entry of the artifact that `name` or `name/part` refers to, if any."""
        manifest = self.read()
        entries = manifest["measured_artifacts"] | manifest["artifacts"]
        return entries.get(reference.partition("/")[0])

    def record(
        self, section: str, name: str, entry: dict, parameters: dict, environment: dict
    ) -> None:
        """Add an entry made by `entry["notebook"]`, whose parameters and environment go with it."""
        touched = self._touched(entry["notebook"])
        if touched.exists():
            write_json(touched, sorted({*read_json(touched), name}))
        manifest = self.read()
        manifest[section][name] = entry
        manifest["parameters"] |= parameters
        manifest["environment"] = environment
        write_json(self.file, manifest)

    def record_seconds(self, name: str, seconds: float, resumed: bool) -> None:
        """Note how long an artifact took to make; `resumed`: since its last interruption only."""
        manifest = self.read()
        manifest["seconds"][name] = {"seconds": round(seconds, 3), "resumed": resumed}
        write_json(self.file, manifest)

    def hash(self, reference: str) -> str:
        """Return the hash of the recorded content of an artifact, or of a part of it."""
        name, _, part = reference.partition("/")
        files = self.entry(name)["files"]
        chosen = {k: v for k, v in files.items() if not part or f"{k}/".startswith(f"{part}/")}
        if not chosen:
            raise StudyError(f"artifact {name} holds no {part}")
        return sha256_json(chosen)

    def damage(self, name: str) -> str | None:
        """Say which file of an artifact is not as it was recorded, if any."""
        folder = self.folder / "artifacts" / name
        for relative, expected in self.entry(name)["files"].items():
            if not (folder / relative).is_file():
                return f"{folder / relative} is missing"
            if sha256_file(folder / relative) != expected:
                return f"{folder / relative} is damaged or was changed"
        return None

    def changed_input(self, name: str) -> str | None:
        """Say which input of an artifact has changed since, followed back to the first."""
        for references in self.entry(name)["inputs"].values():
            for reference, then in references.items():
                if self.entry(reference) is None or self.hash(reference) != then:
                    return f"made from another {reference} than there is now"
                if fault := self.changed_input(reference.partition("/")[0]):
                    return fault
        return None

    def begin(self, notebook: str) -> None:
        """Start to note what `notebook` makes or reuses in this run."""
        write_json(self._touched(notebook), [])

    def forget_untouched(self, notebook: str) -> None:
        """Drop what `notebook` made in earlier runs, but not in the one since `begin`.

        Such entries are of parameters that are no longer in force; their files stay.
        """
        if not (self._touched(notebook).exists() and self.file.exists()):
            return
        manifest, kept = self.read(), set(read_json(self._touched(notebook)))
        for section in SECTIONS:
            entries = manifest[section].items()
            manifest[section] = {k: v for k, v in entries if v["notebook"] != notebook or k in kept}
        made = manifest["artifacts"] | manifest["measured_artifacts"]
        manifest["seconds"] = {k: v for k, v in manifest["seconds"].items() if k in made}
        write_json(self.file, manifest)

    def _touched(self, notebook: str) -> Path:
        return self.folder / f".{notebook}.touched.json"


def changed_parameter(then: dict[str, Any], now: dict[str, Any]) -> str | None:
    """Say which parameter an artifact was made with that has another value now, if any."""
    for key, value in then.items():
        if key in now and now[key] != value:
            return f"made with {key} = {value!r}, now {now[key]!r}"
    return None
