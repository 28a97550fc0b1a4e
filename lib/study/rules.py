"""What parameters must be to each other: checked where all that a rule reads are known."""

from collections.abc import Callable
from typing import Any

from lib.classifiers.names import check_weights, family, weights_source
from lib.common.errors import StudyError
from lib.gan.options import GROUP

DIGITS = 1797  # images in scikit-learn's set
Values = Any  # of `lib.study.params.Params`
Rule = Callable[[Values], None]

RULES: dict[Rule, frozenset[str]] = {}
"""Each rule with the parameters that it reads."""


def reads(*keys: str) -> Callable[[Rule], Rule]:
    """Register a rule, which raises `ValueError`, with the parameters that it reads."""

    def register(rule: Rule) -> Rule:
        RULES[rule] = frozenset(keys)
        return rule

    return register


@reads("data", "test_images", "validation_images", "calibration_per_class")
def digits_suffice(p: Values) -> None:
    """The digits are split here, and must leave enough images for calibration."""
    if p.data != "digits":
        return
    if p.test_images == 0:
        raise ValueError("test_images must be 10 or more for digits, which come unsplit")
    train = DIGITS - p.test_images - p.validation_images
    if 10 * p.calibration_per_class > train - 40:  # the classes differ by a few images
        raise ValueError(
            f"calibration_per_class must not exceed {max(train - 40, 0) // 10}: digits have "
            f"{train} training images with these test_images and validation_images"
        )


@reads("student_recipe", "student_final_moments")
def moments_are_averaged_by_the_default_recipe(p: Values) -> None:
    """The original recipe ends as it is."""
    if p.student_recipe == "original" and p.student_final_moments > 1:
        raise ValueError("student_final_moments is for student_recipe default: leave it at 1")


@reads("data", "class_order")
def order_is_of_a_tree(p: Values) -> None:
    """Digits and CIFAR-10 have an order of their own."""
    if p.class_order and p.data != "imagefolder":
        raise ValueError(f"class_order is for data: imagefolder; {p.data} has an order of its own")


@reads("sampling_backend", "device")
def backend_fits_the_device(p: Values) -> None:
    """OpenVINO samples on the CPU here."""
    if p.sampling_backend == "openvino" and p.device == "cuda":
        raise ValueError("sampling_backend openvino computes on the CPU: choose torch for cuda")


@reads("sampling_precision", "device")
def precision_fits_the_device(p: Values) -> None:
    """Half precision is the GPU's."""
    if p.sampling_precision == "float16" and p.device == "cpu":
        raise ValueError("sampling_precision float16 needs device: cuda; choose float32")


@reads("classifiers", "classifiers_weights")
def weights_can_be_had(p: Values) -> None:
    """Weights are published for some sizes."""
    if isinstance(p.classifiers_weights, dict):
        for name in p.classifiers_weights.keys() - set(p.classifiers):
            raise ValueError(f"classifiers_weights: {name} is not among classifiers")
    for name in p.classifiers:
        _check_weights("classifiers_weights", weights_source(p.classifiers_weights, name), name)


@reads("classifiers", "classifier_learning_rates")
def rates_are_of_classifiers(p: Values) -> None:
    """A name that is misspelt would be passed over without a word."""
    for name in p.classifier_learning_rates.keys() - set(p.classifiers):
        raise ValueError(f"classifier_learning_rates: {name} is not among classifiers")


@reads("evaluator", "evaluator_weights")
def evaluator_can_be_had(p: Values) -> None:
    """The same holds for the evaluator."""
    _check_weights("evaluator_weights", p.evaluator_weights, p.evaluator)


def _check_weights(key: str, weights: str, name: str) -> None:
    try:
        check_weights(weights, name)
    except StudyError as error:
        raise ValueError(f"{key}: {error}") from error


for taken in ("classifiers_weights", "evaluator_weights"):

    @reads(taken, "data")
    def published_fit_the_data(p: Values, key: str = taken) -> None:
        """They were trained on CIFAR-10."""
        value = getattr(p, key)
        if p.data == "digits" and "published" in (
            value.values() if isinstance(value, dict) else [value]
        ):
            raise ValueError(f"{key}: published are for CIFAR-10, not digits")


@reads("quantization_unfused", "classifiers")
def unfused_are_repvgg(p: Values) -> None:
    """No other family has branches to fuse."""
    for name in p.quantization_unfused:
        if name not in p.classifiers or family(name) != "repvgg":
            raise ValueError(f"quantization_unfused: {name} is no RepVGG among classifiers")


@reads("classifiers", "own_models", "quantization_few_images", "quantization_few_draws")
def networks_are_there(p: Values) -> None:
    """Something must be quantized, and what is said of networks by name be said of these."""
    names = {*p.classifiers, *(model.name for model in p.own_models)}
    if not names:
        raise ValueError("classifiers and own_models are both empty: name a network in one")
    for key in ("quantization_few_images", "quantization_few_draws"):
        if others := sorted(set(getattr(p, key)) - names):
            raise ValueError(
                f"{key} names {', '.join(others)}, which is not among classifiers and own_models"
            )


for taken in ("evaluation_per_class", "calibration_per_class"):

    @reads(taken, "sampling_per_class")
    def samples_suffice(p: Values, key: str = taken) -> None:
        """No more images are taken than are made."""
        if getattr(p, key) > p.sampling_per_class:
            made = p.sampling_per_class
            raise ValueError(f"{key} must not exceed sampling_per_class ({made})")


@reads("scheduler")
def scheduler_is_an_address(p: Values) -> None:
    """Workers are reached by a port."""
    if p.scheduler and ":" not in p.scheduler:
        raise ValueError("scheduler must be an address such as tcp://10.0.0.1:8786, or empty")


for batch in ("teacher_batch_size", "student_batch_size"):

    @reads(batch, "num_processes")
    def batches_divide(p: Values, key: str = batch) -> None:
        """Each process takes an equal part of a batch, in whole groups of four."""
        if getattr(p, key) % (GROUP * p.num_processes):
            raise ValueError(f"{key} must be a multiple of {GROUP} times num_processes")


@reads("evaluation_neighbours", "evaluation_kid_subset_size")
def neighbours_are_few(p: Values) -> None:
    """A subset must hold an image's neighbours."""
    if p.evaluation_neighbours >= p.evaluation_kid_subset_size:
        raise ValueError("evaluation_neighbours must be below evaluation_kid_subset_size")
