"""Sample sets in layouts that people already have: `ImageFolder` PNGs, the original project's."""

import re
import shutil
import zipfile
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from lib.common.errors import StudyError
from lib.common.files import replace_folder
from lib.common.progress import progress
from lib.common.tensors import load_tensors, save_tensors
from lib.data.images import read_image
from lib.data.samples import SampleSet

MAX_Z_DIM = 2**16
RESERVED = re.compile(r"con|prn|aux|nul|(com|lpt)\d", re.IGNORECASE)  # by Windows
FILES = "image_<i>.png and noise_<i>.pt"
IMAGE, NOISE = (re.compile(form, re.ASCII) for form in (r"image_(\d+)\.png", r"noise_(\d+)\.pt"))


def export_image_folder(samples: SampleSet, folder: Path | str) -> None:
    """Write `folder/<class>/NNNNN.png`, numbered as in the set, for torchvision's `ImageFolder`.

    The folder appears when it is complete, in the place of an earlier export; any other file in it
    is a `StudyError`. `ImageFolder` numbers the classes by the sorted names. What cannot stand in a
    folder's name becomes `_` (`folder_names`).
    """
    folder = Path(folder)
    names = folder_names(samples.class_names)
    for name, class_name in zip(names, samples.class_names, strict=True):
        if name != class_name:
            print(f"note: class {class_name!r} lies in {folder / name}")
    paths = [folder / names[label] / f"{i:05d}.png" for i, label in enumerate(samples.labels)]
    there = {path for path in folder.rglob("*") if path.is_file()}
    if strays := sorted(there - set(paths)):
        raise StudyError(f"{strays[0]} is no part of this export: choose an empty folder")
    work = folder.with_name(f".{folder.name}.export")
    shutil.rmtree(work, ignore_errors=True)
    for path, image in progress(zip(paths, samples.images, strict=True), "PNGs", len(paths)):
        copy = work / path.relative_to(folder)
        copy.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image.transpose(1, 2, 0)).save(copy)
    replace_folder(work, folder)


def save_one_file(samples: SampleSet, path: Path | str) -> None:
    """Write a set as one safetensors file, with its record as metadata."""
    save_tensors(path, {k: torch.from_numpy(v) for k, v in samples.arrays().items()}, samples.info)


def load_one_file(path: Path | str) -> SampleSet:
    """Read what `save_one_file` wrote; a file that holds no images is a `StudyError`."""
    tensors, info = load_tensors(path)
    kinds = {name: (tensor.dtype, tensor.ndim) for name, tensor in tensors.items()}
    wanted = {"images": (torch.uint8, 4), "labels": (torch.int64, 1)}
    wanted["latents"] = (torch.float32, 2)
    if not wanted.items() >= kinds.items() or not {"images", "labels"} <= kinds.keys():
        raise StudyError(f"{path} holds no images and labels of a set: choose a calibration set")
    return SampleSet(**{k: tensor.numpy() for k, tensor in tensors.items()}, info=info)


def folder_names(names: list[str]) -> list[str]:
    """Return folder names for classes that any system takes: all different, at most 60 letters."""
    found: list[str] = []
    for name in names:
        plain = re.sub(r'[/\\:*?"<>|\x00-\x1f]', "_", name)[:60].strip(" ").rstrip(".")
        unusable = not plain or plain.startswith(".") or RESERVED.fullmatch(plain.split(".")[0])
        plain = f"_{plain}" if unusable else plain
        taken, number, free = {other.casefold() for other in found}, 1, plain
        while free.casefold() in taken:
            free, number = f"{plain}_{number + 1}", number + 1
        found.append(free)
    return found


def import_sample_folder(folder: Path | str, class_names: list[str]) -> SampleSet:
    """Read `class_<k>/image_<i>.png` with `class_<k>/noise_<i>.pt`, sorted by k and i.

    A noise file holds one latent, `(z_dim,)` or `(1, z_dim)`; where it is a slice of a stored
    batch, only the slice is read. Nothing in the files is executed. Missing, unpaired and unfit
    files are `StudyError`s that name them.
    """
    folder = Path(folder)
    pairs = sample_pairs(folder, len(class_names))
    flat, images, latents = sum(pairs, []), [], []
    for image, noise in progress(flat, f"reading {folder.name}", unit="image"):
        images.append(read_image(image))
        latents.append(read_noise(noise))
        if (size := len(latents[-1])) != (first := len(latents[0])):
            both = f"{noise} holds {size} numbers, {flat[0][1]} holds {first}"
            raise StudyError(f"{both}: two teachers made them")
    labels = np.repeat(np.arange(len(pairs), dtype=np.int64), [len(part) for part in pairs])
    info = {"data": folder.name, "class_names": list(class_names), "maker": "imported"}
    return SampleSet(np.stack(images), labels, np.stack(latents), info)


def sample_pairs(folder: Path, classes: int) -> list[list[tuple[Path, Path]]]:
    """Return the (image, noise) files of each class of a folder in the original's layout."""
    names = {path.name for path in folder.glob("class_*") if path.is_dir()}
    wanted = [f"class_{k}" for k in range(classes)]
    pairs = [_class_pairs(folder / name) for name in wanted]
    if strays := names - set(wanted):
        raise StudyError(f"{folder / min(strays)} belongs to none of {len(wanted)} classes")
    return pairs


def read_noise(path: Path) -> np.ndarray:
    """Read one latent `(z_dim,) float32` from a file that `torch.save` wrote.

    The file is mapped into memory: of a stored batch only the latent's own bytes are read.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            for part in archive.infolist():
                if part.compress_type != zipfile.ZIP_STORED or part.file_size > path.stat().st_size:
                    raise ValueError(f"{part.filename} is compressed or larger than the file")
        latent = torch.load(path, map_location="cpu", mmap=True, weights_only=True)
    except Exception as error:  # torch and zipfile raise errors of a dozen kinds
        reason = " ".join(str(error).split())[:120]
        raise StudyError(f"{path} cannot be read as a latent ({reason}): replace it") from None
    if type(latent) is not torch.Tensor or latent.layout != torch.strided or latent.is_meta:
        raise StudyError(f"{path} holds no plain tensor: replace it")
    shape = tuple(latent.shape)
    one = latent.is_floating_point() and shape[:-1] in ((), (1,))
    if not (one and 0 < latent.numel() <= MAX_Z_DIM):
        raise StudyError(f"{path} holds {latent.dtype} {shape}, expected one latent: replace it")
    latent = latent.flatten().to(torch.float32, copy=True).numpy()
    if not np.isfinite(latent).all():
        raise StudyError(f"{path} holds numbers that are not finite: replace it")
    return latent


def _class_pairs(folder: Path) -> list[tuple[Path, Path]]:
    """Return the (image, noise) files of one class, by their number."""
    if not folder.is_dir():
        raise StudyError(f"{folder} is missing: each class needs {FILES}")
    images, noises = (
        {int(m[1]): file for file in folder.iterdir() if (m := pattern.fullmatch(file.name))}
        for pattern in (IMAGE, NOISE)
    )
    if alone := images.keys() ^ noises.keys():
        there, missing = (images, "noise") if min(alone) in images else (noises, "image")
        beside = f"has no {missing} file beside it: add it or remove this one"
        raise StudyError(f"{there[min(alone)]} {beside}")
    if not images:
        raise StudyError(f"{folder} is empty: it needs {FILES}")
    return [(images[i], noises[i]) for i in sorted(images)]
