"""Reads NVIDIA's StyleGAN2-ADA network pickles into our networks; nothing in them is executed.

Such a file holds `{'G', 'D', 'G_ema', 'training_set_kwargs', 'augment_pipe'}`. Each network is a
record of its source text, which is ignored, its constructor's arguments and its nested state.
"""

import inspect
import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

import torch
from torch import nn

from lib.common.errors import StudyError
from lib.gan.discriminator import Discriminator
from lib.gan.generator import Generator
from lib.teacher.official.arguments import check_arguments
from lib.teacher.official.arrays import NumpyArray
from lib.teacher.official.pickle import SafeUnpickler, StandIns, shown
from lib.teacher.official.tensors import STAND_INS, StoredTensor, empty_dictionary

# The class-conditional CIFAR-10 network: NVIDIA Source Code License, research and evaluation only.
OFFICIAL_CIFAR10 = "https://nvlabs-fi-cdn.nvidia.com/stylegan2-ada-pytorch/pretrained/cifar10.pkl"

CLASSES: dict[str, type[nn.Module]] = {"Generator": Generator, "Discriminator": Discriminator}
# Arguments of the official discriminator that change how it trains or computes, not what.
UNUSED = {
    "Discriminator": {"": {"num_fp16_res"}, "block_kwargs": {"fp16_channels_last", "freeze_layers"}}
}
MAX_FILE_BYTES = 4 * 2**30
MAX_DEPTH, MAX_MODULES, MAX_TENSORS, MAX_NAME = 16, 1_000, 10_000, 64
MAX_ARGUMENTS = 1_000  # values among the constructor's arguments
MAX_POSITIONAL = 6  # as far as the official order of arguments and ours agree
MAX_INTEGER = 2**20
SHARED_ELEMENTS = 2**20  # tensors may share this much, such as small filters


@dataclass
class StoredNetwork:
    """A network as the file describes it: its class's name and the module's attributes."""

    class_name: str
    state: dict[str, Any]


def load_network(path: Path | str, which: str = "G_ema") -> nn.Module:
    """Return the network `which` (`G_ema`, `G` or `D`) of an official pickle.

    It comes in float32 on the CPU, in evaluation mode, without gradients. A file with anything
    unexpected in it is a `StudyError` that names it.
    """
    networks = {k: v for k, v in read_network_pickle(path).items() if type(v) is StoredNetwork}
    if which not in networks:
        names = ", ".join(shown(name) for name in networks) or "none"
        raise StudyError(f"{path} holds no network {which}: choose one of {names}")
    wanted, found = "Discriminator" if which == "D" else "Generator", networks[which].class_name
    if found != wanted:
        raise StudyError(f"{path}: network {which} is a {shown(found)}, expected a {wanted}")
    try:
        return rebuild(networks[which])
    except StudyError as error:
        raise StudyError(f"{path}: network {which}: {error}") from None


def read_network_pickle(path: Path | str) -> dict[str, Any]:
    """Return what an official network pickle holds, inert.

    Networks are `StoredNetwork`s, tensors `StoredTensor`s, `EasyDict`s and `OrderedDict`s plain
    dictionaries, numpy's numbers Python's.
    """
    machine = SafeUnpickler(memoryview(_read(Path(path))), NETWORK_STAND_INS)
    try:
        content = machine.load()
        if type(content) is not dict:
            raise StudyError(f"it holds a {type(content).__name__}, not a dictionary of networks")
        if machine.position != len(machine.data):
            raise StudyError(f"byte {machine.position}: more bytes follow the end of the pickle")
    except StudyError as error:
        message = f"{path} is no official network pickle, or was damaged or changed: {error}"
        raise StudyError(message) from None
    return content


def rebuild(stored: StoredNetwork) -> nn.Module:
    """Build our network from the stored arguments and tensors.

    The arguments are tried without memory for weights first: they must lead to exactly the names
    and shapes that are stored.
    """
    tensors = collect_tensors(stored.state)
    network = _shell(stored, len(tensors))
    expected = network.state_dict()
    for name in [*expected, *tensors]:
        if name not in tensors or name not in expected:
            place = "in the file" if name in expected else "in our network"
            raise StudyError(f"tensor {shown(name)} is missing {place}")
        if tensors[name].shape != tuple(expected[name].shape):
            shapes = f"{tensors[name].shape}, expected {tuple(expected[name].shape)}"
            raise StudyError(f"tensor {shown(name)} has shape {shapes}")
        if not tensors[name].storage.dtype.is_floating_point:
            raise StudyError(f"tensor {shown(name)} holds {tensors[name].storage.dtype}")
    state = {name: stored.tensor().to(expected[name].dtype) for name, stored in tensors.items()}
    for name, tensor in state.items():
        if not tensor.isfinite().all():
            raise StudyError(f"tensor {shown(name)} holds numbers that are not finite")
    network.load_state_dict(state, assign=True)
    return network.eval().requires_grad_(False)


def collect_tensors(state: dict[str, Any]) -> dict[str, StoredTensor]:
    """Return the tensors of a module and of those below it, by their full names."""
    tensors: dict[str, StoredTensor] = {}
    modules = [("", state)]
    for prefix, module in modules:  # grows while it is read
        for name, value in (_section(module, "_parameters") | _section(module, "_buffers")).items():
            if value is not None and type(value) is not StoredTensor:
                raise StudyError(f"{shown(prefix + name)} is no tensor")
            if value is not None:
                tensors[prefix + name] = value
            if len(tensors) > MAX_TENSORS:
                raise StudyError(f"more than {MAX_TENSORS:,} tensors")
        for name, value in _section(module, "_modules").items():
            if type(value) is not StoredNetwork:
                raise StudyError(f"{shown(prefix + name)} is no module")
            modules.append((f"{prefix}{name}.", value.state))
            if prefix.count(".") > MAX_DEPTH or len(modules) > MAX_MODULES:
                raise StudyError(f"modules at {shown(prefix + name)} are nested too deeply")
    _check_total(list(tensors.values()))
    return tensors


def constructor_arguments(stored: StoredNetwork) -> dict[str, Any]:
    """Return the plain arguments, by name and checked, that the network was made with."""
    counter = count()
    positional = _plain(stored.state.get("_init_args", ()), "_init_args", counter)
    named = _plain(stored.state.get("_init_kwargs"), "_init_kwargs", counter)
    if type(positional) is not list or type(named) is not dict:
        raise StudyError("the constructor's arguments (_init_args, _init_kwargs) are missing")
    names = list(inspect.signature(CLASSES[stored.class_name]).parameters)[:MAX_POSITIONAL]
    if len(positional) > len(names) or named.keys() & set(names[: len(positional)]):
        raise StudyError("positional arguments (_init_args) are too many or given twice")
    named |= dict(zip(names, positional, strict=False))
    check_arguments(stored.class_name, named)
    for group, unused in UNUSED.get(stored.class_name, {}).items():
        part = named.get(group) if group else named
        if type(part) is dict:
            for name in unused & part.keys():
                del part[name]
    return named


def _read(path: Path) -> bytes:
    try:
        size = path.stat().st_size
        if size > MAX_FILE_BYTES:
            raise StudyError(f"{path} has {size:,} bytes: no official network is that large")
        return path.read_bytes()
    except OSError as error:
        reason = error.strerror or error
        raise StudyError(
            f"{path} cannot be read ({reason}): download it or mend the path"
        ) from None


def _shell(stored: StoredNetwork, tensors: int) -> nn.Module:
    """Build the network on torch's meta device, where weights have shapes and no memory."""
    if stored.class_name not in CLASSES:
        raise StudyError(f"networks of class {shown(stored.class_name)} are not known")
    arguments = constructor_arguments(stored)
    mapping = arguments.get("mapping_kwargs")
    layers = mapping.get("num_layers", 0) if type(mapping) is dict else 0
    if type(layers) is not int or layers > tensors:
        raise StudyError("num_layers of mapping_kwargs does not fit the number of tensors")
    try:
        with torch.device("meta"):
            return CLASSES[stored.class_name](**arguments)
    except StudyError:
        raise
    except Exception as error:  # the arguments are whatever the file says
        reason = shown(" ".join(str(error).split()))
        raise StudyError(
            f"constructor arguments that our network does not take: {reason}"
        ) from None


def _section(module: dict[str, Any], name: str) -> dict[str, Any]:
    section = module.get(name)
    if type(section) is not dict:
        raise StudyError(f"a module without {name}")
    for key in section:
        if type(key) is not str or "." in key or len(key) > MAX_NAME:
            raise StudyError(f"{name} with an entry that has no plain name")
    return section


def _check_total(tensors: list[StoredTensor]) -> None:
    """Refuse many tensors on the same few bytes: building them would fill the memory."""
    storages = {id(tensor.storage): tensor.storage.numel for tensor in tensors}
    if (
        sum(math.prod(tensor.shape) for tensor in tensors)
        > sum(storages.values()) + SHARED_ELEMENTS
    ):
        raise StudyError("the tensors hold more elements than the file")


def _plain(value: Any, name: str, counter: Iterator[int]) -> Any:
    """Return a constructor's argument as plain lists, dictionaries, numbers and texts."""
    if next(counter) > MAX_ARGUMENTS or name.count(".") > MAX_DEPTH:
        raise StudyError("the constructor's arguments are nested too deeply or too many")
    if type(value) is NumpyArray and value.array.size <= MAX_ARGUMENTS:
        value = value.array.tolist()
    if type(value) is int and abs(value) > MAX_INTEGER:
        raise StudyError(f"argument {shown(name)} = {value} is out of range")
    if value is None or type(value) in (bool, int, float, str):
        return value
    if type(value) in (list, tuple):
        return [_plain(item, f"{name}.{i}", counter) for i, item in enumerate(value)]
    if type(value) is dict and all(type(key) is str and len(key) <= MAX_NAME for key in value):
        return {key: _plain(item, f"{name}.{key}", counter) for key, item in value.items()}
    raise StudyError(f"argument {shown(name)} is of type {type(value).__name__}")


def _stored_network(arguments: tuple) -> StoredNetwork:
    """Stand in for `_reconstruct_persistent_obj`: keep the record, forget the source text."""
    match arguments:
        case ({"type": "class", "class_name": str(name), "state": dict(state), **rest},):
            if rest.keys() <= {"version", "module_src"}:
                return StoredNetwork(name, state)
    raise StudyError("not the record of a network")


def _set(arguments: tuple) -> set:
    match arguments:
        case () | ([],):
            return set()
    raise StudyError("only an empty one may be made")


NETWORK_STAND_INS: StandIns = STAND_INS | {
    ("torch_utils.persistence", "_reconstruct_persistent_obj"): _stored_network,
    ("dnnlib.util", "EasyDict"): empty_dictionary,
    ("builtins", "set"): _set,
    ("__builtin__", "set"): _set,
}
