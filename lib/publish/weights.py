"""Publish the networks that a profile has trained: weights in half precision, with model cards.

`python -m lib.publish.weights params/digits.yaml` writes, below `outputs/<profile>/weights/`,
`<name>.safetensors` and `<name>.md` for teacher, student, evaluator and each classifier, and
`teacher-training.safetensors`, from which the teacher's training can go on.
"""

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from lib.classifiers.training import accuracy, load_classifier, predict
from lib.common.errors import StudyError
from lib.common.files import sha256_file, write_text
from lib.common.seeds import torch_generator
from lib.common.statistics import wilson_interval
from lib.common.tensors import load_weights, save_weights
from lib.data.samples import SampleSet
from lib.publish.sets import licence
from lib.student import sampling as student
from lib.study.params import Params, read_profile, validate
from lib.study.study import Study
from lib.teacher import sampling as teacher
from lib.teacher.source import STATE, round_state

CHECK_IMAGES = 200
LARGEST_HALF = 65504.0
WHAT = {
    "teacher": "Teacher: class-conditional StyleGAN2-ADA generator (Karras et al. 2020, "
    "2006.06676)",
    "student": "Student: class-conditional DiStyleGAN generator, distilled from the teacher's "
    "samples, with real images for its discriminator (after Chang & Lu 2020, 2009.13829)",
    "evaluator": "Evaluator: the classifier that judges generated images",
}
TRAINERS = {"train_teacher", "distill", "train_classifier"}
LOADED_BY = {
    "teacher": "lib.teacher.sampling.load_teacher(path)`, or in a profile `teacher: path",
    "student": "lib.student.sampling.load_student(path)",
}


def publish_weights(params: Params) -> list[Path]:
    """Write weights and card of every network that the profile has trained; return the weights.

    Floating-point tensors are rounded to float16, but those beyond its range. Networks that came
    from elsewhere are left out: they are not the study's to pass on. Raises `StudyError` where a
    network is damaged or out of date, or there is none.
    """
    study = Study(params, "06_comparison")
    written = []
    for name in sorted(study.manifest.read()["artifacts"]):
        source = trained_network(study, name)
        if source is None:
            continue
        target = study.folder / "weights" / f"{name.removeprefix('classifier-')}.safetensors"
        state, config = load_weights(source)
        save_weights(target, {key: half(tensor) for key, tensor in state.items()}, config)
        if (source.parent / STATE).is_file():
            round_state(source.parent / STATE, training_state(target))
        write_text(target.with_suffix(".md"), model_card(study, name, source, target))
        print(f"{target}: {target.stat().st_size:,} bytes", flush=True)
        written.append(target)
    if not written:
        raise StudyError(f"{study.folder} holds no trained network: run the study first")
    return written


def trained_network(study: Study, name: str) -> Path | None:
    """Return the weights of the artifact `name`, or None if it is no network trained here."""
    kind = "classifier" if name.startswith("classifier-") or name == "evaluator" else name
    if kind not in ("teacher", "student", "classifier"):
        return None
    path = study.path(name) / f"{kind}.safetensors"
    trained = study.manifest.entry(name)["builder"].rpartition(".")[2] in TRAINERS
    return path if trained and path.is_file() else None


def training_state(target: Path) -> Path:
    """Return where the state of a network's training goes, beside its weights `target`."""
    return target.with_name(f"{target.stem}-{STATE}")


def half(tensor: torch.Tensor) -> torch.Tensor:
    """Round to float16, unless the tensor is of integers or beyond that type's range."""
    if tensor.is_floating_point() and (tensor.abs() <= LARGEST_HALF).all():
        return tensor.half()
    return tensor


def model_card(study: Study, name: str, source: Path, target: Path) -> str:
    """Return the Markdown card of a network: data, recipe, machine, time, measures, terms."""
    entry, config = study.manifest.entry(name), load_weights(target)[1]
    made, seconds = entry["made_with"], study.manifest.read()["seconds"].get(name)
    recipe = dict(entry["options"])
    recipe |= recipe.pop("options", {})
    options = ", ".join(f"{key} {value}" for key, value in sorted(recipe.items()))
    made_from = [f"`{r}` ({h})" for group in entry["inputs"].values() for r, h in group.items()]
    versions = ", ".join(f"{key} {value}" for key, value in sorted(made["versions"].items()))
    loader = LOADED_BY.get(name, "lib.classifiers.training.load_classifier(path)")
    state = load_weights(target)[0]
    lines = [
        f"# {name.removeprefix('classifier-')} ({study.params.profile})",
        WHAT.get(name, f"Classifier of the family and size `{config.get('name')}`") + ".",
        f"- Data: {study.data_name()}, {len(config['class_names'])} classes "
        f"({', '.join(config['class_names'])})",
        f"- File: `{target.name}`, {target.stat().st_size:,} bytes, "
        f"{sum(tensor.numel() for tensor in state.values()):,} numbers, SHA-256 "
        f"{sha256_file(target)}",
        f"- Load: `{loader}`" + go_on(training_state(target)),
        f"- Recipe: `{entry['builder']}`; {options}",
        f"- Trained on: {'; '.join(made_from)} (hashes as in `manifest.json`)",
        f"- Hardware: {hardware(made)}; time {training_time(seconds, entry['options'])}",
        f"- Software: {versions}; code {made['git_revision']}",
        f"- Terms: {licence(name, study.params)}",
        "## Measures",
        *measures(study, name, source, target),
    ]
    head, rest = lines[:2], lines[2:10]
    return "\n\n".join([*head, "\n".join(rest), lines[10], "\n".join(lines[11:])]) + "\n"


def go_on(state: Path) -> str:
    """Return the line on a state from which training goes on, if it is there."""
    if not state.is_file():
        return ""
    size = f"{state.stat().st_size:,} bytes, tensors in bfloat16"
    return f"\n- Training goes on from `{state.name}` ({size}): `teacher_start:` in a profile"


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


def measures(study: Study, name: str, source: Path, target: Path) -> list[str]:
    """Return the lines on how good a network is, and what half precision changes."""
    if name not in ("teacher", "student"):
        return classifier_measures(SampleSet.load(study.path("real/test")), source, target)
    return [*generator_measures(study, name), half_precision(name, source, target)]


def classifier_measures(test: SampleSet, source: Path, target: Path) -> list[str]:
    """Return top-1 accuracy on the test set, of the published file, and how far rounding goes."""
    ours, exact = (predict(load_classifier(path), test.images) for path in (target, source))
    correct, n = round(accuracy(ours, test.labels) * len(test)), len(test)
    low, high = wilson_interval(correct, n)
    agreement = np.mean(ours.argmax(1) == exact.argmax(1))
    return [
        f"- Top-1 accuracy {correct / n:.2%} on {n:,} test images (95 % interval {low:.2%} to "
        f"{high:.2%}); by class: {accuracy_by_class(ours, test)}",
        f"- Half precision: {agreement:.2%} of the test images are classified as in float32",
    ]


def accuracy_by_class(logits: np.ndarray, test: SampleSet) -> str:
    """Return `"cat 61.0 %, dog …"` from logits `(n, classes)`."""
    right = logits.argmax(1) == test.labels
    shares = [right[test.labels == k].mean() for k in range(len(test.class_names))]
    return ", ".join(f"{n} {s:.1%}" for n, s in zip(test.class_names, shares, strict=True))


def generator_measures(study: Study, name: str) -> list[str]:
    """Return what notebook 03 has measured of the generator's images, if it has."""
    if study.manifest.entry("evaluation") is None:
        return ["- Not evaluated: run notebook 03"]
    folder = study.path("evaluation")
    whole = pd.read_csv(folder / "metrics.csv").query("set == @name and against == 'real test'")
    by_class = agreement_by_class(pd.read_csv(folder / "per_class.csv", dtype={"class": str}), name)
    lines = []
    for row in whole.itertuples():
        lines.append(
            f"- FID {row.fid:.3f} ({row.fid_low:.3f} to {row.fid_high:.3f}) to {row.n_against:,} "
            f"real test images, from {row.n:,}, in the features of {row.extractor}; label "
            f"agreement {row.label_agreement:.1%}, precision {row.precision:.1%}, recall "
            f"{row.recall:.1%}"
        )
    return [*lines, f"- Label agreement by class: {by_class}"]


def agreement_by_class(per_class: pd.DataFrame, name: str) -> str:
    """Return `"cat 61.0%, dog …"` of the set `name` from notebook 03's table by class."""
    rows = per_class.query("set == @name and against == 'real train'")
    pairs = zip(rows["class"], rows["label_agreement"], strict=True)
    return ", ".join(f"{label} {share:.1%}" for label, share in pairs)


def half_precision(name: str, source: Path, target: Path) -> str:
    """Return how far the images of the rounded weights are from those of the exact ones."""
    load, generate = GENERATORS[name]
    exact, rounded = load(source), load(target)
    z = torch.randn(CHECK_IMAGES, exact.z_dim, generator=torch_generator(1, "half precision"))
    labels = torch.arange(CHECK_IMAGES) % exact.c_dim
    images = [generate(network, z, labels).astype(np.float32) for network in (exact, rounded)]
    difference = np.abs(images[0] - images[1])
    return (
        f"- Half precision: over {CHECK_IMAGES} images the pixels differ from float32's by "
        f"{difference.mean():.3f} of 255 grey levels on average, {difference.max():.0f} at most"
    )


GENERATORS: dict[str, tuple[Callable, Callable]] = {
    "teacher": (teacher.load_teacher, teacher.generate),
    "student": (student.load_student, student.generate),
}


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m lib.publish.weights", description=__doc__)
    parser.add_argument("profile", type=Path, help="a profile's YAML file")
    try:
        publish_weights(validate(read_profile(parser.parse_args(arguments).profile)))
    except StudyError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
