"""The study's image sets in the forms in which they are published: `make sets`.

`python -m lib.publish.sets params/digits.yaml` writes `outputs/<profile>/published/<set>/` for each
calibration set and for the samples of teacher and student: `samples/`, a SampleSet in
safetensors; `images/<class>/NNNNN.png`, which torchvision's `ImageFolder` reads; and a data card,
`README.md` for people and `card.json` for programs. A set in several parts, one for each
network, has these in `<set>/<network>/`.
"""

import argparse
import shutil
import sys
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
from lib.study.params import Params, read_profile, validate
from lib.study.study import Study

CARD = "card.json"
SAMPLES = ("teacher_samples", "student_samples")
LICENCES = {
    "digits": "CC BY 4.0 (Optical recognition of handwritten digits: E. Alpaydin, C. Kaynak; UCI)",
    "cifar10": "none stated for CIFAR-10 (A. Krizhevsky): research use, cite its author",
    "imagefolder": "that of the images in data_dir, which the study does not know",
}
OWN_LICENCE = "Apache License 2.0, as the code: made by the study's code alone"


def publish_sets(params: Params) -> list[Path]:
    """Write every set that the profile's study has made; return their folders.

    Each folder appears when it is complete, and one that is published already from the same
    content is kept. Raises `StudyError` where a set is damaged or out of date, or there is none.
    """
    study = Study(params, "06_comparison")
    made = [name for name in study.manifest.read()["artifacts"] if is_set(name)]
    if not made:
        raise StudyError(f"{study.folder} holds no image sets: run the study first (make study)")
    folders = []
    for name in sorted(made):
        artifact = study.path(name)
        entry = study.manifest.entry(name)
        parts = sorted(record.parent for record in artifact.rglob(RECORD))
        for part in parts:
            target = study.folder / "published" / name / part.relative_to(artifact)
            publish(part, target, name, entry, params)
            folders.append(target)
    return folders


def is_set(name: str) -> bool:
    """Tell whether an artifact of this name is published."""
    return name.startswith("calibration-") or name in SAMPLES


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
    export_image_folder(samples, work / "images", with_latents=False)
    write_text(work / "README.md", card_text(card))
    write_json(work / CARD, card)
    replace_folder(work, target)


def data_card(samples: SampleSet, source: Path, name: str, entry: dict, params: Params) -> dict:
    """Return what is to be known of a set: content, origin, hashes, licence."""
    kind = kind_of(name)
    counts = np.bincount(samples.labels, minlength=len(samples.class_names)).tolist()
    files = hash_tree(source)
    environment = entry["made_with"]
    return {
        "name": name if source.name == name else f"{name}, {source.name}",
        "profile": params.profile,
        "what": KINDS[kind].description,
        "images": len(samples),
        "shape": list(samples.images.shape[1:]),
        "images_per_class": dict(zip(samples.class_names, counts, strict=True)),
        "labels_have_meaning": KINDS[kind].labelled,
        "latents": None if samples.latents is None else list(samples.latents.shape),
        "record": samples.info,
        "made_by": entry["builder"],
        "options": entry["options"],
        "made_from": entry["inputs"],
        "made_with": {key: environment[key] for key in ("git_revision", "versions", "cpu")},
        "sha256": files,
        "fingerprint": sha256_json(files),
        "licence": licence(kind, params),
    }


def kind_of(name: str) -> str:
    """Name the kind of a set: `"calibration-noise"` -> `"noise"`."""
    return name.removeprefix("calibration-").removesuffix("_samples")


def licence(kind: str, params: Params) -> str:
    """Return under which terms a kind of set may be passed on, as far as the study knows."""
    origin = KINDS[kind].origin
    if origin == "code":
        return OWN_LICENCE
    terms = f"of the data: {LICENCES[params.data]}"
    if origin == "data":
        return terms
    if origin == "generator" and params.teacher != "train":
        terms += "; of the teacher, which the study did not train: its own"
        if params.teacher == "official":
            terms += " (NVIDIA Source Code License, research and evaluation only)"
    return f"made from the data by the study's networks or statistics; the terms {terms}"


def card_text(card: dict) -> str:
    """Return a data card as Markdown."""
    classes = ", ".join(f"{name} {count}" for name, count in card["images_per_class"].items())
    if not card["labels_have_meaning"]:
        classes += " (the images show no classes: labels only take turns)"
    origin = [f"`{name}` (SHA-256 {value})" for name, value in _references(card["made_from"])]
    options = ", ".join(f"{key} {value}" for key, value in sorted(card["record"].items()))
    versions = ", ".join(f"{k} {v}" for k, v in sorted(card["made_with"]["versions"].items()))
    lines = [
        f"# {card['name']} ({card['profile']})",
        f"{card['what']} {card['images']:,} images, {' × '.join(map(str, card['shape']))}, uint8.",
        f"- Images a class: {classes}",
        "- `samples/`: safetensors with `images`, `labels`"
        + (" and `latents`" if card["latents"] else "")
        + "; `images/<class>/NNNNN.png`: the same images, numbered as there",
        f"- Made by `{card['made_by']}`; {options}",
        f"- Made from: {'; '.join(origin) or 'nothing else'}",
        f"- Made with: {versions}; code {card['made_with']['git_revision']}",
        f"- Terms: {card['licence']}",
        "## SHA-256 of the files in `samples/`",
        "\n".join(f"- `{name}`: {value}" for name, value in card["sha256"].items()),
    ]
    head, rest = lines[:2], lines[2:8]
    return "\n\n".join([*head, "\n".join(rest), *lines[8:]]) + "\n"


def _references(inputs: dict) -> list[tuple[str, str]]:
    return [(name, value) for group in inputs.values() for name, value in group.items()]


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m lib.publish.sets", description=__doc__)
    parser.add_argument("profile", type=Path, help="a profile's YAML file")
    try:
        publish_sets(validate(read_profile(parser.parse_args(arguments).profile)))
    except StudyError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
