"""Reads NVIDIA's StyleGAN2-ADA network pickles into our networks; nothing in them is executed.

Such a file holds `{'G', 'D', 'G_ema', 'training_set_kwargs', 'augment_pipe'}`. Each network is a
record of its source text, which is ignored, its constructor's arguments and its nested state.
"""

import inspect
import io
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from lib.common.errors import StudyError
from lib.gan.discriminator import Discriminator
from lib.gan.generator import Generator
from lib.teacher.official.arguments import check_arguments
from lib.teacher.official.pickle import SafeUnpickler, StandIns, shown
from lib.teacher.official.tensors import STAND_INS, StoredTensor, empty_dictionary

# The class-conditional CIFAR-10 network: NVIDIA Source Code License, research and evaluation only.
OFFICIAL_CIFAR10 = "https://nvlabs-fi-cdn.nvidia.com/stylegan2-ada-pytorch/pretrained/cifar10.pkl"

CLASSES: dict[str, type[nn.Module]] = {"Generator": Generator, "Discriminator": Discriminator}
# Arguments of the official discriminator that change how it trains or computes, not what.
UNUSED = {"num_fp16_res", "fp16_channels_last", "freeze_layers"}
MAX_POSITIONAL = 6  # as far as the official order of arguments and ours agree
MAX_FILE_BYTES = 4 * 2**30
MAX_DEPTH, MAX_MODULES, MAX_TENSORS, MAX_NAME = 16, 1_000, 10_000, 64
SHARED_ELEMENTS = 2**20  # tensors may share this much, such as small filters


REPICKLE = "pickle the dictionary of networks by the official code instead"
OTHER_FORMATS = {  # how files begin that are mistaken for a network pickle, and what to do
    b"\x1f\x8b": "it is compressed by gzip: unpack it (gunzip)",
    b"BZh": "it is compressed by bzip2: unpack it",
    b"\xfd7zXZ": "it is compressed by xz: unpack it",
    b"PK": f"it is a zip archive: unpack it; if torch.save wrote it, {REPICKLE}",
    b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19.": f"torch.save wrote it: {REPICKLE}",
    b"version https://git-lfs": "it is a pointer of Git LFS: fetch the file itself (git lfs pull)",
    b"<": "it is a web page: download the file again, and look at the address",
}
TENSORFLOW = b"dnnlib.tflib"
OTHER_ARGUMENTS = {
    "fused_modconv_default",
    "magnitude_ema_beta",
    "conv_kernel",
    "use_radial_filters",
}
"""Constructor's arguments that only networks of the StyleGAN3 repository have."""


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
        names = ", ".join(shown(str(name)) for name in networks) or "none"
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
    stored = _read(Path(path))
    file = io.BytesIO(stored)
    try:
        _check_format(stored)
        content = SafeUnpickler(file, NETWORK_STAND_INS).load()
        if type(content) is not dict:
            raise StudyError(f"it holds a {type(content).__name__}, not a dictionary of networks")
        if file.read(1):
            raise StudyError("more bytes follow the end of the pickle")
    except StudyError as error:
        message = f"{path} is no official network pickle, or was damaged or changed: {error}"
        raise StudyError(message) from None
    return content


def _check_format(stored: bytes) -> None:
    """Raise `StudyError` with the remedy for the formats that people mistake for this one."""
    for start, remedy in OTHER_FORMATS.items():
        if stored[:64].lstrip().startswith(start):
            raise StudyError(remedy)
    if TENSORFLOW in stored[:4096]:
        converter = "convert it by legacy.py of NVIDIA's stylegan2-ada-pytorch"
        raise StudyError(f"it holds TensorFlow's networks: {converter}")


def rebuild(stored: StoredNetwork) -> nn.Module:
    """Build our network from the stored arguments and tensors.

    The arguments are tried on torch's meta device, where weights take no memory: they must lead
    to exactly the names and shapes that are stored.
    """
    tensors = collect_tensors(stored.state)
    network = _shell(stored)
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
    state = {name: value.tensor().to(expected[name].dtype) for name, value in tensors.items()}
    for name, tensor in state.items():
        if not tensor.isfinite().all():
            raise StudyError(f"tensor {shown(name)} holds numbers that are not finite")
    network.load_state_dict(state, assign=True)
    return network.eval().requires_grad_(False)


def _shell(stored: StoredNetwork) -> nn.Module:
    positional, named = stored.state.get("_init_args", ()), stored.state.get("_init_kwargs")
    if type(positional) not in (list, tuple) or type(named) is not dict:
        raise StudyError("the constructor's arguments (_init_args, _init_kwargs) are missing")
    kinds = [part for part in (named, *named.values()) if type(part) is dict]
    if others := sorted(OTHER_ARGUMENTS & {key for part in kinds for key in part}):
        raise StudyError(
            f"it was saved by the StyleGAN3 repository (argument {others[0]}): take a network of "
            "stylegan2-ada-pytorch"
        )
    names = list(inspect.signature(CLASSES[stored.class_name]).parameters)[:MAX_POSITIONAL]
    if len(positional) > len(names) or named.keys() & set(names[: len(positional)]):
        raise StudyError("positional arguments (_init_args) are too many or given twice")
    named = named | dict(zip(names, positional, strict=False))
    arguments = check_arguments(stored.class_name, named)
    if stored.class_name == "Discriminator":
        for part in (arguments, arguments.get("block_kwargs", {})):
            for name in UNUSED & part.keys():
                del part[name]
    try:
        with torch.device("meta"):
            return CLASSES[stored.class_name](**arguments)
    except (ArithmeticError, ValueError, RuntimeError) as error:
        reason = shown(" ".join(str(error).split()))
        raise StudyError(f"constructor arguments that lead to no network: {reason}") from None


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
    # Building many tensors on the same few bytes would fill the memory.
    storages = {id(tensor.storage): tensor.storage.numel for tensor in tensors.values()}
    elements = sum(math.prod(tensor.shape) for tensor in tensors.values())
    if elements > sum(storages.values()) + SHARED_ELEMENTS:
        raise StudyError("the tensors hold more elements than the file")
    return tensors


def _section(module: dict[str, Any], name: str) -> dict[str, Any]:
    section = module.get(name)
    if type(section) is not dict:
        raise StudyError(f"a module without {name}")
    for key in section:
        if type(key) is not str or "." in key or len(key) > MAX_NAME:
            raise StudyError(f"{name} with an entry that has no plain name")
    return section


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
