"""What is checked before long work starts."""

import shutil
from pathlib import Path

import torch

from lib.calibration.sources import check_generators
from lib.classifiers.names import weights_source
from lib.classifiers.source import find_weights
from lib.common.errors import StudyError
from lib.common.files import read_json, resolve
from lib.data.cifar10 import CLASSES, check_cifar10, load_cifar10
from lib.data.images import read_image
from lib.data.real import check_counts, load_digits_32, stratified_split
from lib.data.samples import SampleSet
from lib.data.trees import list_tree
from lib.evaluation.ablation import chosen_variants
from lib.student.source import read_student
from lib.study.manifest import changed_parameter
from lib.study.notebooks import notebook_paths
from lib.study.output_folder import check_writable, output_folder
from lib.study.params import Params
from lib.teacher.source import check_source, check_start, find_teacher

BASE_BYTES = 200_000_000
SOME = 300  # images that networks of one's own are tried on


def check(params: Params, notebooks: list[Path]) -> None:
    """Raise `StudyError` for the first fault that would spoil the run of `notebooks`."""
    folder = output_folder(params)
    check_writable(folder)
    check_disk(params, folder)
    if params.device == "cuda" and not torch.cuda.is_available():
        raise StudyError("parameter device: cuda is not available here, choose cpu")
    check_earlier(params, folder, notebooks[0].stem)
    if any(path.stem == "03_evaluation" for path in notebooks):
        if params.evaluator_weights != "train":
            find_weights(params.evaluator_weights, params.evaluator, class_folders(params))
        if params.evaluation_extractor == "inception-v3-compat":
            from lib.evaluation.extractors import inception_weights  # OpenVINO, slow to import

            inception_weights()
    if notebooks[0] == notebook_paths()[0]:
        check_data(params)
        if params.teacher == "train":
            check_start(params.teacher_start)
        else:
            source = find_teacher(params.teacher, folder / "manifest.json")
            check_source(source, len(class_folders(params)))
    if params.student != "train" and any(p.stem == "02_distillation_training" for p in notebooks):
        read_student(resolve(params.student), class_folders(params))
    if any(path.stem == "04_calibration_sets" for path in notebooks):
        sets = params.calibration_sets
        check_generators(sets, params.calibration_generators, params.student)
    if any(path.stem in ("04_calibration_sets", "05_quantization") for path in notebooks):
        check_networks(params)
    if any(path.stem == "A1_distillation_ablation" for path in notebooks):
        chosen_variants(params.ablation_variants)


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
    sources = {
        name: weights_source(params.classifiers_weights, name) for name in params.classifiers
    }
    if not params.own_models and set(sources.values()) <= {"train"}:
        return  # the data need not be read
    names = class_folders(params)
    for name, weights in sources.items():
        find_weights(weights, name, names)
    if params.own_models:
        from lib.quantization.own.imports import better_description, check_network  # slow to import

        for model in params.own_models:
            check_network(model, len(names))
        samples = some_images(params)
        for model in params.own_models:
            if note := better_description(model, samples):
                print(f"note: {note}", flush=True)


def some_images(params: Params) -> SampleSet:
    """Return a few hundred test images, each class as often as the others."""
    source = resolve(params.data_dir)
    if params.data == "imagefolder":
        tree = list_tree(source, params.class_order)
        tree.check()
        return tree.first(-(-SOME // len(tree.classes("test")))).read("test")
    whole = load_cifar10(source) if params.data == "cifar10" else load_digits_32(params.test_images)
    return stratified_split(whole[1], min(SOME, len(whole[1]) // 2), seed=0)[1]


def class_folders(params: Params) -> list[str]:
    """Return the class folders of an image tree; those of digits or CIFAR-10, which are known."""
    if params.data == "cifar10":
        return CLASSES
    if params.data == "digits":
        return [str(k) for k in range(10)]
    return list_tree(resolve(params.data_dir), params.class_order).classes("train")


def check_data(params: Params) -> None:
    """The files of the data must be right, and each class have images enough."""
    source = resolve(params.data_dir)
    if params.data == "cifar10":
        check_cifar10(source)
        counts = dict.fromkeys(CLASSES, 5000)
    elif params.data == "imagefolder":
        tree = list_tree(source, params.class_order)
        tree.check()
        for (split, label), ((name, content), *_) in tree.images.items():
            read_image(content, f"{split}/{label}/{name}")
        counts, tested = tree.counts("train"), sum(tree.counts("test").values())
        if tested <= params.evaluation_neighbours:
            few = f"{source}: test/ has {tested} images in all"
            raise StudyError(f"{few}: add some, precision and recall want many neighbours")
    else:
        return  # `lib.study.rules` knows their number
    check_counts(counts, params.validation_images, params.calibration_per_class, params.seed)
