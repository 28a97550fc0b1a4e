"""The parameters of the study: one flat, typed schema for every profile and notebook."""

from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)

from lib.calibration.kinds import KINDS
from lib.classifiers.names import UNFUSED, family, is_classifier
from lib.common.errors import StudyError
from lib.quantization.own.parameters import OwnModel
from lib.student.recipes import parse_recipe
from lib.study.rules import RULES


def _number(value: Any) -> Any:
    """Read `2e-4`, which YAML takes for a text, and whole numbers as floats."""
    if isinstance(value, bool):
        return value
    try:
        return float(value) if isinstance(value, int | str) else value
    except ValueError:
        return value


Float = Annotated[float, BeforeValidator(_number), Field(allow_inf_nan=False)]
Count = Annotated[int, Field(ge=1)]
Share = Annotated[Float, Field(ge=0, le=1)]
Positive = Annotated[Float, Field(gt=0)]
NotNegative = Annotated[Float, Field(ge=0)]


class Params(BaseModel):
    """All parameters; `params/digits.yaml` explains each one. Every key is required."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    # the run
    profile: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]
    seed: Annotated[int, Field(ge=0, lt=2**63)]
    output_dir: Annotated[str, Field(min_length=1)]
    device: Literal["cpu", "cuda"]
    num_processes: Annotated[int, Field(ge=1, le=64)]
    jobs: Count
    scheduler: str
    # real data
    data: Literal["digits", "cifar10", "imagefolder"]
    data_dir: str
    data_name: str
    test_images: Annotated[int, Field(ge=0)]
    validation_images: Count
    # 00 teacher training
    teacher: Annotated[str, Field(min_length=1)]
    teacher_start: str
    teacher_kimg: Positive
    teacher_batch_size: Annotated[int, Field(ge=4)]
    teacher_z_dim: Count
    teacher_w_dim: Count
    teacher_mapping_layers: Count
    teacher_mapping_lr_multiplier: Positive
    teacher_label_lr_multiplier: Positive
    teacher_channel_base: Annotated[int, Field(ge=32)]
    teacher_channel_max: Count
    teacher_learning_rate: Positive
    teacher_r1_gamma: NotNegative
    teacher_r1_interval: Count
    teacher_ema_kimg: Positive
    teacher_ada_target: Share
    teacher_ada_kimg: Positive
    teacher_precision: Literal["float32", "bfloat16"]
    teacher_checkpoint_kimg: Positive
    # 01 teacher sampling
    sampling_per_class: Count
    sampling_truncation: Annotated[Float, Field(ge=0, le=2)]
    sampling_noise_mode: Literal["const", "random", "none"]
    sampling_latent_distribution: Literal["normal", "uniform"]
    sampling_backend: Literal["openvino", "torch"]
    sampling_precision: Literal["float32", "float16"]
    sampling_batch_size: Count
    sampling_shard_size: Count
    # 02 distillation
    student_recipe: str
    student_epochs: Count
    student_batch_size: Annotated[int, Field(ge=2)]
    student_ngf: Annotated[int, Field(ge=8)]
    student_ndf: Count
    student_project_dim: Count
    student_learning_rate: Positive
    student_pixel_weight: NotNegative
    student_pixel_epochs: Count
    student_adversarial_weight: NotNegative
    student_adversarial_interval: Count
    student_ema_kimg: Positive
    student_augment: Literal["none", "translation", "translation,cutout", "color,translation"]
    student_checkpoint_updates: Count
    # 03 evaluation
    evaluator: str
    evaluator_epochs: Count
    evaluation_per_class: Count
    evaluation_kid_subset_size: Annotated[int, Field(ge=2)]
    evaluation_kid_subsets: Annotated[int, Field(ge=2)]
    evaluation_neighbours: Count
    evaluation_extractor: Literal["classifier", "inception-v3-compat"]
    evaluation_groups: Annotated[int, Field(ge=2)]
    evaluation_score_classifier: str
    evaluation_score_per_class: Count
    evaluation_score_epochs: Count
    evaluation_psis: Annotated[list[Annotated[Float, Field(ge=0, le=2)]], Field(min_length=1)]
    evaluation_psi_per_class: Count
    # the classifiers
    classifiers: list[str]
    classifiers_weights: Literal["train", "published"]
    own_models: list[OwnModel]
    classifier_epochs: Count
    classifier_batch_size: Annotated[int, Field(ge=2)]
    classifier_learning_rate: Positive
    classifier_weight_decay: NotNegative
    classifier_augment_shift: Annotated[int, Field(ge=0, le=16)]
    classifier_horizontal_flip: bool
    classifier_label_smoothing: Annotated[Float, Field(ge=0, lt=1)]
    classifier_mean: Annotated[list[Share], Field(min_length=3, max_length=3)]
    classifier_std: Annotated[list[Positive], Field(min_length=3, max_length=3)]
    # 04 calibration sets
    calibration_sets: Annotated[list[str], Field(min_length=1)]
    calibration_per_class: Count
    zeroq_per_class: Count
    zeroq_steps: Count
    zeroq_batch_size: Annotated[int, Field(ge=2)]
    # 05 quantization
    quantization_engines: Annotated[list[Literal["nncf", "pot"]], Field(min_length=1)]
    quantization_methods: Annotated[list[Literal["default", "accuracy_aware"]], Field(min_length=1)]
    quantization_preset: Literal["performance", "mixed"]
    quantization_subset_size: Count
    quantization_bias_correction: Literal["fast", "full", "none"]
    quantization_overflow_fix: Literal["disable", "enable", "first_layer"]
    quantization_max_drop: Annotated[Float, Field(gt=0, lt=1)]
    quantization_max_iterations: Count
    quantization_seeds: Count
    quantization_accuracy_aware_seeds: Count
    quantization_accuracy_aware_sets: list[str]
    quantization_pot_classifiers: Count
    quantization_pot_seeds: Annotated[int, Field(ge=0)]
    quantization_pot_accuracy_aware_seeds: Annotated[int, Field(ge=0)]
    quantization_speed_repeats: Count
    quantization_unfused: list[str]
    sensitivity_classifiers: Annotated[list[str], Field(min_length=1)]
    sensitivity_sizes: Annotated[list[Count], Field(min_length=1)]
    sensitivity_methods: list[
        Literal["default_per_tensor", "default_a6", "default_a5", "default_a4"]
    ]
    sensitivity_seeds: Count
    # 06 comparison
    comparison_margin_pp: Positive
    comparison_confidence: Annotated[Float, Field(gt=0.5, lt=1)]
    comparison_bootstrap: Annotated[int, Field(ge=100)]
    # 07 the image generator
    generator_per_class: Annotated[int, Field(ge=2, le=100)]
    generator_truncations: Annotated[list[Share], Field(min_length=1)]
    # A1 distillation ablation
    ablation_variants: list[str]
    ablation_epochs: Count
    ablation_seeds: Count

    @field_validator(
        *("classifiers", "calibration_sets", "quantization_engines", "quantization_methods"),
        *("quantization_unfused", "quantization_accuracy_aware_sets", "evaluation_psis"),
        *("sensitivity_classifiers", "sensitivity_sizes", "sensitivity_methods"),
    )
    @classmethod
    def _no_repeats(cls, names: list) -> list:
        repeated = sorted({str(name) for name in names if names.count(name) > 1})
        if repeated:
            raise ValueError(f"{', '.join(repeated)} named twice: name each once")
        return names

    @field_validator("classifiers", "evaluator", "evaluation_score_classifier")
    @classmethod
    def _known_classifiers(cls, names: list[str] | str) -> list[str] | str:
        for name in [names] if isinstance(names, str) else names:
            try:
                family(name)
            except StudyError as error:
                raise ValueError(str(error)) from error
        return names

    @field_validator("own_models")
    @classmethod
    def _own_names(cls, models: list[OwnModel]) -> list[OwnModel]:
        for name in cls._no_repeats([model.name for model in models]):
            if is_classifier(name.removesuffix(UNFUSED)):
                raise ValueError(f"{name} is a name of the study's: choose another")
        return models

    @field_validator("student_recipe")
    @classmethod
    def _known_recipe(cls, recipe: str) -> str:
        try:
            parse_recipe(recipe)
        except StudyError as error:
            raise ValueError(str(error)) from error
        return recipe

    @field_validator("calibration_sets", "quantization_accuracy_aware_sets")
    @classmethod
    def _known_sets(cls, names: list[str]) -> list[str]:
        unknown = sorted(set(names) - set(KINDS))
        if unknown:
            raise ValueError(f"no set is called {', '.join(unknown)}: known are {', '.join(KINDS)}")
        if len(names) < 2:
            raise ValueError("name real and at least one set to compare it with")
        if "real" not in names:
            raise ValueError("real must be among the sets: the others are compared with it")
        return names

    @model_validator(mode="after")
    def _together(self, info: ValidationInfo) -> "Params":
        given = (info.context or {}).get("given", Params.model_fields.keys())
        for rule, keys in RULES.items():
            if keys <= set(given):
                rule(self)
        return self

    def group(self, prefix: str) -> dict[str, Any]:
        """Return the parameters that start with `prefix_`, without that prefix."""
        start = f"{prefix}_"
        values = self.model_dump()
        return {k.removeprefix(start): v for k, v in values.items() if k.startswith(start)}


def validate(values: dict[str, Any], given: set[str] | None = None) -> Params:
    """Check parameter values; the first fault is a one-line `StudyError` that names the key.

    Of the rules on several parameters (`lib.study.rules`) those count that read none but `given`,
    by default all: the other values stand in for ones that are not known here.
    """
    try:
        return Params.model_validate(values, context=None if given is None else {"given": given})
    except ValidationError as error:
        raise StudyError(_first_fault(error, values)) from None


def _first_fault(error: ValidationError, values: dict[str, Any]) -> str:
    fault = error.errors(include_url=False)[0]
    key = str(fault["loc"][0]) if fault["loc"] else ""
    if key == "own_models" and len(fault["loc"]) > 1:
        entry, *inner = fault["loc"][1:]
        field = ".".join(map(str, inner)) or "entry"
        text = fault["msg"].removeprefix("Value error, ")
        return f"parameter own_models, network {entry + 1}, {field}: {text}"
    if fault["type"] == "extra_forbidden":
        return f"unknown parameter {key}: no notebook declares it, remove it or mend its spelling"
    if fault["type"] == "missing":
        return f"parameter {key} is missing: add it, params/digits.yaml explains it"
    text = fault["msg"].removeprefix("Value error, ")
    given = f" (given: {values.get(key)!r})" if key else ""
    return f"parameter {key or 'set'}: {text}{given}"


def read_profile(path: Path | str) -> dict[str, Any]:
    """Read a profile's YAML file as a dictionary; not yet validated."""
    try:
        values = yaml.load(Path(path).read_text(encoding="utf-8"), Loader=_UniqueKeys)
    except FileNotFoundError:
        raise StudyError(f"{path} is missing: name a file such as params/digits.yaml") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise StudyError(f"{path} is no valid YAML: {' '.join(str(error).split())}") from None
    if not isinstance(values, dict):
        raise StudyError(f"{path} must hold lines of the form key: value")
    return values


def parse_override(text: str) -> Any:
    """Read a `-p` value as YAML would, so lists and numbers work."""
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError:
        return text


class _UniqueKeys(yaml.SafeLoader):
    """Safe loader that refuses a key given twice."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict:
        keys = [self.construct_object(key) for key, _ in node.value]
        repeated = sorted({str(key) for key in keys if keys.count(key) > 1})
        if repeated:
            raise yaml.YAMLError(f"{', '.join(repeated)} given twice")
        return super().construct_mapping(node, deep)
