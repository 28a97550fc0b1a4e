"""SampleSet: labelled images, with the latents they were made from, in safetensors shards.

A set is a folder: `samples.json` (the record) and `shard-00000.safetensors` … Each shard holds
images `(n, 3, h, w) uint8`, labels `(n,) int64` and, for generated images, latents
`(n, z_dim) float32`; the study's own are 32×32. Shards are written atomically and carry a hash of
their own content.
"""

import hashlib
import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from lib.common.errors import StudyError
from lib.common.files import atomic_path, read_json, sha256_json, write_json
from lib.common.processes import count, rank, wait
from lib.common.progress import progress

RECORD = "samples.json"
IMAGE_SHAPE = (3, 32, 32)
DTYPES = {"images": np.uint8, "labels": np.int64, "latents": np.float32}
Arrays = dict[str, np.ndarray]


@dataclass
class SampleSet:
    """Images `(n, 3, h, w) uint8`, labels `(n,) int64`, latents `(n, z_dim) float32` or None.

    `info` is the record: `data`, `class_names`, `maker`, latent distribution, truncation, seed.
    """

    images: np.ndarray
    labels: np.ndarray
    latents: np.ndarray | None = None
    info: dict = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_arrays(self.arrays(), "sample set")

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def class_names(self) -> list[str]:
        """Names of the classes, in the order of the labels."""
        return self.info["class_names"]

    def arrays(self) -> Arrays:
        """Return the arrays by name, without absent latents."""
        arrays = {"images": self.images, "labels": self.labels, "latents": self.latents}
        return {name: array for name, array in arrays.items() if array is not None}

    def subset(self, index: np.ndarray) -> "SampleSet":
        """Return the samples at `index` (copied), with the same record."""
        return SampleSet(**{k: v[index] for k, v in self.arrays().items()}, info=dict(self.info))

    def save(self, folder: Path | str, shard_size: int = 5000) -> None:
        """Write the set into `folder`, in the place of one that may be there."""
        for old in Path(folder).glob("shard-*.safetensors"):
            old.unlink()

        def draw(_: int, start: int, stop: int) -> Arrays:
            return {name: array[start:stop] for name, array in self.arrays().items()}

        write_shards(folder, len(self), shard_size, draw, self.info, show=False)

    @staticmethod
    def load(folder: Path | str) -> "SampleSet":
        """Read a set; missing or damaged files are a `StudyError` that names them."""
        folder = Path(folder)
        record = read_json(folder / RECORD)
        shards = [read_shard(folder / name)[0] for name in record["shards"]]
        arrays = _joined(shards)
        if len(arrays["labels"]) != record["n"]:
            raise StudyError(f"{folder} holds {len(arrays['labels'])} samples, not {record['n']}")
        return SampleSet(**arrays, info=record["info"])


def write_shards(
    folder: Path | str,
    n: int,
    shard_size: int,
    draw: Callable[[int, int, int], Arrays | Iterable[Arrays]],
    info: dict,
    show: bool = True,
) -> None:
    """Write `n` samples into `folder`, drawn shard by shard; keep the intact shards of this set.

    `draw(shard, start, stop)` returns the arrays of samples `start … stop - 1`, whole or in
    successive batches. It must depend on its arguments alone: then an interrupted run, started
    again, ends in the same bytes. `info` says what the samples are made from: shards of another
    record are made anew. Several processes divide the shards among them.
    """
    folder, starts = Path(folder), range(0, n, shard_size)
    stops = [min(start + shard_size, n) for start in starts]
    paths = [folder / f"shard-{index:05d}.safetensors" for index in range(len(starts))]
    key = sha256_json([n, shard_size, info])
    own = range(rank(), len(starts), count())
    missing = [index for index in own if not _intact(paths[index], key)]
    total, left = (sum(stops[i] - starts[i] for i in part) for part in (own, missing))
    desc = info.get("maker", "samples")
    bar = progress((), desc, total, "images", initial=total - left) if show else None
    for index in missing:
        drawn = draw(index, starts[index], stops[index])
        batches = []
        for batch in [drawn] if isinstance(drawn, dict) else drawn:
            batches.append(batch)
            if bar is not None:
                bar.update(len(batch["labels"]))
        _write_shard(paths[index], _joined(batches), key)
    if bar is not None:
        bar.close()
    wait()
    if rank() > 0:
        return
    for stray in set(folder.glob("shard-*.safetensors")) - set(paths):
        stray.unlink()
    write_json(folder / RECORD, {"n": n, "shards": [path.name for path in paths], "info": info})


def _joined(parts: list[Arrays]) -> Arrays:
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def _write_shard(path: Path, arrays: Arrays, key: str) -> None:
    """Write one shard; its hash and `key` are one entry of the header, which keeps no order."""
    check_arrays(arrays, str(path))
    arrays = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
    with atomic_path(path) as temporary:
        save_file(arrays, temporary, metadata={"hashes": f"{_content_hash(arrays)} {key}"})


def read_shard(path: Path) -> tuple[Arrays, str]:
    """Read one shard and compare it with the hash in its header; return its arrays and key."""
    try:
        with safe_open(path, framework="numpy") as file:
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            expected, _, key = (file.metadata() or {}).get("hashes", "").partition(" ")
    except (SafetensorError, OSError) as error:
        raise StudyError(f"{path} is damaged or missing ({error}): make the set again") from error
    if expected != _content_hash(arrays):
        raise StudyError(f"{path} is damaged (hash differs): delete it and run again")
    return arrays, key


def _intact(path: Path, key: str) -> bool:
    try:
        return read_shard(path)[1] == key
    except StudyError:
        return False


def check_arrays(arrays: Arrays, name: str) -> None:
    """Check the names, types and shapes of a shard's arrays."""
    if wrong := {"images", "labels"} - set(arrays) | set(arrays) - set(DTYPES):
        raise StudyError(f"{name}: arrays {sorted(wrong)} are missing or unknown")
    for key, array in arrays.items():
        if array.dtype != DTYPES[key]:
            raise StudyError(f"{name}: {key} are {array.dtype}, expected {DTYPES[key].__name__}")
    images, labels = arrays["images"], arrays["labels"]
    if images.ndim != 4 or images.shape[1] != IMAGE_SHAPE[0]:
        raise StudyError(f"{name}: images have shape {images.shape[1:]}, expected (3, h, w)")
    if any(len(array) != len(labels) for array in arrays.values()) or labels.ndim != 1:
        raise StudyError(f"{name}: numbers of images, labels and latents differ")


def _content_hash(arrays: Arrays) -> str:
    digest = hashlib.sha256()
    for name in sorted(arrays):
        digest.update(json.dumps([name, list(arrays[name].shape)]).encode())
        digest.update(arrays[name].tobytes())
    return digest.hexdigest()


def to_float(images: torch.Tensor) -> torch.Tensor:
    """Map uint8 pixels 0…255 to float32 in [-1, 1]; any shape."""
    return images.float() / 127.5 - 1


def to_uint8(images: torch.Tensor) -> torch.Tensor:
    """Map floats in [-1, 1] to uint8 pixels 0…255, rounded; values outside are clamped."""
    return (images * 127.5 + 127.5).round().clamp(0, 255).to(torch.uint8)
