"""The checkpoint folder of the original DiStyleGAN, read safely and written.

It holds `config.json` (sizes of the networks, weights of the losses), `generator.pt`,
`discriminator.pt`, `optimizerG.pt`, `optimizerD.pt`, `log.json` and, for the fixed test grid,
`noise.pt` and `labels.pt`. The original writes the first and the last two into the run's folder,
the others two folders below it, and wants all in one for resuming: both are read.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from lib.common.errors import StudyError
from lib.common.files import atomic_path, read_json, write_json
from lib.common.tensors import fill_module, save_tensors
from lib.student.build import SIZES
from lib.student.networks import Discriminator, Generator
from lib.student.original import Networks

LAMBDAS = ("lambda_pixel", "lambda_ganG", "lambda_ganD")
OPTIMIZERS = {"optimizerG": "generator", "optimizerD": "discriminator"}


@dataclass(frozen=True)
class OriginalCheckpoint:
    """A training of the original: networks with optimizers, and what belongs to them.

    config: sizes and lambdas; log: {"epoch": …, "lossG": {…}, "lossD": {…}}; noise `(n, z_dim)`
    and one-hot labels `(n, c_dim)`: the fixed test grid.
    """

    networks: Networks
    config: dict[str, Any]
    log: dict[str, Any]
    noise: torch.Tensor
    labels: torch.Tensor


def load_original(folder: Path) -> OriginalCheckpoint:
    """Load a whole checkpoint folder; nothing in its files is executed.

    Raises `StudyError` where a file or key is missing, does not fit or holds more than tensors.
    """
    folder = Path(folder)
    config, generator = _load_generator(folder)
    sizes = {name: config[name] for name in ("ndf", "c_dim", "project_dim", "nc")}
    path = folder / "discriminator.pt"
    discriminator = fill_module(Discriminator(**sizes), _load(path), path)
    networks = Networks(generator, discriminator)
    for name, key in OPTIMIZERS.items():
        state, parameters = _load(folder / f"{name}.pt"), list(networks.modules[key].parameters())
        try:
            for index, entry in state["state"].items():
                for moment in ("exp_avg", "exp_avg_sq"):
                    if entry[moment].shape != parameters[index].shape:
                        raise ValueError(f"{moment} of parameter {index} has another shape")
            networks.optimizers[key].load_state_dict(state)
        except (KeyError, IndexError, TypeError, AttributeError, ValueError) as error:
            raise StudyError(f"{folder / name}.pt does not fit the networks: {error}") from error
    noise, labels = (_load(_find(folder, name)) for name in ("noise.pt", "labels.pt"))
    shapes = [tuple(getattr(grid, "shape", ())) for grid in (noise, labels)]
    if shapes != [(*shapes[0][:1], config[width]) for width in ("z_dim", "c_dim")]:
        raise StudyError(
            f"{folder}: noise.pt and labels.pt must hold as many rows, of {config['z_dim']} and"
            f" {config['c_dim']} numbers"
        )
    return OriginalCheckpoint(networks, config, read_json(folder / "log.json"), noise, labels)


def save_original(folder: Path, checkpoint: OriginalCheckpoint) -> None:
    """Write a checkpoint that the original's code reads, all files in one folder."""
    folder, networks = Path(folder), checkpoint.networks
    states: dict[str, Any] = {"noise": checkpoint.noise, "labels": checkpoint.labels}
    for name, key in OPTIMIZERS.items():
        states[key] = networks.modules[key].state_dict()
        states[name] = networks.optimizers[key].state_dict()
    for name, state in states.items():
        with atomic_path(folder / f"{name}.pt") as temporary:
            torch.save(_on_cpu(state), temporary)
    write_json(folder / "config.json", checkpoint.config)
    write_json(folder / "log.json", checkpoint.log)


def import_original_student(folder: Path, out: Path, class_names: list[str], data: str) -> None:
    """Write the original's generator as a student of this study (see `lib.student.sampling`)."""
    config, generator = _load_generator(Path(folder))
    if len(class_names) != config["c_dim"]:
        raise StudyError(f"{folder}: {config['c_dim']} classes, but {len(class_names)} names given")
    record = {name: config[name] for name in SIZES}
    record |= {"recipe": "original", "latent_distribution": "normal"}
    save_tensors(out, generator, record | {"class_names": class_names, "data": data})


def _find(folder: Path, name: str) -> Path:
    """Return where a file of the run lies: in `folder`, or two above it if it is only there."""
    above = folder.absolute().parent.parent / name
    return above if above.is_file() and not (folder / name).is_file() else folder / name


def _load_generator(folder: Path) -> tuple[dict[str, Any], Generator]:
    """Read config.json and the generator of its sizes."""
    path = _find(folder, "config.json")
    config = read_json(path)
    if not isinstance(config, dict):
        raise StudyError(f"{path} is no configuration: it must hold names and numbers")
    sizes = (*SIZES, "ndf")
    if missing := [name for name in (*sizes, *LAMBDAS) if name not in config]:
        raise StudyError(f"{path} lacks {', '.join(missing)}: add it, or take another checkpoint")
    for name in sizes:
        size = config[name]
        if type(size) is not int or not 1 <= size <= 8192:
            raise StudyError(f"{path}: {name} is {size!r}, expected a number from 1 to 8192")
    path = folder / "generator.pt"
    generator = Generator(**{name: config[name] for name in SIZES})
    return config, fill_module(generator, _load(path), path)


def _load(path: Path) -> Any:
    """Read a torch file that holds tensors and plain values only."""
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise StudyError(f"{path} is missing: copy the whole checkpoint folder") from error
    except Exception as error:  # a damaged pickle can raise almost anything
        reason = str(error).strip().splitlines()[0] if str(error).strip() else "cut short"
        raise StudyError(
            f"{path} is damaged or holds more than tensors, and is not read: {reason}"
        ) from error


def _on_cpu(value: Any) -> Any:
    """Return nested dictionaries with their tensors plain and on the CPU."""
    if isinstance(value, torch.Tensor):
        return value.detach().cpu().contiguous()
    return {k: _on_cpu(v) for k, v in value.items()} if isinstance(value, dict) else value
