"""Publish the networks that a profile has trained: weights in half precision, with model cards.

Below `outputs/<profile>/weights/` lie `<name>.safetensors` and `<name>.md` for teacher, student,
evaluator and each classifier, and `teacher-training.safetensors`, from which the teacher's training
can go on.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from lib.classifiers.training import load_classifier, predict, train_classifier
from lib.common.errors import StudyError
from lib.common.files import read_named, sha256_file, write_text
from lib.common.seeds import torch_generator
from lib.common.statistics import wilson_interval
from lib.common.tensors import load_tensors, save_tensors
from lib.data.samples import SampleSet
from lib.publish.cards import licence, render_card
from lib.student import sampling as student
from lib.student.distillation import distill
from lib.study.params import Params
from lib.study.study import Study
from lib.teacher import sampling as teacher
from lib.teacher.source import STATE, round_state
from lib.teacher.training import train_teacher

CHECK_IMAGES = 200
LARGEST_HALF = 65504.0


@dataclass(frozen=True)
class Role:
    """What a network does in the study: its words, its builder, how it is loaded and used."""

    what: str
    train: Callable
    load: Callable
    generate: Callable | None = None
    origin: str = "statistics"  # as in `lib.calibration.kinds.Kind`


CLASSIFIER = Role("Classifier of the family and size `{name}`", train_classifier, load_classifier)
ROLES = {
    "teacher": Role(
        "Teacher: class-conditional StyleGAN2-ADA generator (Karras et al. 2020, 2006.06676)",
        train_teacher,
        teacher.load_teacher,
        teacher.generate,
        "generator",
    ),
    "student": Role(
        "Student: DiStyleGAN, a small class-conditional generator distilled from the teacher's "
        "samples (after Chang & Lu 2020, 2009.13829)",
        distill,
        student.load_student,
        student.generate,
        "generator",
    ),
    "evaluator": Role(
        "Evaluator: the classifier that judges generated images", train_classifier, load_classifier
    ),
}


def publish_weights(params: Params) -> list[Path]:
    """Write weights and card of every network that the profile has trained; return the weights.

    Floating-point tensors are rounded to float16, but those beyond its range. A network that the
    profile takes from these very weights gets its card. Those that came from elsewhere are left
    out: they are not the study's to pass on. Raises `StudyError` where a network is damaged or out
    of date, or there is none.
    """
    study, written = Study(params, "06_comparison"), []
    for name in sorted(study.manifest.read()["artifacts"]):
        role = CLASSIFIER if name.startswith("classifier-") else ROLES.get(name)
        if role is None:
            continue
        entry = study.manifest.entry(name)
        source = study.path(name) / f"{name if role.generate else 'classifier'}.safetensors"
        target = study.folder / "weights" / f"{name.removeprefix('classifier-')}.safetensors"
        if not is_own(study, name, target.stem):
            continue
        if "sha256" not in entry["options"]:  # it was trained in this run
            state, config = load_tensors(source)
            save_tensors(target, {key: half(tensor) for key, tensor in state.items()}, config)
        training = None
        if (source.parent / STATE).is_file():
            training = target.with_name(f"{target.stem}-{STATE}")
            round_state(source.parent / STATE, training)
        write_text(
            target.with_suffix(".md"), model_card(study, name, role, source, target, training)
        )
        print(f"{target}: {target.stat().st_size:,} bytes", flush=True)
        written.append(target)
    if not written:
        raise StudyError(f"{study.folder} holds no trained network: run the study first")
    return written


def is_own(study: Study, artifact: str, name: str) -> bool:
    """Tell whether a network was trained here, now or for the published weights `name`."""
    entry, role = study.manifest.entry(artifact), ROLES.get(artifact, CLASSIFIER)
    if entry is None:
        return False
    file = study.folder / "weights" / f"{name}.safetensors"
    taken = file.is_file() and entry["options"].get("sha256") == sha256_file(file)
    return taken or entry["builder"].rpartition(".")[2] == role.train.__name__


def half(tensor: torch.Tensor) -> torch.Tensor:
    """Round to float16, unless the tensor is of integers or beyond that type's range."""
    if tensor.is_floating_point() and (tensor.abs() <= LARGEST_HALF).all():
        return tensor.half()
    return tensor


def model_card(
    study: Study, name: str, role: Role, source: Path, target: Path, training: Path | None
) -> str:
    """Return the Markdown card of a network: data, recipe, machine, time, measures, terms."""
    entry, (state, config) = study.manifest.entry(name), load_tensors(target)
    if role.generate:
        measures = generator_measures(study, name)
    else:
        test = SampleSet.load(study.path("real/test"))
        measures = classifier_measures(test, target)
    taken = "sha256" in entry["options"]  # of a file, which is the published one itself
    if not taken:
        kept = half_precision if role.generate else classes_kept
        measures.append(kept(role if role.generate else test, source, target))
    room, load = ".".join(role.load.__module__.split(".")[:2]), role.load.__name__
    return render_card(
        "network.md.j2",
        name=target.stem,
        profile=study.params.profile,
        what=role.what.format(name=config.get("name")),
        data=study.data_name(),
        classes=config["class_names"],
        file=target,
        numbers=sum(tensor.numel() for tensor in state.values()),
        sha256=sha256_file(target),
        load=f"from {room} import {load}; {load}(path)",
        training=training,
        builder=f"{role.train.__module__}.{role.train.__name__}",
        taken=taken,
        entry=entry,
        hardware=hardware(entry["made_with"]),
        time=training_time(study.manifest.read()["seconds"].get(name), entry["options"]),
        terms=licence(role.origin, study.params),
        measures=measures,
    )


def hardware(made_with: dict) -> str:
    """Return what a network was trained on, from its entry in the manifest."""
    if made_with.get("device") == "cuda":
        return f"{', '.join(made_with['gpus'])} (GPU), {made_with['cpu']}"
    return f"{made_with['cpu']} ({', '.join(made_with['cpu_flags'])}), no GPU"


def training_time(seconds: dict | None, options: dict) -> str:
    """Return what the manifest says of an artifact's time, and what that leaves out: `"12 min"`."""
    if seconds is None:
        return "not recorded"
    since = " since it was last interrupted" if seconds["resumed"] else ""
    before = ", without the training that it went on from" if options.get("start") else ""
    return f"{seconds['seconds'] / 60:.1f} min{since}{before}"


def classifier_measures(test: SampleSet, target: Path) -> list[str]:
    """Return top-1 accuracy on the test set, of the published file."""
    right, n = predict(load_classifier(target), test.images).argmax(1) == test.labels, len(test)
    low, high = wilson_interval(int(right.sum()), n)
    by_class = [right[test.labels == label].mean() for label in range(len(test.class_names))]
    return [
        f"Top-1 accuracy {right.mean():.2%} on {n:,} test images (95 % interval {low:.2%} to "
        f"{high:.2%}); by class: {shares(test.class_names, by_class)}"
    ]


def generator_measures(study: Study, name: str) -> list[str]:
    """Return what the notebooks have measured of a generator's images and exported files."""
    lines = []
    for artifact in ("evaluation", "evaluator-evaluation"):  # the latter on its own features
        if study.manifest.entry(artifact) is not None:
            folder = study.path(artifact)
            lines += measured_lines(name, pd.read_csv(folder / "metrics.csv"))
    if lines:
        classes = read_named(folder / "per_class.csv")
        classes = classes.query("set == @name and against == 'real train'")
        by_class = shares(classes["class"], classes["label_agreement"])
        lines.append(f"Label agreement by class: {by_class}")
    if name == "student" and study.manifest.entry("image_generator") is not None:
        formats = pd.read_csv(study.path("image_generator") / "check.csv").set_index("format")
        int8 = formats.loc["int8"]
        lines.append(
            f"In INT8 the pixels differ from float32's by {int8.mean_difference:.1f} of 255 grey "
            f"levels on average, by {int8.quantile_difference:.0f} or more in one pixel of 1,000, "
            f"by {int8.largest_difference:.0f} at most"
            + (f" ({int8.note})" if isinstance(int8.get("note"), str) else "")
        )
    return lines or ["Not evaluated: run notebook 03"]


def measured_lines(name: str, metrics: pd.DataFrame) -> list[str]:
    """Return what `metrics.csv` says of the images of a generator."""
    (floor,) = metrics.query("set == 'real test'")["fid"]
    whole = metrics.query("set == @name and against == 'real test'")
    return [
        f"{row.distance} {row.fid:.3f} ({row.fid_low:.3f} to {row.fid_high:.3f}) to "
        f"{row.n_against:,} real test images, from {row.n:,} (between these and the real training "
        f"images: {floor:.3f}), in the features of {row.extractor}; label agreement "
        f"{row.label_agreement:.1%}, precision {row.precision:.1%}, recall {row.recall:.1%}"
        for row in whole.itertuples()
    ]


def shares(names, values) -> str:
    """Write shares by class: `"cat 61.0%, dog 70.2%"`."""
    return ", ".join(f"{name} {value:.1%}" for name, value in zip(names, values, strict=True))


def classes_kept(test: SampleSet, source: Path, target: Path) -> str:
    """Return on how many test images the rounded weights of a classifier give the same class."""
    found = [predict(load_classifier(path), test.images).argmax(1) for path in (source, target)]
    alike = np.mean(found[0] == found[1])
    return f"Half precision: {alike:.2%} of the test images are classified as in float32"


def half_precision(role: Role, source: Path, target: Path) -> str:
    """Return how far the images of the rounded weights are from those of the exact ones."""
    exact, rounded = role.load(source), role.load(target)
    z = torch.randn(CHECK_IMAGES, exact.z_dim, generator=torch_generator(1, "half precision"))
    labels = torch.arange(CHECK_IMAGES) % exact.c_dim
    images = [role.generate(network, z, labels).astype(float) for network in (exact, rounded)]
    difference = np.abs(images[0] - images[1])
    return (
        f"Half precision: over {CHECK_IMAGES} images the pixels differ from float32's by "
        f"{difference.mean():.3f} of 255 grey levels on average, {difference.max():.0f} at most"
    )
