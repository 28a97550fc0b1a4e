"""The real data: handwritten digits, CIFAR-10, or any tree of images, as SampleSets.

A tree is a folder or a tar archive, of which nothing is unpacked to the disk.
scikit-learn and torchvision take seconds to import and are imported where they are needed.
"""

import bz2
import gzip
import hashlib
import io
import lzma
import tarfile
import zlib
from pathlib import Path, PurePosixPath

import numpy as np
from PIL import Image
from PIL.Image import DecompressionBombError

from lib.common.errors import StudyError
from lib.common.files import sha256_file
from lib.common.progress import progress
from lib.common.seeds import derive_seed
from lib.data.samples import SampleSet

MUCH = 0.3  # share of the training images held out for validation beyond which to say so
SPLITS = ("train", "validation", "test")
SIDE = 32
TREE = "train/<class>/<image> and test/<class>/<image>"
SUFFIXES = {".png", ".jpg", ".jpeg", ".bmp", ".gif", ".ppm", ".pgm", ".tif", ".tiff", ".webp"}
LARGEST = 512 * 1024 * 1024  # bytes of an archive, decompressed: 300,000 images and more
OPENERS = {b"\x1f\x8b": gzip.open, b"BZh": bz2.open, b"\xfd7zXZ\x00": lzma.open}
FAULTS = (tarfile.TarError, lzma.LZMAError, zlib.error, EOFError, OSError, ValueError)
FORMATS = ("PNG", "JPEG", "BMP", "GIF", "PPM", "TIFF", "WEBP")


def prepare_real(
    out: Path,
    *,
    data: str,
    data_dir: Path | str,
    source: str,
    name: str,
    seed: int,
    test_images: int,
    validation_images: int,
) -> None:
    """Write the real data as three SampleSets: `out/train`, `out/validation`, `out/test`.

    `source` is what `source_fingerprint` says of the files, and `name` what tables and figures
    call the data (empty: the loader's own name); the sets' record keeps both. The validation
    images are held out of the training split, stratified by class; accuracy-aware quantization
    judges its drop on them. `test_images` is the size of the digits' test split and 0 for data
    that come with one.
    """
    if data == "digits":
        train, test = load_digits_32(test_images)
    else:
        train, test = (load_cifar10 if data == "cifar10" else load_image_tree)(data_dir)
    _check_classes(train, test)
    rest, held_out = stratified_split(train, validation_images, derive_seed(seed, "validation"))
    if len(held_out) > MUCH * len(train):
        held = f"{len(held_out)} of {len(train)} training images are held out for validation"
        print(f"note: {held}: lower validation_images to leave more to learn from")
    for split, samples in zip(SPLITS, (rest, held_out, test), strict=True):
        samples.info |= {"split": split, "source": source}
        samples.info["data"] = name or samples.info["data"]
        samples.save(out / split)


def load_real(folder: Path | str, split: str) -> SampleSet:
    """Read one split (`train`, `validation` or `test`) of what `prepare_real` wrote."""
    return SampleSet.load(Path(folder) / split)


def load_digits_32(test_images: int = 600) -> tuple[SampleSet, SampleSet]:
    """Return train and test sets of scikit-learn's 1,797 handwritten digits at 32×32.

    The 8×8 scans (values 0 … 16) are enlarged by bicubic interpolation; the three channels are
    equal. The split is stratified and fixed: it does not depend on the study's seed.
    """
    from sklearn.datasets import load_digits

    digits = load_digits()
    scans = np.clip(digits.images * (255 / 16), 0, 255).round().astype(np.uint8)
    large = [Image.fromarray(scan).resize((SIDE, SIDE), Image.Resampling.BICUBIC) for scan in scans]
    images = np.repeat(np.stack(large)[:, None], 3, axis=1)
    info = {"data": "digits", "class_names": [str(name) for name in digits.target_names]}
    samples = SampleSet(images, digits.target.astype(np.int64), info=info)
    return stratified_split(samples, test_images, seed=0)


def load_cifar10(data_dir: Path | str) -> tuple[SampleSet, SampleSet]:
    """Return CIFAR-10's train and test sets, read or downloaded by torchvision.

    torchvision compares each file with a known MD5 sum before it opens it. Offline, an error says
    where the files belong.
    """
    from torchvision.datasets import CIFAR10

    try:
        splits = [CIFAR10(str(data_dir), train=train, download=True) for train in (True, False)]
    except (OSError, RuntimeError) as error:
        raise StudyError(
            f"CIFAR-10 could not be had ({error}): put the folder cifar-10-batches-py into "
            f"{Path(data_dir).resolve()}, or name an image tree (data: imagefolder)"
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


def load_image_tree(data_dir: Path | str) -> tuple[SampleSet, SampleSet]:
    """Return the sets `train/<class>/<image>` and `test/…` of a folder or a tar archive.

    Classes and images come in sorted order; each image must be a PNG, JPEG or the like of 32×32
    pixels. An archive is read in memory: nothing of it is unpacked to the disk.
    """
    tree = list_tree(Path(data_dir))
    train, test = (_read_split(tree, split, Path(data_dir)) for split in ("train", "test"))
    if alone := sorted(set(train.class_names) ^ set(test.class_names)):
        lacks = f"class folders that train/ or test/ lacks ({', '.join(alone)})"
        raise StudyError(f"{data_dir}: {lacks}: add them")
    return train, test


def list_tree(source: Path) -> dict[tuple[str, str], list[tuple[str, Path | bytes]]]:
    """Return, by (split, class), the files of an image tree: (name, path or content), sorted."""
    if source.is_file():
        return read_archive(source)
    tree = {}
    for split in ("train", "test"):
        if not (source / split).is_dir():
            raise StudyError(f"{source / split} is missing: data_dir needs {TREE}")
        for folder in sorted(path for path in (source / split).iterdir() if path.is_dir()):
            files = sorted(path for path in folder.rglob("*") if _is_image(path.name))
            tree[split, folder.name] = [(path.name, path) for path in files]
    return tree


def _is_image(name: str) -> bool:
    """Return whether a file of this name is taken for an image; hidden ones are not."""
    return not name.startswith(".") and PurePosixPath(name).suffix.lower() in SUFFIXES


def read_archive(path: Path) -> dict[tuple[str, str], list[tuple[str, bytes]]]:
    """Return the images `<split>/<class>/<name>` of a tar archive, plain, gzip, bzip2 or xz.

    Keys are (split, class), values lists of (name, content), both sorted; of two files of one name
    the later counts. Only regular files at that depth are read; names never become paths. Raises
    `StudyError` for what is no tar archive, is damaged or cut off, holds no such file, or takes
    more than 512 MiB.
    """
    tree: dict[tuple[str, str], dict[str, bytes]] = {}
    try:
        content = _decompressed(path)
        with tarfile.open(fileobj=io.BytesIO(content), mode="r:") as archive:
            for member in archive:
                parts = [part for part in PurePosixPath(member.name).parts if part != "."]
                inside = len(parts) == 3 and parts[0] in ("train", "test") and ".." not in parts
                if inside and member.isreg() and _is_image(parts[2]):
                    images = tree.setdefault((parts[0], parts[1]), {})
                    images[parts[2]] = archive.extractfile(member).read()
            # tarfile stops without a word at a header that is damaged or cut off
            if content[archive.offset : archive.offset + 512] != bytes(512):
                raise tarfile.ReadError(f"damaged at byte {archive.offset:,}")
    except FAULTS as error:
        reason = f"cannot be read as a tar archive ({error})"
        raise StudyError(f"{path} {reason}: get it again") from error
    if not tree:
        raise StudyError(f"{path} has no files {TREE}")
    return {key: sorted(tree[key].items()) for key in sorted(tree)}


def _decompressed(path: Path) -> bytes:
    """Return the content of a file, decompressed, up to the 512 MiB; check sums are compared."""
    with path.open("rb") as file:
        start = file.read(6)
    opener = next((opener for magic, opener in OPENERS.items() if start.startswith(magic)), open)
    with opener(path, "rb") as file:
        content = file.read(LARGEST + 1)
    if len(content) > LARGEST:
        size = f"more than {LARGEST // 2**20} MiB"
        raise StudyError(f"{path} holds {size}: if you trust it, unpack it and name the folder")
    return content


def _read_split(tree: dict, split: str, source: Path) -> SampleSet:
    """Read the images of one split of what `list_tree` returns."""
    classes = [label for part, label in tree if part == split]
    if not classes:
        raise StudyError(f"{source}: {split}/ has no class folders: data_dir needs {TREE}")
    images, labels = [], []
    for number, label in enumerate(progress(classes, f"reading {split}")):
        files = tree[split, label]
        if not files:
            raise StudyError(f"{source}: {split}/{label} has no images: add some or remove it")
        images += [read_image(content, f"{split}/{label}/{name}") for name, content in files]
        labels += [number] * len(files)
    info = {"data": source.name.split(".")[0], "class_names": classes}
    return SampleSet(np.stack(images), np.array(labels, dtype=np.int64), info=info)


def read_image(source: Path | bytes, name: str = "") -> np.ndarray:
    """Read one image, a file or its content, as `(3, 32, 32) uint8`.

    Another size or damage is a `StudyError`, which calls the image `name`.
    """
    name = name or str(source)
    try:
        file = io.BytesIO(source) if isinstance(source, bytes) else source
        with Image.open(file, formats=FORMATS) as image:
            if image.size != (SIDE, SIDE):
                size = f"{image.width}×{image.height} pixels, the study takes 32×32"
                raise StudyError(f"{name} is {size}: resize the images first")
            return np.asarray(image.convert("RGB")).transpose(2, 0, 1)
    except (OSError, SyntaxError, ValueError, DecompressionBombError) as error:
        raise StudyError(f"{name} cannot be read as an image ({error}): replace it") from error


def _check_classes(train: SampleSet, test: SampleSet) -> None:
    """Raise `StudyError` unless there are two classes or more, each with train and test images."""
    names = train.class_names
    if len(names) < 2:
        raise StudyError(f"the data set has one class ({', '.join(names)}): it takes two or more")
    for split, samples in (("training", train), ("test", test)):
        counts = np.bincount(samples.labels, minlength=len(names))
        if counts.min() == 0:
            raise StudyError(f"class {names[counts.argmin()]} has no {split} images: add some")


def stratified_split(samples: SampleSet, n: int, seed: int) -> tuple[SampleSet, SampleSet]:
    """Split off `n` samples with the same share of each class; return (rest, split off)."""
    from sklearn.model_selection import train_test_split

    options = {"test_size": n, "stratify": samples.labels, "random_state": seed % 2**32}
    try:
        rest, held_out = train_test_split(np.arange(len(samples)), **options)
    except ValueError as error:
        raise StudyError(f"cannot hold out {n} of {len(samples)} images: {error}") from error
    return samples.subset(np.sort(rest)), samples.subset(np.sort(held_out))


def source_fingerprint(data: str, data_dir: Path | str) -> str:
    """Return a hash of the files that the data set is read from; empty for the embedded one.

    CIFAR-10 is downloaded first, where it is missing.
    """
    if data == "digits":
        return ""
    if data == "cifar10":
        load_cifar10(data_dir)
    folder, digest = Path(data_dir), hashlib.sha256()
    if folder.is_file():
        return sha256_file(folder)
    parts = ("cifar-10-batches-py",) if data == "cifar10" else ("train", "test")
    files = [path for part in parts for path in (folder / part).rglob("*") if path.is_file()]
    for path in sorted(files):
        digest.update(path.relative_to(folder).as_posix().encode())
        digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()
