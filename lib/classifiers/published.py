"""Weights that chenyaofo/pytorch-cifar-models publishes for CIFAR-10 (BSD-3-Clause)."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from lib.classifiers.build import CIFAR10_MEAN, CIFAR10_STD
from lib.classifiers.names import FAMILIES
from lib.classifiers.training import WEIGHTS, load_published, train_classifier
from lib.common.download import cache_folder, download
from lib.common.errors import StudyError
from lib.common.tensors import save_weights
from lib.data.samples import SampleSet

RELEASES = "https://github.com/chenyaofo/pytorch-cifar-models/releases/download"
SHA256_STARTS = {
    "resnet20": "4118986f",
    "resnet32": "ef93fc4d",
    "resnet44": "2a3cabcb",
    "resnet56": "187c023a",
    "vgg11_bn": "eaeebf42",
    "vgg13_bn": "c01e4a43",
    "vgg16_bn": "6ee7ea24",
    "vgg19_bn": "57191229",
    "mobilenetv2_x0_5": "ca14ced9",
    "mobilenetv2_x0_75": "a53c314e",
    "mobilenetv2_x1_0": "fe6a5b48",
    "mobilenetv2_x1_4": "3bbbd6e2",
    "shufflenetv2_x0_5": "1308b4e9",
    "shufflenetv2_x1_0": "98807be3",
    "shufflenetv2_x1_5": "296694dd",
    "shufflenetv2_x2_0": "ec31611c",
    "repvgg_a0": "ef08a50e",
    "repvgg_a1": "38d2431b",
    "repvgg_a2": "09488915",
}
"""The first 8 digits of each file's SHA-256, which its name carries."""
CIFAR10_CLASSES = [
    *("airplane", "automobile", "bird", "cat", "deer"),
    *("dog", "frog", "horse", "ship", "truck"),
]


def classifier_maker(weights: str, options: dict[str, Any]) -> tuple[Callable, dict[str, Any]]:
    """Return the builder of a classifier's artifact, and its options, for `classifiers_weights`.

    Both builders take `(out, real=…, name=…, device=…, **options)`; published weights come as they
    are and take none of the training's `options`.
    """
    return (train_classifier, options) if weights == "train" else (adopt_published, {})


def adopt_published(out: Path, *, real: Path, name: str, device: str = "cpu") -> None:
    """Write the published classifier `name` as `train_classifier` writes one of its own.

    Its normalisation is the one it was trained with. Raises `StudyError` unless the SampleSet
    `real` has the classes of CIFAR-10.
    """
    class_names = SampleSet.load(real).class_names
    check_classes(class_names)
    classifier = load_published(published_file(name), name)
    config = {"name": name, "mean": list(CIFAR10_MEAN), "std": list(CIFAR10_STD)}
    config |= {"num_classes": len(class_names), "class_names": class_names, "origin": _file(name)}
    save_weights(out / WEIGHTS, classifier.model, config)


def published_file(name: str) -> Path:
    """Return the file of a published size, downloaded once into the user's cache and verified.

    Offline, a `StudyError` names the file and where to put it.
    """
    target = cache_folder() / _file(name)
    family = next(family for family, names in FAMILIES.items() if name in names)
    download(f"{RELEASES}/{family}/{target.name}", target, SHA256_STARTS[name])
    return target


def check_classes(class_names: list[str]) -> None:
    """Raise `StudyError` unless the classes are CIFAR-10's, in its order."""
    if [name.lower() for name in class_names] != CIFAR10_CLASSES:
        raise StudyError(
            "classifiers_weights: published are for CIFAR-10's classes "
            f"({', '.join(CIFAR10_CLASSES)}), the data have {', '.join(class_names[:12])}: "
            "choose train"
        )


def _file(name: str) -> str:
    if name not in SHA256_STARTS:
        raise StudyError(
            f"no weights of {name} are published, only of {', '.join(SHA256_STARTS)}: choose one "
            "of these or classifiers_weights: train"
        )
    return f"cifar10_{name}-{SHA256_STARTS[name]}.pt"
