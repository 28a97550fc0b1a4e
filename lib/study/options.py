"""What can be set of the study as a whole, and of stages that have no options of their own."""

from typing import Annotated, Literal

from pydantic import Field

from lib.calibration.kinds import KINDS
from lib.classifiers.names import UNFUSED, family, is_classifier
from lib.common.errors import StudyError
from lib.common.options import (
    Count,
    Float,
    Positive,
    Share,
    Truncation,
    checked,
    no_repeats,
    option,
    options,
)
from lib.quantization.own.parameters import OwnModel


def check_sets(names: list[str]) -> None:
    """Refuse calibration sets that are unknown or lack what they are compared with."""
    if unknown := sorted(set(names) - set(KINDS)):
        raise StudyError(f"no set is called {', '.join(unknown)}: known are {', '.join(KINDS)}")
    if len(names) < 2:
        raise StudyError("name real and at least one set to compare it with")
    if "real" not in names:
        raise StudyError("real must be among the sets: the others are compared with it")


def check_own(models: list[OwnModel]) -> None:
    """Refuse networks of one's own that are called like each other or like the study's."""
    names = [model.name for model in models]
    no_repeats.func(names)
    for name in names:
        if is_classifier(name.removesuffix(UNFUSED)):
            raise StudyError(f"{name} is a name of the study's: choose another")


Classifier = Annotated[str, checked(family)]
Sets = Annotated[list[str], no_repeats, checked(check_sets)]
Classifiers = Annotated[list[Classifier], no_repeats]
NonNegative = Annotated[int, Field(ge=0)]


@options
class Run:
    """The run."""

    profile: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")] = option(
        "digits", "name of the folder below output_dir"
    )
    seed: Annotated[int, Field(ge=0, lt=2**63)] = option(
        1, "every random number of the study derives from it"
    )
    output_dir: Annotated[str, Field(min_length=1)] = option(
        "outputs", "where everything is written, from the repository's root", how=True
    )
    device: Literal["cpu", "cuda"] = option("cpu", "cpu or cuda", how=True)
    num_processes: Annotated[int, Field(ge=1, le=64)] = option(
        1, "processes that share the batches of both trainings and the shards of samples", how=True
    )
    jobs: Count = option(2, "quantization cells that run side by side, one process each", how=True)
    scheduler: str = option(
        "",
        "address of a dask scheduler whose workers take the cells instead, such as "
        "tcp://10.0.0.1:8786",
        how=True,
    )


@options
class Data:
    """Real data."""

    data: Literal["digits", "cifar10", "imagefolder"] = option(
        "digits", "digits (embedded), cifar10 (torchvision), or imagefolder: a tree of images"
    )
    data_dir: str = option(
        "data", "where cifar10 lies, or the tree train/ and test/: a folder or a tar archive"
    )
    data_name: str = option("", 'what tables and figures call the data; "" for their own name')
    class_order: Annotated[list[str], no_repeats] = option(
        [],
        "an image tree's classes in the order of your networks' outputs; [] sorts them as text, "
        "10 before 2",
    )
    test_images: NonNegative = option(
        600, "size of the digits' test split; 0 where the data come split"
    )
    validation_images: Count = option(
        200, "held out of training; accuracy-aware quantization judges its drop on them"
    )


@options
class Teacher:
    """00 The teacher."""

    teacher: Annotated[str, Field(min_length=1)] = option(
        "train",
        "train, official (NVIDIA's CIFAR-10 file), a .safetensors or .pkl file, or a folder of "
        "samples",
    )
    teacher_start: str = option(
        "", 'training.safetensors of an earlier run, to go on from it; "" starts anew'
    )


@options
class Student:
    """02 The student."""

    student: Annotated[str, Field(min_length=1)] = option(
        "train", "train, or a .safetensors file of a student that was trained before"
    )


@options
class Evaluation:
    """03 Evaluation."""

    evaluator: Classifier = option(
        "resnet20", "independent classifier that judges the classes and gives features"
    )
    evaluator_weights: str = option("train", "train, published or a file, as classifiers_weights")
    evaluator_epochs: Count = option(8, "its training in passes over the real images")
    evaluation_per_class: Count = option(
        100, "images per class of each synthetic set that are measured"
    )
    evaluation_kid_subset_size: Annotated[int, Field(ge=2)] = option(
        500, "images in a subset for KID"
    )
    evaluation_kid_subsets: Annotated[int, Field(ge=2)] = option(20, "subsets for KID")
    evaluation_neighbours: Count = option(3, "neighbours for precision and recall")
    evaluation_extractor: Literal["efficientnet-lite0", "inception-v3-compat", "classifier"] = (
        option(
            "efficientnet-lite0",
            "whose features beside the evaluator's: efficientnet-lite0, inception-v3-compat (a "
            "download) or, for none, classifier",
        )
    )
    evaluation_groups: Annotated[int, Field(ge=2)] = option(
        20, "groups of images that the interval of KID leaves out in turn"
    )
    evaluation_score_classifier: Classifier = option(
        "resnet20_x0_5", "classifier that is trained on synthetic images and tested on real ones"
    )
    evaluation_score_per_class: Count = option(100, "images per class that it is trained on")
    evaluation_score_epochs: Count = option(4, "its training in passes over them")
    evaluation_psis: Annotated[list[Truncation], Field(min_length=1), no_repeats] = option(
        [0.4, 0.6, 0.8, 1.0], "truncation psi of the teacher's quality curve"
    )
    evaluation_psi_per_class: Count = option(50, "images per class at each psi")


@options
class Networks:
    """The classifiers that are quantized."""

    classifiers: Classifiers = option(
        ["resnet20", "vgg11_bn_x0_5", "mobilenetv2_x0_25", "repvgg_a0_x0_25", "shufflenetv2_x0_5"],
        "names as published, or with _x<width>",
    )
    classifiers_weights: str | dict[str, str] = option(
        "train",
        "train, published (chenyaofo's for CIFAR-10, a download) or a .safetensors file of the "
        "study's; for all, or name by name, such as {resnet20: published}, which trains the rest",
    )
    own_models: Annotated[list[OwnModel], checked(check_own)] = option(
        [], "networks of your own beside them: {name, path, mean, std, …}, see docs/own.md"
    )


@options
class Calibration:
    """04 Calibration sets."""

    calibration_sets: Sets = option(
        ["real", "teacher", "student", "fractal", "noise", "zeroq", "grey"],
        "sets that networks are quantized with; real is the reference",
    )
    calibration_per_class: Count = option(90, "images per class in each set")
    calibration_generators: dict[str, str] = option(
        {},
        "weights of further students or teachers by the set that they draw: student_original, "
        "student_b, student_c, teacher_early; student_1 to student_8 where student is a file",
    )


@options
class Grid:
    """05 Quantization."""

    quantization_engines: Annotated[
        list[Literal["nncf", "pot"]], Field(min_length=1), no_repeats
    ] = option(["nncf", "pot"], "nncf; pot is OpenVINO's older tool, in an environment of its own")
    quantization_methods: Annotated[
        list[Literal["default", "accuracy_aware", "accuracy_aware_synthetic"]],
        Field(min_length=1),
        no_repeats,
    ] = option(
        ["default", "accuracy_aware"],
        "default, accuracy_aware, and accuracy_aware_synthetic: the same judged on fresh images "
        "of the student, which the network itself labels",
    )
    quantization_seeds: Count = option(
        3, "draws: how often default quantization is repeated with other images of the set"
    )
    quantization_dose_seeds: NonNegative = option(
        2,
        "the same with sets that are doses of another, such as the student in training; 0 leaves "
        "them out",
    )
    quantization_accuracy_aware_seeds: Count = option(
        1, "the same for accuracy-aware quantization, which is slow"
    )
    quantization_accuracy_aware_networks: NonNegative = option(
        0, "accuracy-aware by NNCF: so many networks are quantized, from the first; 0 is all"
    )
    quantization_accuracy_aware_sets: Sets = option(
        ["real", "teacher", "student", "fractal"],
        "accuracy-aware: which of calibration_sets are used",
    )
    quantization_pot_classifiers: Count = option(
        4, "POT, which is slow, quantizes so many of the classifiers, from the first"
    )
    quantization_pot_seeds: NonNegative = option(
        1, "repeats of POT's default quantization; 0 leaves it out"
    )
    quantization_pot_accuracy_aware_seeds: NonNegative = option(
        0, "repeats of POT's accuracy-aware quantization; 0 leaves it out"
    )
    quantization_speed_repeats: Count = option(
        5, "turns of the speed measurement, whose medians are kept"
    )
    quantization_unfused: Classifiers = option(
        ["repvgg_a0_x0_25"], "RepVGG classifiers that are quantized with their branches, too"
    )
    quantization_variants: Annotated[
        list[Literal["default_per_tensor", "default_a6", "default_a5", "default_a4"]], no_repeats
    ] = option(
        ["default_a6", "default_a4"],
        "variants of default quantization: 6, 5, 4 bits for activations, or weights per tensor",
    )
    quantization_variant_seeds: Count = option(1, "draws for the variants; doses have none")
    quantization_sizes: Annotated[list[Count], no_repeats] = option(
        [1, 10, 100], "fewer real images than quantization_subset_size that are tried, too"
    )
    quantization_estimators: Annotated[
        list[Literal["minmax", "mean", "quantile", "mse"]], no_repeats
    ] = option(
        [],
        "estimators of the ranges of activations that are tried, at 8 and 4 bits: least and "
        "greatest value, means of these over images, means of quantiles, least squared error",
    )
    quantization_estimator_sets: Sets = option(
        ["real", "teacher", "student", "fractal"], "which of calibration_sets they are tried with"
    )
    quantization_few_images: dict[str, Count] = option(
        {}, "slow networks that are judged on so many test images, the first, by name"
    )
    quantization_few_draws: dict[str, Count] = option(
        {}, "slow networks that have so many draws of each set at most, by name"
    )


@options
class Comparison:
    """06 Comparison."""

    comparison_margin_pp: Positive = option(
        0.5, "percentage points within which two accuracies count as equivalent"
    )
    comparison_confidence: Annotated[Float, Field(gt=0.5, lt=1)] = option(0.95, "of the intervals")
    comparison_bootstrap: Annotated[int, Field(ge=100)] = option(2000, "bootstrap resamples")


@options
class ImageGenerator:
    """07 The image generator."""

    generator_per_class: Annotated[int, Field(ge=2, le=100)] = option(
        10, "images per class in the pictures of notebook 07"
    )
    generator_truncations: Annotated[list[Share], Field(min_length=1)] = option(
        [0.0, 0.4, 0.7, 1.0], "truncation psi in the pictures of notebook 07"
    )


@options
class OwnNetwork:
    """08 A network of your own (--only 08)."""

    tool_kinds: Annotated[list[str], Field(min_length=1), no_repeats] = option(
        ["photographs", "fractals", "mixed", "noise", "grey"],
        "kinds of images that the tool makes, with which EfficientNet-Lite0 is calibrated",
    )
    tool_sets: Annotated[list[str], no_repeats] = option(
        ["real", "teacher", "student"], "which of calibration_sets it is calibrated with, enlarged"
    )
    tool_images: Count = option(300, "images of each")


@options
class Ablation:
    """A1 What each step from the original distillation to the study's brings (--only A1)."""

    ablation_variants: list[str] = option(
        [], "variants to compare, as notebook A1 lists them; [] for all"
    )
    ablation_kimg: Positive = option(20.0, "thousands of images shown, for every variant")
    ablation_seeds: Count = option(3, "runs of every variant")
