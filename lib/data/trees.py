"""Trees of images, `train/<class>/…` and `test/<class>/…`, in a folder or an archive.

One walk serves reading and hashing. Hidden files and what systems leave behind are passed over.
"""

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from lib.common.errors import StudyError
from lib.common.progress import progress
from lib.data.archives import Files, Parts, read_archive
from lib.data.images import is_image, read_image
from lib.data.samples import SampleSet

SPLITS = ("train", "test")
TREE = "train/<class>/<image> and test/<class>/<image>"
LITTER = {"__macosx", "@eadir", "$recycle.bin", "system volume information", "lost+found"}
LITTER |= {"thumbs.db", "desktop.ini", "#recycle", "@recycle", "@__thumb"}


@dataclass(frozen=True)
class ImageTree:
    """The images of a tree: by (split, class), (name, path or content), all sorted.

    `unread` names the other files, which are passed over.
    """

    source: Path
    images: dict[tuple[str, str], list[tuple[str, Path | bytes]]]
    unread: list[str]

    def classes(self, split: str) -> list[str]:
        """Return the class folders of `train` or `test`."""
        return [label for part, label in self.images if part == split]

    def counts(self, split: str) -> dict[str, int]:
        """Return the number of images of each class."""
        return {label: len(self.images[split, label]) for label in self.classes(split)}

    def note(self) -> str:
        """Return a sentence on the files that are not read, "" for none."""
        if not self.unread:
            return ""
        some = ", ".join(self.unread[:3]) + (" …" if len(self.unread) > 3 else "")
        count = f"{len(self.unread)} files that are no images of a class"
        return f"{self.source} holds {count}: {some} (not read)"

    def check(self) -> None:
        """Raise `StudyError` unless both splits have the same classes, none of them empty."""
        for split in SPLITS:
            if not (classes := self.classes(split)):
                fault = f"{split}/ has no class folders: data_dir needs {TREE}"
                raise StudyError(f"{self.source}: {fault}")
            if len(classes) < 2:
                fault = f"{split}/ has one class ({classes[0]}): it takes two or more"
                raise StudyError(f"{self.source}: {fault}")
            for label in classes:
                if not self.images[split, label]:
                    there = [name for name in self.unread if f"{split}/{label}/" in f"/{name}"]
                    remedy = f"convert {there[0]} and others to PNG" if there else "add some"
                    fault = f"{split}/{label} has no images: {remedy}, or remove it"
                    raise StudyError(f"{self.source}: {fault}")
        if alone := sorted(set(self.classes("train")) ^ set(self.classes("test"))):
            lacks = f"class folders that train/ or test/ lacks ({', '.join(map(repr, alone))})"
            raise StudyError(f"{self.source}: {lacks}: add or rename them")

    def read(self, split: str) -> SampleSet:
        """Read the images of one split."""
        images, labels = [], []
        for number, label in enumerate(progress(self.classes(split), f"reading {split}")):
            files = self.images[split, label]
            images += [read_image(content, f"{split}/{label}/{name}") for name, content in files]
            labels += [number] * len(files)
        info = {"data": self.source.name.split(".")[0], "class_names": self.classes(split)}
        return SampleSet(np.stack(images), np.array(labels, dtype=np.int64), info=info)

    def first(self, per_class: int) -> "ImageTree":
        """Return the tree with at most so many images a class."""
        images = {key: files[:per_class] for key, files in self.images.items()}
        return ImageTree(self.source, images, [])

    def fingerprint(self) -> str:
        """Return a hash of all that is read from a folder."""
        digest = hashlib.sha256()
        for (split, label), files in self.images.items():
            for name, path in files:
                digest.update(f"{split}/{label}/{name}".encode())
                digest.update(hashlib.sha256(path.read_bytes()).digest())
        return digest.hexdigest()


def list_tree(source: Path, order: Sequence[str] = ()) -> ImageTree:
    """Return what a folder or an archive (`read_archive`) holds, below any folder around it.

    Classes come in the `order` of their names, if it is given, else sorted as text: 1, 10, 2.
    """
    if not source.exists():
        raise StudyError(f"{source} is missing: data_dir needs {TREE}")
    found = read_archive(source) if source.is_file() else _walk(source)
    for name in ("/".join(parts) for parts in [*found.files, *found.folders]):
        if not name.isprintable() and ascii(name) != name and re.search("[\ud800-\udfff]", name):
            raise StudyError(f"{source}: the name {ascii(name)} is not UTF-8: rename it")
    files = {parts: content for parts, content in found.files.items() if not is_litter(parts)}
    folders = {parts for parts in found.folders if not is_litter(parts)}
    depth = _depth(source, folders | {parts[:-1] for parts in files})
    images = {parts[depth:]: [] for parts in folders if len(parts) == depth + 2}
    unread = sorted(found.unread)
    for parts in sorted(files):
        key, name = parts[depth : depth + 2], parts[depth + 2 :]
        if name and key[0] in SPLITS and is_image(name[-1]):
            images.setdefault(key, []).append(("/".join(name), files[parts]))
        else:
            unread.append("/".join(parts))
    labels = {label for split, label in images if split in SPLITS}
    if order and labels != set(order):
        differ = ", ".join(sorted(labels ^ set(order)))
        fault = f"class_order and the class folders of {source} differ in {differ}"
        raise StudyError(f"{fault}: name each folder once")
    keys = [(split, label) for split in sorted(SPLITS) for label in order or sorted(labels)]
    return ImageTree(source, {key: images[key] for key in keys if key in images}, unread)


def is_litter(parts: Parts) -> bool:
    """Tell whether a path is hidden, or what systems leave behind."""
    return any(part.startswith(".") or part.casefold() in LITTER for part in parts)


def _depth(source: Path, folders: set[Parts]) -> int:
    """Return how many folders, each alone at its level, lie around `train/` and `test/`."""
    depth, tops = 0, {parts[0] for parts in folders if parts}
    while len(tops) == 1 and not tops & set(SPLITS):
        depth += 1
        tops = {parts[depth] for parts in folders if len(parts) > depth}
    if missing := set(SPLITS) - tops:
        holds = ", ".join(sorted(tops)[:6]) or "no folders"
        fault = f"{min(missing, key=SPLITS.index)}/ is missing: data_dir needs {TREE}"
        raise StudyError(f"{source}: {fault}; here are {holds}")
    return depth


def _walk(source: Path) -> Files:
    """Return the files of a folder that may be of a split; links are followed, but not upwards."""
    found, pending = Files(), [source]
    while pending:
        folder = pending.pop()
        here = folder.relative_to(source).parts
        inside = [path for path in folder.iterdir() if not is_litter((path.name,))]
        folders = [path for path in inside if path.is_dir() and not _leads_up(path, len(here) + 1)]
        enter = folders
        if not set(here) & set(SPLITS):
            enter = [path for path in folders if path.name in SPLITS]
            enter = enter or (folders if len(folders) == 1 else [])
        pending += enter
        found.folders |= {(*here, path.name) for path in folders}
        for path in set(inside) - set(enter):
            if path.is_file():
                found.files[*here, path.name] = path
            else:
                found.unread.append("/".join((*here, path.name)))
    return found


def _leads_up(path: Path, levels: int) -> bool:
    return path.is_symlink() and any(path.samefile(above) for above in path.parents[:levels])
