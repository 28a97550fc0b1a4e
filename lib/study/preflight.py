"""What is checked before long work starts."""

import shutil
from pathlib import Path

import torch

from lib.classifiers.published import CIFAR10_CLASSES, check_classes, published_file
from lib.common.errors import StudyError
from lib.common.files import read_json, resolve
from lib.data.real import SPLITS, list_tree, read_image
from lib.evaluation.ablation import chosen_variants
from lib.evaluation.features import inception_weights
from lib.study.manifest import changed_parameter
from lib.study.notebooks import appendix_paths, declared_parameters, notebook_paths
from lib.study.output_folder import check_writable, output_folder
from lib.study.params import Params
from lib.teacher.source import check_source, check_start, find_teacher

BASE_BYTES = 200_000_000


def check(params: Params, notebooks: list[Path]) -> None:
    """Raise `StudyError` for the first fault that would spoil the run of `notebooks`."""
    check_declarations(params)
    folder = output_folder(params)
    check_writable(folder)
    check_disk(params, folder)
    if params.device == "cuda" and not torch.cuda.is_available():
        raise StudyError("parameter device: cuda is not available here, choose cpu")
    check_earlier(params, folder, notebooks[0].stem)
    evaluates = any(path.stem == "03_evaluation" for path in notebooks)
    if evaluates and params.evaluation_extractor != "classifier":
        inception_weights()
    if notebooks[0] == notebook_paths()[0]:
        check_data(params)
        if params.teacher == "train":
            check_start(params.teacher_start)
        else:
            check_source(find_teacher(params.teacher, folder / "manifest.json"))
    if any(path.stem in ("04_calibration_sets", "05_quantization") for path in notebooks):
        check_networks(params)
    if any(path.stem == "A1_distillation_ablation" for path in notebooks):
        chosen_variants(params.ablation_variants)


def check_declarations(params: Params) -> None:
    """Each parameter must be declared by some notebook."""
    paths = notebook_paths() + appendix_paths()
    declared = {name for path in paths for name in declared_parameters(path)}
    idle = sorted(set(params.model_dump()) - declared)
    if idle:
        raise StudyError(f"unknown parameter {idle[0]}: no notebook declares it")


def check_earlier(params: Params, folder: Path, first: str) -> None:
    """What notebooks before `first` have made must have been made with these parameters."""
    path = folder / "manifest.json"
    artifacts = read_json(path)["artifacts"] if path.exists() else {}
    for name, entry in artifacts.items():
        fault = changed_parameter(entry["parameters"], params.model_dump())
        if fault and entry["notebook"] < first:
            number = entry["notebook"][:2]
            raise StudyError(f"artifact {name}: {fault}; run the study again --from {number}")


def check_disk(params: Params, folder: Path) -> None:
    """The free space must hold the samples and models that the profile makes."""
    sample = 3 * 32 * 32 + 8 + 4 * params.teacher_z_dim
    samples = 10 * (2 * params.sampling_per_class + params.evaluation_per_class)
    needed = BASE_BYTES + samples * sample
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise StudyError(
            f"disk full: {folder} has {free / 1e6:.0f} MB free, the study needs about "
            f"{needed / 1e6:.0f} MB: free some space or choose another output_dir"
        )


def check_networks(params: Params) -> None:
    """Networks from elsewhere must be there and fit the data: published weights, own files."""
    names = class_folders(params)
    if params.classifiers_weights == "published":
        check_classes(names or CIFAR10_CLASSES)
        for name in params.classifiers:
            published_file(name)
    for model in params.own_models:
        from lib.quantization.own.imports import check_network  # OpenVINO, which is slow to import

        check_network(model, len(names) or None)


def class_folders(params: Params) -> list[str]:
    """Return the class folders of an image tree; those of digits or CIFAR-10, which are known."""
    if params.data == "cifar10":
        return CIFAR10_CLASSES
    if params.data == "digits":
        return [str(k) for k in range(10)]
    return [label for split, label in list_tree(resolve(params.data_dir)) if split == SPLITS[0]]


def check_data(params: Params) -> None:
    """An image tree must have train/ and test/ with two classes or more of 32×32 images."""
    if params.data != "imagefolder":
        return
    source = resolve(params.data_dir)
    tree = list_tree(source)
    for wanted in (SPLITS[0], SPLITS[2]):
        classes = [label for split, label in tree if split == wanted]
        if len(classes) < 2:
            raise StudyError(
                f"{source}: {wanted}/ has {len(classes)} class folders: it takes two or more"
            )
        for label in classes:
            if not tree[wanted, label]:
                raise StudyError(
                    f"{source}: {wanted}/{label} has no images: add some or remove the folder"
                )
            name, content = tree[wanted, label][0]
            read_image(content, f"{wanted}/{label}/{name}")
