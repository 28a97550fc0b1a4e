"""The real data: handwritten digits, CIFAR-10, or any tree of images, as SampleSets.

scikit-learn takes seconds to import and is imported where it is needed.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from lib.common.errors import StudyError
from lib.common.files import sha256_file
from lib.common.seeds import derive_seed
from lib.data.cifar10 import load_cifar10
from lib.data.images import SIDE
from lib.data.samples import SampleSet
from lib.data.trees import list_tree

MUCH = 0.3  # share of the training images held out for validation beyond which to say so
SPLITS = ("train", "validation", "test")


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
    class_order: Sequence[str] = (),
) -> None:
    """Write the real data as three SampleSets: `out/train`, `out/validation`, `out/test`.

    `source` is what `source_fingerprint` says of the files, and `name` what tables and figures
    call the data (empty: the loader's own name); the sets' record keeps both. The validation
    images are held out of the training split, stratified by class; accuracy-aware quantization
    judges its drop on them. `test_images` is the size of the digits' test split and 0 for data
    that come with one. `class_order` names the classes of an image tree in the order of their
    labels; without it they are sorted.
    """
    if data == "digits":
        train, test = load_digits_32(test_images)
    elif data == "cifar10":
        train, test = load_cifar10(data_dir)
    else:
        train, test = load_image_tree(data_dir, class_order)
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


def load_image_tree(
    data_dir: Path | str, class_order: Sequence[str] = ()
) -> tuple[SampleSet, SampleSet]:
    """Return the sets `train/<class>/<image>` and `test/…` of a folder or an archive.

    Images are sorted by name, classes as `list_tree` says; `read_image` tells what it takes.
    """
    tree = list_tree(Path(data_dir), class_order)
    tree.check()
    if note := tree.note():
        print(f"note: {note}")
    train, test = (tree.read(split) for split in ("train", "test"))
    return train, test


def stratified_split(samples: SampleSet, n: int, seed: int) -> tuple[SampleSet, SampleSet]:
    """Split off `n` samples with the same share of each class; return (rest, split off)."""
    rest, held_out = split_labels(samples.labels, n, seed)
    return samples.subset(rest), samples.subset(held_out)


def split_labels(labels: np.ndarray, n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the indices of `stratified_split`, sorted."""
    from sklearn.model_selection import train_test_split

    options = {"test_size": n, "stratify": labels, "random_state": seed % 2**32}
    try:
        rest, held_out = train_test_split(np.arange(len(labels)), **options)
    except ValueError as error:
        raise StudyError(f"cannot hold out {n} of {len(labels)} images: {error}") from error
    return np.sort(rest), np.sort(held_out)


def check_counts(counts: dict[str, int], validation: int, per_class: int, seed: int) -> None:
    """Raise `StudyError` unless the training images of each class, `counts`, suffice.

    `validation` of them all are held out, and the calibration sets take `per_class` of each class
    from the rest; `seed` is the study's.
    """
    if few := sorted(name for name, n in counts.items() if n < 2):
        raise StudyError(f"class {few[0]} has one training image: add some or remove the class")
    labels = np.repeat(np.arange(len(counts)), list(counts.values()))
    most = len(labels) - len(counts)
    if not len(counts) <= validation <= most:
        between = f"between {len(counts)} (an image a class) and {most}"
        raise StudyError(f"validation_images: {validation} cannot be held out: choose {between}")
    rest, _ = split_labels(labels, validation, derive_seed(seed, "validation"))
    left = dict(zip(counts, np.bincount(labels[rest], minlength=len(counts)), strict=True))
    name = min(left, key=left.get)
    if left[name] < per_class:
        raise StudyError(
            f"class {name} has {left[name]} training images beside those held out for validation, "
            f"calibration_per_class asks for {per_class}: choose {left[name]} or fewer, or lower "
            "validation_images"
        )


def source_fingerprint(data: str, data_dir: Path | str) -> str:
    """Return a hash of the images that an image tree holds; "" where they are known beforehand.

    The digits are embedded, and CIFAR-10's files are compared with its author's when they are read.
    """
    if data != "imagefolder":
        return ""
    source = Path(data_dir)
    return sha256_file(source) if source.is_file() else list_tree(source).fingerprint()
