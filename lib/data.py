"""The real data: handwritten digits, CIFAR-10, or any `ImageFolder` tree, as SampleSets.

scikit-learn and torchvision take seconds to import and are imported where they are needed.
"""

import hashlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

from lib.errors import StudyError
from lib.progress import progress
from lib.sampleset import SampleSet
from lib.seeds import derive_seed

SPLITS = ("train", "validation", "test")
SIDE = 32


def prepare_real(
    out: Path,
    *,
    data: str,
    data_dir: Path | str,
    source: str,
    seed: int,
    test_images: int,
    validation_images: int,
) -> None:
    """Write the real data as three SampleSets: `out/train`, `out/validation`, `out/test`.

    `source` is what `source_fingerprint` says of the files; the sets' record keeps it. The
    validation images are held out of the training split, stratified by class; accuracy-aware
    quantization judges its drop on them. `test_images` is the size of the digits' test split and
    0 for data that come with one.
    """
    train, test = LOADERS[data](data_dir, test_images)
    check_classes(train, test)
    rest, held_out = stratified_split(train, validation_images, derive_seed(seed, "validation"))
    for name, samples in zip(SPLITS, (rest, held_out, test), strict=True):
        samples.info |= {"split": name, "source": source}
        samples.save(out / name)


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
            f"CIFAR-10 could not be had ({error}): put the folder cifar-10-batches-py of "
            f"cifar-10-python.tar.gz into {Path(data_dir).resolve()}, or name a tree with train/ "
            "and test/ by data: imagefolder and data_dir"
        ) from error
    info = {"data": "CIFAR-10", "class_names": list(splits[0].classes)}
    train, test = (
        SampleSet(
            np.ascontiguousarray(split.data.transpose(0, 3, 1, 2)),
            np.array(split.targets, dtype=np.int64),
            info=dict(info),
        )
        for split in splits
    )
    return train, test


def load_image_folder(data_dir: Path | str) -> tuple[SampleSet, SampleSet]:
    """Return the sets below `data_dir/train` and `data_dir/test`, one folder a class."""
    train, test = (read_image_folder(Path(data_dir) / split) for split in ("train", "test"))
    if train.class_names != test.class_names:
        raise StudyError(f"{data_dir}: train/ and test/ have different class folders")
    return train, test


def read_image_folder(folder: Path) -> SampleSet:
    """Read `folder/<class>/<image>`: classes and images in sorted order, each 32×32 pixels."""
    if not folder.is_dir():
        raise StudyError(f"{folder} is missing: data_dir needs train/<class>/ and test/<class>/")
    from torchvision.datasets import ImageFolder

    try:
        tree = ImageFolder(str(folder))
    except FileNotFoundError as error:
        raise StudyError(f"{folder}: {error}: each class needs a folder with images") from error
    paths = [Path(path) for path, _ in tree.samples]
    images = np.stack([read_image(path) for path in progress(paths, f"reading {folder.name}")])
    info = {"data": folder.parent.name, "class_names": tree.classes}
    return SampleSet(images, np.array(tree.targets, dtype=np.int64), info=info)


def read_image(path: Path) -> np.ndarray:
    """Read one image as `(3, 32, 32) uint8`; another size or a damaged file is an error."""
    try:
        with Image.open(path) as image:
            if image.size != (SIDE, SIDE):
                raise StudyError(
                    f"{path} is {image.width}×{image.height} pixels, the study takes 32×32: "
                    "resize the images first"
                )
            return np.asarray(image.convert("RGB")).transpose(2, 0, 1)
    except (UnidentifiedImageError, OSError, SyntaxError) as error:
        raise StudyError(f"{path} cannot be read as an image ({error}): replace it") from error


def check_classes(train: SampleSet, test: SampleSet) -> None:
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

    classes = len(np.unique(samples.labels))
    if not classes <= n <= len(samples) - classes:
        raise StudyError(
            f"cannot hold out {n} of {len(samples)} images of {classes} classes: "
            f"choose {classes} to {len(samples) - classes}"
        )
    index = np.arange(len(samples))
    rest, held_out = train_test_split(
        index, test_size=n, stratify=samples.labels, random_state=seed % 2**32
    )
    return samples.subset(np.sort(rest)), samples.subset(np.sort(held_out))


def source_fingerprint(data: str, data_dir: Path | str) -> str:
    """Return a hash of the files that the data set is read from; empty for the embedded one.

    CIFAR-10 is downloaded first, where it is missing.
    """
    if data == "digits":
        return ""
    if data == "cifar10":
        load_cifar10(data_dir)
    folder = Path(data_dir)
    digest = hashlib.sha256()
    parts = ("cifar-10-batches-py",) if data == "cifar10" else ("train", "test")
    files = [path for part in parts for path in (folder / part).rglob("*") if path.is_file()]
    for path in sorted(files):
        digest.update(path.relative_to(folder).as_posix().encode())
        digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()


LOADERS: dict[str, Callable[[str, int], tuple[SampleSet, SampleSet]]] = {
    "digits": lambda _, test_images: load_digits_32(test_images),
    "cifar10": lambda data_dir, _: load_cifar10(data_dir),
    "imagefolder": lambda data_dir, _: load_image_folder(data_dir),
}
