"""Training states of a teacher, from which a longer training goes on instead of starting anew.

A state holds the networks, their averages and moments, and how many images they were shown. It
can be passed on in bfloat16, at half the size.
"""

from pathlib import Path

from pydantic import BaseModel, Field, ValidationError
from torch import nn
from torch.optim import Optimizer

from lib.common.errors import StudyError
from lib.common.files import resolve, sha256_file
from lib.common.tensors import load_checkpoint, load_tensors, save_tensors

STATE = "training.safetensors"


class Settings(BaseModel):
    """What must be known of the settings of the training that has left a state."""

    batch_size: int = Field(gt=0)


class Record(BaseModel):
    """What a state says of its training: see `lib.teacher.training`."""

    step: int = Field(ge=0)
    options: Settings
    adaptive: tuple[float, float, int]
    rows: list[str]
    sums: dict[str, list[float]]
    class_names: list[str]


def check_start(start: str) -> str:
    """Return the SHA-256 of the state that the parameter `teacher_start` names, "" for none.

    Raises `StudyError` if the file is missing or no state.
    """
    if not start:
        return ""
    read_record(resolve(start))
    return sha256_file(resolve(start))


def read_record(path: Path) -> Record:
    """Return what a training state says of itself; raise `StudyError` if it is none."""
    try:
        return Record.model_validate(load_tensors(path)[1].get("state"))
    except ValidationError as error:
        fault = error.errors()[0]
        where = ".".join(map(str, fault["loc"])) or "its record"
        raise StudyError(
            f"{path} is no training state of a teacher ({where}: {fault['msg']}): name the {STATE} "
            "that notebook 00 writes, or leave teacher_start empty"
        ) from error


def load_state(path: Path, modules: dict[str, nn.Module], optimizers: dict[str, Optimizer]) -> None:
    """Fill networks and optimizers from a state; the optimizers keep their own settings."""
    groups = [group for optimizer in optimizers.values() for group in optimizer.param_groups]
    own = [{key: value for key, value in group.items() if key != "params"} for group in groups]
    try:
        load_checkpoint(path, modules, optimizers)
    except (KeyError, ValueError, IndexError) as error:
        raise StudyError(f"{path} does not fit this teacher: {error}") from error
    groups = [group for optimizer in optimizers.values() for group in optimizer.param_groups]
    for group, settings in zip(groups, own, strict=True):
        group.update(settings)


def round_state(source: Path, target: Path) -> None:
    """Write the state `source` with its tensors in bfloat16, single numbers exact, no pictures."""
    tensors, config = load_tensors(source)
    rounded = {
        name: tensor.bfloat16() if tensor.is_floating_point() and tensor.ndim else tensor
        for name, tensor in tensors.items()
        if not name.startswith("module/snapshots/")
    }
    save_tensors(target, rounded, config)
