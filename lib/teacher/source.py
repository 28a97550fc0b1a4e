"""Where the teacher comes from: trained here, a file from elsewhere, or samples it has made.

A training may also go on from the state in which an earlier one has ended: its networks,
averages and moments, and how many images they were shown.
"""

from pathlib import Path

import numpy as np
from pydantic import BaseModel, Field, ValidationError

from lib.common.download import cache_folder, download
from lib.common.errors import StudyError
from lib.common.files import hash_tree, read_json, resolve, sha256_file, sha256_json
from lib.common.tensors import load_tensors, save_tensors
from lib.data.layouts import import_sample_folder, sample_pairs
from lib.data.samples import IMAGE_SHAPE, RECORD, SampleSet
from lib.gan.generator import Generator
from lib.teacher.official.reader import OFFICIAL_CIFAR10
from lib.teacher.options import SamplingOptions
from lib.teacher.sampling import load_teacher, open_teacher, sample_teacher

WEIGHTS, STATE = "teacher.safetensors", "training.safetensors"


def find_teacher(teacher: str, manifest: Path | None = None) -> Path:
    """Return the file or folder of samples that the parameter `teacher` means.

    `official` is NVIDIA's CIFAR-10 network (NVIDIA Source Code License: research and evaluation
    only), downloaded once into the user's cache folder. It must be the one that `manifest`, of an
    earlier run, has recorded.
    """
    if teacher != "official":
        return resolve(teacher)
    content = read_json(manifest) if manifest is not None and manifest.is_file() else {}
    recorded = content.get("artifacts", {}).get("teacher", {}).get("options", {})
    sha256 = recorded.get("sha256") if recorded.get("origin") == "official" else None
    target = cache_folder() / "stylegan2-ada-cifar10.pkl"
    download(OFFICIAL_CIFAR10, target, sha256)
    return target


def source_record(teacher: str, source: Path) -> dict[str, str]:
    """Return what the record keeps of the parameter `teacher` and its file or folder `source`.

    `origin` is `official` or the name; `sha256` that of a file, or of a folder's files and names.
    """
    sha256 = sha256_json(hash_tree(source)) if source.is_dir() else sha256_file(source)
    return {"origin": teacher if teacher == "official" else source.name, "sha256": sha256}


def check_source(source: Path, classes: int) -> None:
    """Raise `StudyError` unless `source` is a teacher or samples of so many classes."""
    if source.is_dir():
        sample_pairs(source, classes)
    else:
        _check_fit(source, load_teacher(source), classes)


def _check_fit(source: Path, generator: Generator, classes: int) -> None:
    size = generator.config["img_resolution"]
    if (size, generator.config["img_channels"]) != (IMAGE_SHAPE[1], IMAGE_SHAPE[0]):
        fault = f"makes {size}×{size} images of {generator.config['img_channels']} channels"
        raise StudyError(f"{source} {fault}, the study takes 32×32 of 3: choose another teacher")
    if generator.c_dim != classes:
        fault = f"was trained for {generator.c_dim} classes, the data have {classes}"
        raise StudyError(f"{source} {fault}: choose a teacher of the same data")


def adopt_teacher(
    out: Path, *, source: Path, origin: str, sha256: str, class_names: list[str], data: str
) -> None:
    """Write `out/teacher.safetensors`, or a sample set where `source` is a folder of samples.

    `origin` and `sha256` are those of `source_record`. Where the source names no classes (NVIDIA's
    file and folders of samples do not), it takes `class_names` and the name `data`; their number
    must be that of the labels it takes.
    """
    about = {"class_names": class_names, "data": data, "origin": origin, "sha256": sha256}
    if source.is_dir():
        samples = import_sample_folder(source, class_names)
        samples.info |= about | {"latent_distribution": latent_distribution(samples.latents)}
        return samples.save(out)
    generator, record = open_teacher(source)
    about["class_names"] = record["class_names"] or class_names
    _check_fit(source, generator, len(class_names))
    if len(about["class_names"]) != len(class_names):
        fault = f"names {len(about['class_names'])} classes, the data have {len(class_names)}"
        raise StudyError(f"{source} {fault}: choose a teacher of the same data")
    about["data"] = record["data"] or data
    save_tensors(out / WEIGHTS, generator, record | about)


def latent_distribution(latents: np.ndarray) -> str:
    """Return what latents `(n, z_dim)` look like: `uniform` on [0, 1), `normal`, or `unknown`."""
    mean, std = float(latents.mean()), float(latents.std())
    if latents.min() >= 0 and latents.max() < 1 and abs(mean - 0.5) < 0.1:
        return "uniform"
    return "normal" if abs(mean) < 0.1 and abs(std - 1) < 0.1 else "unknown"


def make_teacher_samples(
    out: Path,
    *,
    teacher: Path,
    seed: int,
    options: SamplingOptions,
    device: str = "cpu",
    num_processes: int = 1,
) -> None:
    """Write the sample set of the artifact folder `teacher`, `options.per_class` images a class.

    They are drawn from its network (`sample_teacher`), or taken in their order from the samples
    that stand in its place.
    """
    if not (teacher / RECORD).is_file():
        how = {"device": device, "num_processes": num_processes}
        return sample_teacher(out, teacher=teacher / WEIGHTS, seed=seed, options=options, **how)
    samples = SampleSet.load(teacher)
    classes = range(len(samples.class_names))
    members = [np.flatnonzero(samples.labels == k)[: options.per_class] for k in classes]
    fewest = min(map(len, members))
    if fewest < options.per_class:
        fault = f"{samples.info['origin']} holds {fewest} images of a class"
        raise StudyError(f"{fault}, sampling_per_class asks for {options.per_class}: lower it")
    samples.subset(np.stack(members, axis=1).flatten()).save(out, options.shard_size)


def count_parameters(teacher: Path) -> int | None:
    """Return the parameters of the network in the artifact folder `teacher`; None if none."""
    if not (teacher / WEIGHTS).is_file():
        return None
    return sum(weight.numel() for weight in load_teacher(teacher / WEIGHTS).parameters())


def licence_note(teacher: Path) -> str:
    """Return a sentence on whose the teacher in the artifact folder `teacher` is."""
    if (teacher / RECORD).is_file():
        origin = read_json(teacher / RECORD)["info"]["origin"]
        return f"The samples come from the folder {origin}: the licence of their maker holds."
    record = open_teacher(teacher / WEIGHTS)[1]
    origin, sha256 = record.get("origin"), f"SHA-256 {record.get('sha256')}"
    if origin == "official":
        whose = (
            "is NVIDIA's StyleGAN2-ADA network for CIFAR-10, under the NVIDIA Source Code License"
        )
        return f"The teacher {whose}: for research and evaluation only. {sha256}."
    if origin:
        whose = "the licence of its maker holds; networks that NVIDIA published are for research"
        return f"The teacher comes from the file {origin} ({sha256}): {whose} and evaluation."
    whose = "without weights from elsewhere: the licence of the data is the one to heed"
    return f"The teacher was trained by this study on {record['data']}, {whose}."


class StateOptions(BaseModel):
    """What must be known of the options of the training that has left a state."""

    batch_size: int = Field(gt=0)


class StateRecord(BaseModel):
    """What a state says of its training: see `Training.save`."""

    step: int = Field(ge=0)
    options: StateOptions
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


def read_record(path: Path) -> StateRecord:
    """Return what a training state says of itself; raise `StudyError` if it is none."""
    try:
        return StateRecord.model_validate(load_tensors(path)[1].get("state"))
    except ValidationError as error:
        fault = error.errors()[0]
        where = ".".join(map(str, fault["loc"])) or "its record"
        raise StudyError(
            f"{path} is no training state of a teacher ({where}: {fault['msg']}): name the {STATE} "
            "that notebook 00 writes, or leave teacher_start empty"
        ) from error


def round_state(source: Path, target: Path) -> None:
    """Write the networks of the state `source` in bfloat16, and its counts; no pictures.

    Adam's running means, more than half of the size, are left out: they find themselves again.
    """
    tensors, config = load_tensors(source)
    rounded = {
        name: tensor.bfloat16() if tensor.is_floating_point() and tensor.ndim else tensor
        for name, tensor in tensors.items()
        if not name.startswith(("module/snapshots/", "optimizer/"))
    }
    save_tensors(target, rounded, config)
