"""Archives of files, tar or zip, read in memory: nothing of them is unpacked to the disk."""

import bz2
import gzip
import io
import lzma
import stat
import tarfile
import zipfile
import zlib
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from lib.common.errors import StudyError

LARGEST = 512 * 1024 * 1024  # bytes of an archive, decompressed: 300,000 images and more
MOST = 1_000_000  # files that links may multiply them to
DEEPEST = 40  # links to links to links …
OPENERS = {b"\x1f\x8b": gzip.open, b"BZh": bz2.open, b"\xfd7zXZ\x00": lzma.open}
OTHERS = {
    b"\x28\xb5\x2f\xfd": "a Zstandard file",
    b"7z\xbc\xaf\x27\x1c": "a 7-Zip archive",
    b"Rar!": "a RAR archive",
    b"version https://git-lfs": "a pointer of Git LFS: run git lfs pull, or it is",
    b"\x04\x22\x4d\x18": "an LZ4 file",
}
FAULTS = (
    tarfile.TarError,
    zipfile.BadZipFile,
    lzma.LZMAError,
    zlib.error,
    EOFError,
    OSError,
    ValueError,
    NotImplementedError,
)
Parts = tuple[str, ...]


@dataclass
class Files:
    """What an archive or a folder holds, by the parts of its path.

    `files`: content, or the path where it is; `folders`; `unread`: names of what is neither.
    """

    files: dict[Parts, Path | bytes] = field(default_factory=dict)
    folders: set[Parts] = field(default_factory=set)
    unread: list[str] = field(default_factory=list)


def read_archive(path: Path) -> Files:
    """Return the files of a zip archive or a tar archive, plain or by gzip, bzip2 or xz.

    Of two files of one name the later counts. Links are followed inside the archive alone, and
    names never become paths. Raises `StudyError` for what is no such archive, is damaged, cut off
    or encrypted, or takes more than 512 MiB.
    """
    with path.open("rb") as file:
        start = file.read(32)
    for magic, kind in OTHERS.items():
        if start.startswith(magic):
            raise StudyError(f"{path} is {kind}: unpack it, or repack it as .zip or .tar.gz")
    is_zip = start.startswith(b"PK")
    try:
        return _read_zip(path) if is_zip else _read_tar(path, start)
    except FAULTS as error:
        reason = f"cannot be read as a {'zip' if is_zip else 'tar'} archive ({error})"
        raise StudyError(f"{path} {reason}: get it again") from error


def _read_tar(path: Path, start: bytes) -> Files:
    content, found, links = _decompressed(path, start), Files(), {}
    with tarfile.open(fileobj=io.BytesIO(content), mode="r:") as archive:
        for member in archive:
            parts = _inside(member.name)
            if parts is None:
                found.unread.append(member.name)
            elif member.isdir():
                found.folders.add(parts)
            elif member.isreg():
                found.files[parts] = archive.extractfile(member).read()
            elif member.islnk():
                links[parts] = _inside(member.linkname)
            elif member.issym():
                links[parts] = _inside(member.linkname, parts[:-1])
            else:
                found.unread.append(member.name)
        # tarfile stops without a word at a header that is damaged or cut off
        if content[archive.offset : archive.offset + 512] != bytes(512):
            raise tarfile.ReadError(f"damaged at byte {archive.offset:,}")
    return _follow(found, links, path)


def _decompressed(path: Path, start: bytes) -> bytes:
    """Return the content of a file, decompressed, up to the 512 MiB; check sums are compared."""
    opener = next((opener for magic, opener in OPENERS.items() if start.startswith(magic)), open)
    with opener(path, "rb") as file:
        content = file.read(LARGEST + 1)
    _bound(len(content), path)
    return content


def _bound(size: int, path: Path) -> None:
    if size > LARGEST:
        most = f"more than {LARGEST // 2**20} MiB"
        raise StudyError(f"{path} holds {most}: if you trust it, unpack it and name the folder")


def _read_zip(path: Path) -> Files:
    found, links = Files(), {}
    with zipfile.ZipFile(path) as archive:
        _bound(sum(member.file_size for member in archive.infolist()), path)
        for member in archive.infolist():
            name = member.filename
            parts = _inside(name.replace("\\", "/"))
            if member.flag_bits & 1:
                raise StudyError(f"{path} is encrypted: unpack it and name the folder")
            if parts is None:
                found.unread.append(name)
            elif member.is_dir():
                found.folders.add(parts)
            elif stat.S_ISLNK(member.external_attr >> 16):
                links[parts] = _inside(archive.read(member).decode("utf-8"), parts[:-1])
            else:
                found.files[parts] = archive.read(member)
    return _follow(found, links, path)


def _inside(name: str, base: Parts | None = None) -> Parts | None:
    """Return the parts of a name, None where it leads out; a link's may lead up from `base`."""
    if PurePosixPath(name).is_absolute():
        return None
    parts = list(base or ())
    for part in PurePosixPath(name).parts:
        if part != "..":
            parts.append(part)
        elif parts and base is not None:
            parts.pop()
        else:
            return None
    return tuple(parts)


def _follow(found: Files, links: dict[Parts, Parts | None], path: Path) -> Files:
    """Give each link the content of what it names, a file or a folder; links to links, too."""
    for _ in range(DEEPEST):
        folders = {parts[:n] for parts in found.files for n in range(1, len(parts))}
        still = {parts[:n] for parts in links for n in range(1, len(parts))}  # they hold links
        new: dict[Parts, Path | bytes] = {}
        for parts, target in list(links.items()):
            if target in found.files:
                new[parts] = found.files[target]
            elif target in folders and target not in still:
                inside = [name for name in found.files if name[: len(target)] == target]
                new |= {parts + name[len(target) :]: found.files[name] for name in inside}
            else:
                continue
            del links[parts]
            if len(found.files) + len(new) > MOST:
                raise StudyError(f"{path}: links multiply its files beyond {MOST:,}: unpack it")
        if not new:
            break
        found.files |= new
    found.unread += ["/".join(parts) for parts in links]
    return found
