"""The constructor's arguments that official network files may hold, with their ranges.

The names are those of the official classes, of files made in PyTorch and of files converted from
TensorFlow, which store more of them.
"""

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from lib.common.errors import StudyError
from lib.gan.layers import ACTIVATIONS


def _power_of_two(value: int) -> int:
    if value & (value - 1):
        raise ValueError("must be a power of two")
    return value


def _odd(value: int) -> int:
    if value % 2 == 0:
        raise ValueError("must be odd")
    return value


def _known_activation(name: str) -> str:
    if name not in ACTIVATIONS:
        raise ValueError(f"must be one of {', '.join(ACTIVATIONS)}")
    return name


Size = Annotated[int, Field(ge=1, le=2**16)]
Labels = Annotated[int, Field(ge=0, le=2**16)]
Resolution = Annotated[int, Field(ge=4, le=1024), AfterValidator(_power_of_two)]
Channels = Annotated[int, Field(ge=1, le=2**20)]
Layers = Annotated[int, Field(ge=1, le=64)]
Positive = Annotated[float, Field(gt=0, le=1e6)]
Activation = Annotated[str, AfterValidator(_known_activation)]
Architecture = Literal["orig", "skip", "resnet"]
Taps = Annotated[list[float], Field(min_length=1, max_length=64)]
Filter = Taps | Annotated[list[Taps], Field(min_length=1, max_length=64)] | None


class _Arguments(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid", allow_inf_nan=False)


class MappingArguments(_Arguments):
    """Of the mapping network."""

    num_layers: Layers = 8
    embed_features: Size | None = None
    layer_features: Size | None = None
    activation: Activation = "lrelu"
    lr_multiplier: Positive = 0.01
    w_avg_beta: Annotated[float, Field(ge=0, le=1)] | None = 0.995


class SynthesisArguments(_Arguments):
    """Of the synthesis network, its blocks and layers."""

    channel_base: Channels = 32768
    channel_max: Channels = 512
    num_fp16_res: Annotated[int, Field(ge=0, le=16)] = 0
    architecture: Architecture = "skip"
    resample_filter: Filter = None
    conv_clamp: Positive | None = None
    fp16_channels_last: bool = False
    kernel_size: Annotated[int, Field(ge=1, le=7), AfterValidator(_odd)] = 3
    use_noise: bool = True
    activation: Activation = "lrelu"


class GeneratorArguments(_Arguments):
    """Of the generator."""

    z_dim: Size
    c_dim: Labels
    w_dim: Size
    img_resolution: Resolution
    img_channels: Size
    mapping_kwargs: MappingArguments = MappingArguments()
    synthesis_kwargs: SynthesisArguments = SynthesisArguments()


class BlockArguments(_Arguments):
    """Of the discriminator's blocks."""

    activation: Activation = "lrelu"
    resample_filter: Filter = None
    fp16_channels_last: bool = False
    freeze_layers: Annotated[int, Field(ge=0, le=1000)] = 0


class EpilogueArguments(_Arguments):
    """Of the discriminator's layers at 4×4."""

    mbstd_group_size: Size | None = 4
    mbstd_num_channels: Labels = 1
    activation: Activation = "lrelu"


class DiscriminatorArguments(_Arguments):
    """Of the discriminator."""

    c_dim: Labels
    img_resolution: Annotated[Resolution, Field(ge=8)]
    img_channels: Size
    architecture: Architecture = "resnet"
    channel_base: Channels = 32768
    channel_max: Channels = 512
    num_fp16_res: Annotated[int, Field(ge=0, le=16)] = 0
    conv_clamp: Positive | None = None
    cmap_dim: Labels | None = None
    block_kwargs: BlockArguments = BlockArguments()
    mapping_kwargs: MappingArguments = MappingArguments()
    epilogue_kwargs: EpilogueArguments = EpilogueArguments()


SCHEMAS = {"Generator": GeneratorArguments, "Discriminator": DiscriminatorArguments}


def check_arguments(class_name: str, arguments: dict[str, Any]) -> None:
    """Raise `StudyError` for the first argument that is unknown, missing or out of range."""
    try:
        SCHEMAS[class_name].model_validate(arguments)
    except ValidationError as error:
        fault = error.errors(include_url=False, include_context=False)[0]
        name = ".".join(str(part) for part in fault["loc"])
        given = "" if fault["type"] == "missing" else f" = {fault['input']!r}"[:60]
        reason = fault["msg"].removeprefix("Value error, ")
        raise StudyError(f"constructor arguments: {ascii(name + given)}: {reason}") from None
