"""An image tree inside a tar archive, read without unpacking anything to the disk."""

import bz2
import gzip
import io
import lzma
import tarfile
import zlib
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from lib.common.errors import StudyError

SPLITS = ("train", "test")
SUFFIXES = {".png", ".jpg", ".jpeg", ".bmp", ".gif", ".ppm", ".pgm", ".tif", ".tiff", ".webp"}
LARGEST = 512 * 1024 * 1024  # bytes of an archive, decompressed: 300,000 images and more
OPENERS = {b"\x1f\x8b": gzip.open, b"BZh": bz2.open, b"\xfd7zXZ\x00": lzma.open}
FAULTS = (tarfile.TarError, lzma.LZMAError, zlib.error, EOFError, OSError, ValueError)


def is_image(name: str) -> bool:
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
        for split, label, name, content in _images(_decompressed(path)):
            tree.setdefault((split, label), {})[name] = content
    except FAULTS as error:
        reason = f"cannot be read as a tar archive ({error})"
        raise StudyError(f"{path} {reason}: get it again") from error
    if not tree:
        raise StudyError(f"{path} has no files train/<class>/<image> or test/<class>/<image>")
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


def _images(content: bytes) -> Iterator[tuple[str, str, str, bytes]]:
    with tarfile.open(fileobj=io.BytesIO(content), mode="r:") as archive:
        for member in archive:
            parts = [part for part in PurePosixPath(member.name).parts if part != "."]
            inside = len(parts) == 3 and parts[0] in SPLITS and ".." not in parts
            if inside and member.isreg() and is_image(parts[2]):
                yield *parts, archive.extractfile(member).read()
        # tarfile stops without a word at a header that is damaged or cut off
        if content[archive.offset : archive.offset + 512] != bytes(512):
            raise tarfile.ReadError(f"damaged at byte {archive.offset:,}")
