"""The constructors' arguments that official network files may hold.

Files converted from TensorFlow store more of them than files made in PyTorch.
"""

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, ConfigDict, Field, TypeAdapter, ValidationError, with_config
from typing_extensions import TypedDict  # pydantic takes typing's from Python 3.12 on

from lib.common.errors import StudyError
from lib.gan.generator import ARCHITECTURES
from lib.gan.layers import ACTIVATIONS
from lib.teacher.official.pickle import shown
from lib.teacher.official.tensors import NumpyArray

MAX_ITEMS = 64
PLAIN = ConfigDict(strict=True, extra="forbid", allow_inf_nan=False)


def _plain_list(value: Any) -> Any:
    """Return a tuple's or a small array's numbers as a list."""
    if type(value) is NumpyArray and value.array.size <= MAX_ITEMS:
        return value.array.tolist()
    return list(value) if type(value) is tuple else value


Size = Annotated[int, Field(ge=1, le=2**16)]
Count = Annotated[int, Field(ge=0, le=2**16)]
Channels = Annotated[int, Field(ge=1, le=2**20)]
Number = Annotated[int | float, Field(ge=0, le=1e6)]
Positive = Annotated[Number, Field(gt=0)]
Items = Field(min_length=1, max_length=MAX_ITEMS)
Taps = Annotated[list[int | float], Items, BeforeValidator(_plain_list)]
Filter = Taps | Annotated[list[Taps], Items, BeforeValidator(_plain_list)] | None
Activation = Literal[tuple(ACTIVATIONS)]


class Layers(TypedDict, total=False):
    """Of the layers in both networks."""

    activation: Activation
    resample_filter: Filter
    fp16_channels_last: bool


class Blocks(TypedDict, total=False):
    """Of the chain of blocks in both networks."""

    channel_base: Channels
    channel_max: Channels
    num_fp16_res: Annotated[int, Field(ge=0, le=16)]
    architecture: Literal[ARCHITECTURES]
    conv_clamp: Positive | None


class Mapping(TypedDict, total=False):
    """Of the mapping networks."""

    num_layers: Annotated[int, Field(ge=1, le=64)]
    embed_features: Size | None
    layer_features: Size | None
    activation: Activation
    lr_multiplier: Positive
    w_avg_beta: Annotated[Number, Field(le=1)] | None


class Synthesis(Blocks, Layers, total=False):
    """Of the synthesis network."""

    kernel_size: Literal[1, 3, 5, 7]
    use_noise: bool


class DiscriminatorBlock(Layers, total=False):
    """Of the discriminator's blocks."""

    freeze_layers: Annotated[int, Field(ge=0, le=1000)]


class Epilogue(TypedDict, total=False):
    """Of the discriminator's layers at 4×4."""

    mbstd_group_size: Size | None
    mbstd_num_channels: Count
    activation: Activation


class Network(TypedDict):
    """Of both networks; these are required."""

    c_dim: Count
    img_resolution: Literal[4, 8, 16, 32, 64, 128, 256, 512, 1024]
    img_channels: Size


class Latents(Network):
    """Of the generator; these are required, too."""

    z_dim: Size
    w_dim: Size


@with_config(PLAIN)
class Generator(Latents, total=False):
    """Of the generator."""

    mapping_kwargs: Mapping
    synthesis_kwargs: Synthesis


@with_config(PLAIN)
class Discriminator(Network, Blocks, total=False):
    """Of the discriminator."""

    cmap_dim: Count | None
    block_kwargs: DiscriminatorBlock
    mapping_kwargs: Mapping
    epilogue_kwargs: Epilogue


KINDS = {"Generator": TypeAdapter(Generator), "Discriminator": TypeAdapter(Discriminator)}


def check_arguments(kind: str, given: dict[str, Any]) -> dict[str, Any]:
    """Return the arguments of a `Generator` or `Discriminator` as plain, JSON-able values.

    Raises `StudyError` for the first that is unknown, missing or out of range.
    """
    if any(type(part) is dict and len(part) > MAX_ITEMS for part in (given, *given.values())):
        raise StudyError("constructor arguments: too many")
    try:
        return KINDS[kind].validate_python(given)
    except ValidationError as error:
        fault = error.errors(include_url=False, include_context=False)[0]
        name = ".".join(str(part) for part in fault["loc"][:2])
        plain = type(fault["input"]) in (bool, int, float, str)
        value = f" = {fault['input']!r}"[:60] if plain else ""
        raise StudyError(f"constructor arguments: {shown(name + value)}: {fault['msg']}") from None
