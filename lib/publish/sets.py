"""The study's image sets in the forms in which they are published: `make sets`.

Below `outputs/<profile>/published/` each calibration set and the samples of teacher and student
have a folder: `samples/`, a SampleSet in safetensors; `images/<class>/NNNNN.png`, which
torchvision's `ImageFolder` reads; and a data card, `README.md` for people and `card.json` for
programs. A set in several parts, one for each network, has these in `<set>/<network>/`.
"""

import shutil
from pathlib import Path

import numpy as np

from lib.calibration.kinds import KINDS
from lib.common.errors import StudyError
from lib.common.files import (
    hash_tree,
    read_json,
    replace_folder,
    sha256_json,
    write_json,
    write_text,
)
from lib.data.layouts import export_image_folder
from lib.data.samples import RECORD, SampleSet
from lib.publish.cards import licence, render_card
from lib.study.params import Params
from lib.study.study import Study

CARD = "card.json"
SAMPLES = ("teacher_samples", "student_samples")


def publish_sets(params: Params) -> list[Path]:
    """Write every set that the profile's study has made; return their folders.

    Each folder appears when it is complete, and one that is published already from the same
    content is kept. Raises `StudyError` where a set is damaged or out of date, or there is none.
    """
    study = Study(params, "06_comparison")
    folders = []
    for name in sorted(study.manifest.read()["artifacts"]):
        if not name.startswith("calibration-") and name not in SAMPLES:
            continue
        artifact, entry = study.path(name), study.manifest.entry(name)
        for record in sorted(artifact.rglob(RECORD)):
            target = study.folder / "published" / name / record.parent.relative_to(artifact)
            publish(record.parent, target, name, entry, params)
            folders.append(target)
    if not folders:
        raise StudyError(f"{study.folder} holds no image sets: run the study first (make study)")
    return folders


def publish(source: Path, target: Path, name: str, entry: dict, params: Params) -> None:
    """Write the SampleSet in `source` as the folder `target`, unless it is there already.

    `entry` is the manifest's of the artifact `name` that holds it.
    """
    samples = SampleSet.load(source)
    card = data_card(samples, source, name, entry, params)
    if (target / CARD).is_file() and read_json(target / CARD) == card:
        print(f"{target}: published already, kept")
        return
    print(f"{target}: writing", flush=True)
    work = target.with_name(f".{target.name}.publish")
    shutil.rmtree(work, ignore_errors=True)
    shutil.copytree(source, work / "samples")
    export_image_folder(samples, work / "images")
    write_text(work / "README.md", render_card("set.md.j2", **card))
    write_json(work / CARD, card)
    replace_folder(work, target)


def data_card(samples: SampleSet, source: Path, name: str, entry: dict, params: Params) -> dict:
    """Return what is to be known of a set: content, origin, hashes, licence."""
    kind = KINDS[name.removeprefix("calibration-").removesuffix("_samples")]
    counts = np.bincount(samples.labels, minlength=len(samples.class_names)).tolist()
    files = hash_tree(source)
    environment = entry["made_with"]
    return {
        "name": name if source.name == name else f"{name}, {source.name}",
        "profile": params.profile,
        "what": kind.description,
        "images": len(samples),
        "shape": list(samples.images.shape[1:]),
        "images_per_class": dict(zip(samples.class_names, counts, strict=True)),
        "labels_have_meaning": kind.labelled,
        "latents": None if samples.latents is None else list(samples.latents.shape),
        "record": samples.info,
        "made_by": entry["builder"],
        "options": entry["options"],
        "made_from": entry["inputs"],
        "made_with": {key: environment[key] for key in ("git_revision", "versions", "cpu")},
        "sha256": files,
        "fingerprint": sha256_json(files),
        "licence": licence(kind.origin, params),
    }
