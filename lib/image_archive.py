"""An image tree inside a tar archive, read without unpacking anything to the disk."""

import tarfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from lib.errors import StudyError

SPLITS = ("train", "test")
LARGEST = 4 * 1024 * 1024  # bytes of one file; an image of 32×32 has a few thousand


def is_archive(path: Path) -> bool:
    """Return whether `path` is a file, hence read as an archive and not as a folder."""
    return path.is_file()


def read_archive(path: Path) -> dict[tuple[str, str], list[tuple[str, bytes]]]:
    """Return the files `<split>/<class>/<name>` of a tar archive, compressed or not.

    Keys are (split, class), values lists of (name, content), both sorted. Only regular files at
    that depth count; names never become paths. Raises `StudyError` for what is no tar archive, is
    damaged, holds no such file, or one of more than 4 MiB.
    """
    tree: dict[tuple[str, str], list[tuple[str, bytes]]] = {}
    for split, label, name, content in _members(path):
        tree.setdefault((split, label), []).append((name, content))
    if not tree:
        raise StudyError(f"{path} has no files train/<class>/<image> or test/<class>/<image>")
    return {key: sorted(tree[key]) for key in sorted(tree)}


def _members(path: Path) -> Iterator[tuple[str, str, str, bytes]]:
    try:
        with tarfile.open(path, "r|*") as archive:
            for member in archive:
                parts = [part for part in PurePosixPath(member.name).parts if part != "."]
                if not member.isreg() or len(parts) != 3 or parts[0] not in SPLITS:
                    continue
                if member.size > LARGEST:
                    raise StudyError(f"{path}: {member.name} has {member.size} bytes: no image")
                yield *parts, archive.extractfile(member).read()
    except (tarfile.TarError, EOFError, OSError, ValueError) as error:
        raise StudyError(f"{path} cannot be read as a tar archive ({error})") from error
    except Exception as error:  # lzma and zlib have errors of their own
        if type(error).__name__ in ("LZMAError", "error"):
            raise StudyError(f"{path} is damaged ({error}): get it again") from error
        raise
