"""CIFAR-10 (Krizhevsky 2009), in the binary or the Python version that its author publishes.

torchvision takes seconds to import and is imported where it is needed.
"""

import hashlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from lib.common.errors import StudyError
from lib.data.archives import read_archive
from lib.data.samples import SampleSet

CLASSES = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]
FOLDER, ARCHIVE = "cifar-10-batches-bin", "cifar-10-binary.tar.gz"
SHA1 = {
    "data_batch_1.bin": "aadd24acce27caa71bf4b10992e9e7b2d74c2540",
    "data_batch_2.bin": "c0ba65cce70568cd57b4e03e9ac8d2a5367c1795",
    "data_batch_3.bin": "1dd00a74ab1d17a6e7d73e185b69dbf31242f295",
    "data_batch_4.bin": "aab85764eb3584312d3c7f65fd2fd016e36a258e",
    "data_batch_5.bin": "26e2849e66a845b7f1e4614ae70f4889ae604628",
    "test_batch.bin": "67eb016db431130d61cd03c7ad570b013799c88c",
}
RECORD = 1 + 3 * 32 * 32  # bytes of an image: its label, then its red, green and blue plane
BATCH = 10_000  # images in a file
AGAIN = f"get it again from {ARCHIVE}"


def load_cifar10(data_dir: Path | str) -> tuple[SampleSet, SampleSet]:
    """Return CIFAR-10's train and test sets, in the official order.

    They are read from the binary version, if `data_dir` is or holds the folder
    `cifar-10-batches-bin` or the file `cifar-10-binary.tar.gz`, each batch compared with its
    SHA-1; else torchvision reads or downloads the Python version and compares MD5 sums.
    """
    source = find_binary(Path(data_dir))
    if source is None:
        return _from_torchvision(Path(data_dir))
    images, labels = zip(*_read_batches(source), strict=True)
    info = {"data": "CIFAR-10", "class_names": CLASSES}
    splits = (slice(0, 5), slice(5, 6))
    train, test = (
        SampleSet(np.concatenate(images[part]), np.concatenate(labels[part]), info=dict(info))
        for part in splits
    )
    return train, test


def find_binary(data_dir: Path) -> Path | None:
    """Return the folder or archive of the binary version in `data_dir`, which may be either."""
    if data_dir.is_file():
        return data_dir
    batches = [data_dir, data_dir / FOLDER]
    for folder in batches:
        if folder.name == FOLDER and folder.is_dir() or any((folder / n).exists() for n in SHA1):
            return folder
    return data_dir / ARCHIVE if (data_dir / ARCHIVE).is_file() else None


def check_cifar10(data_dir: Path | str) -> None:
    """Raise `StudyError` for files of the binary version in `data_dir` that are not CIFAR-10's."""
    source = find_binary(Path(data_dir))
    if source is not None:
        list(_read_batches(source))


def _read_batches(source: Path) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Read the images `(10000, 3, 32, 32) uint8` and labels `(10000,) int64` of each batch."""
    if source.is_dir():
        found = {path.name: path for path in source.iterdir() if path.is_file()}
    else:
        found = {parts[-1]: content for parts, content in read_archive(source).files.items()}
    for name in SHA1:
        if name not in found:
            python = name.removesuffix(".bin") in found
            why = " (here is the Python version: its folder is cifar-10-batches-py)" * python
            raise StudyError(f"{source} lacks {name}{why}: put there what {ARCHIVE} holds")
        content = found[name]
        content = content.read_bytes() if isinstance(content, Path) else content
        check_batch(content, SHA1[name], f"{source}/{name}")
        records = np.frombuffer(content, np.uint8).reshape(BATCH, RECORD)
        yield records[:, 1:].reshape(BATCH, 3, 32, 32), records[:, 0].astype(np.int64)


def check_batch(content: bytes, sha1: str, name: str) -> None:
    """Raise `StudyError` with the likely reason unless the content of a batch has this SHA-1."""
    if hashlib.sha1(content, usedforsecurity=False).hexdigest() == sha1:
        return
    size = BATCH * RECORD
    if content[:1] == b"\x80":  # how a pickle begins
        fault = "is of the Python version, not of the binary one"
    elif len(content) != size:
        fault = f"has {len(content):,} bytes, not {size:,}: it is cut off or of another data set"
    elif max(content[::RECORD]) >= len(CLASSES):
        fault = f"has a label of {max(content[::RECORD])}, beyond the {len(CLASSES)} classes"
    else:
        fault = "is damaged: its SHA-1 is not that of the published file"
    raise StudyError(f"{name} {fault}; {AGAIN}")


def _from_torchvision(data_dir: Path) -> tuple[SampleSet, SampleSet]:
    from torchvision.datasets import CIFAR10

    try:
        splits = [CIFAR10(str(data_dir), train=train, download=True) for train in (True, False)]
    except (OSError, RuntimeError) as error:
        raise StudyError(
            f"CIFAR-10 could not be had ({error}): put the folder {FOLDER}, the file {ARCHIVE} or "
            f"the folder cifar-10-batches-py into {data_dir.resolve()}, or name an image tree "
            "(data: imagefolder)"
        ) from error
    train, test = (
        SampleSet(
            np.ascontiguousarray(split.data.transpose(0, 3, 1, 2)),
            np.array(split.targets, dtype=np.int64),
            info={"data": "CIFAR-10", "class_names": list(split.classes)},
        )
        for split in splits
    )
    return train, test
