"""Weights that chenyaofo/pytorch-cifar-models publishes for CIFAR-10 (BSD-3-Clause)."""

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from lib.classifiers.build import CIFAR10_MEAN, CIFAR10_STD, build_classifier
from lib.classifiers.names import PUBLISHED, family
from lib.classifiers.training import WEIGHTS, train_classifier
from lib.common.download import cache_folder, download
from lib.common.errors import StudyError
from lib.common.tensors import fill_module, save_tensors
from lib.data.samples import SampleSet

RELEASES = "https://github.com/chenyaofo/pytorch-cifar-models/releases/download"
NAMES = "airplane automobile bird cat deer dog frog horse ship truck"
CIFAR10_CLASSES = NAMES.split()


def classifier_maker(weights: str, options: dict[str, Any]) -> tuple[Callable, dict[str, Any]]:
    """Return the builder of a classifier's artifact, and its options, for `classifiers_weights`.

    Both builders take `(out, real=…, name=…, device=…, **options)`; published weights come as they
    are and take none of the training's `options`.
    """
    return (train_classifier, options) if weights == "train" else (adopt_published, {})


def adopt_published(out: Path, *, real: Path, name: str, device: str = "cpu") -> None:
    """Write the published classifier `name` as `train_classifier` writes one of its own.

    Its normalisation is the one it was trained with; nothing in the published file is executed.
    Raises `StudyError` where the SampleSet `real` has not the classes of CIFAR-10, or the file
    cannot be fetched or is no state dict of this network.
    """
    class_names = SampleSet.load(real).class_names
    check_classes(class_names)
    path = published_file(name)
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError) as error:
        reason = str(error).splitlines()[0]
        raise StudyError(f"{path} is no plain state dict ({reason}): download it again") from error
    config = {"name": name, "mean": list(CIFAR10_MEAN), "std": list(CIFAR10_STD)}
    config |= {"num_classes": len(class_names), "class_names": class_names, "origin": path.name}
    save_tensors(out / WEIGHTS, fill_module(build_classifier(name), state, path), config)


def published_file(name: str) -> Path:
    """Return the file of a published size, downloaded once into the user's cache and verified.

    Offline, a `StudyError` names the file and where to put it.
    """
    if name not in PUBLISHED:
        raise StudyError(
            f"no weights of {name} are published, only of {', '.join(PUBLISHED)}: choose one "
            "of these or classifiers_weights: train"
        )
    target = cache_folder() / f"cifar10_{name}-{PUBLISHED[name]}.pt"
    download(f"{RELEASES}/{family(name)}/{target.name}", target, PUBLISHED[name])
    return target


def check_classes(class_names: list[str]) -> None:
    """Raise `StudyError` unless the classes are CIFAR-10's, in its order."""
    if [name.lower() for name in class_names] != CIFAR10_CLASSES:
        raise StudyError(
            "classifiers_weights: published are for CIFAR-10's classes "
            f"({', '.join(CIFAR10_CLASSES)}), the data have {', '.join(class_names[:12])}: "
            "choose train"
        )
