"""Weights and training checkpoints as safetensors: no pickle, written atomically."""

import json
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.optim import Optimizer

from lib.common.errors import StudyError
from lib.common.files import atomic_path


def save_tensors(path: Path | str, source: nn.Module | dict[str, Tensor], config: dict) -> None:
    """Write named tensors, or a module's state dict, with a JSON record.

    The record is one metadata entry: the format keeps no order among several, and equal input
    must give equal bytes.
    """
    tensors = source.state_dict() if isinstance(source, nn.Module) else source
    plain = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    with atomic_path(path) as temporary:
        save_file(plain, temporary, metadata={"config": json.dumps(config, sort_keys=True)})


def load_tensors(path: Path | str) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read what `save_tensors` wrote: the tensors (on the CPU) and the record."""
    if not Path(path).is_file():
        raise StudyError(f"{path} is missing: mend the path, or run the notebook that writes it")
    try:
        with safe_open(path, framework="pt") as file:
            config = json.loads((file.metadata() or {}).get("config", "{}"))
            return {name: file.get_tensor(name) for name in file.keys()}, config  # noqa: SIM118
    except (SafetensorError, ValueError, OSError) as error:
        fault = f"is damaged or not a safetensors file ({error})"
        raise StudyError(f"{path} {fault}: delete it and make it again") from error


def fill_module(module: nn.Module, state: dict[str, Tensor], path: Path | str) -> nn.Module:
    """Load a state dict strictly; a mismatch is a `StudyError` that names the file."""
    try:
        module.load_state_dict(state)
    except RuntimeError as error:
        reason = " ".join(str(error).split())
        raise StudyError(f"{path} does not fit {type(module).__name__}: {reason}") from error
    return module


def save_checkpoint(
    path: Path | str, modules: dict[str, nn.Module], optimizers: dict[str, Optimizer], state: dict
) -> None:
    """Write modules, optimizers and a JSON-able `state` of a training run into one file."""
    tensors, groups = {}, {}
    for name, module in modules.items():
        tensors |= {f"module/{name}/{key}": value for key, value in module.state_dict().items()}
    for name, optimizer in optimizers.items():
        packed = optimizer.state_dict()
        groups[name] = packed["param_groups"]
        for index, entry in packed["state"].items():
            for key, value in entry.items():
                if value is not None:
                    tensors[f"optimizer/{name}/{index}/{key}"] = torch.as_tensor(value)
    save_tensors(path, tensors, {"state": state, "groups": groups})


def load_checkpoint(
    path: Path | str, modules: dict[str, nn.Module], optimizers: dict[str, Optimizer]
) -> dict:
    """Fill modules and optimizers from `save_checkpoint`'s file and return its `state`."""
    tensors, config = load_tensors(path)
    for name, module in modules.items():
        fill_module(module, _below(tensors, f"module/{name}/"), path)
    for name, optimizer in optimizers.items():
        parameters = [p for group in optimizer.param_groups for p in group["params"]]
        entries: dict[int, dict] = {}
        for key, value in _below(tensors, f"optimizer/{name}/").items():
            index, field = key.split("/")
            like = parameters[int(index)]
            if value.shape == like.shape:  # in the layout in memory that an unbroken run has
                value = torch.empty_like(like).copy_(value)
            entries.setdefault(int(index), {})[field] = value
        optimizer.load_state_dict({"state": entries, "param_groups": config["groups"][name]})
    return config["state"]


def _below(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): t for name, t in tensors.items() if name.startswith(prefix)}
