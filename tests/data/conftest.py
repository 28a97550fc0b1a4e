"""Trees of images, as folders and archives."""

import tarfile

from PIL import Image


def write_tree(folder, classes=("cat", "dog"), side=32, n=3):
    """Write `n` images a class into `folder/train` and `folder/test`, each of another colour."""
    for split in ("train", "test"):
        for value, name in enumerate(classes):
            (folder / split / name).mkdir(parents=True)
            for index in range(n):
                pixel = (10 * value, index, 200)
                Image.new("RGB", (side, side), pixel).save(folder / split / name / f"{index}.png")
    return folder


def pack(tree, target, mode="w:xz", top="."):
    """Write a tree into a tar archive, below the folder `top`, links as links."""
    with tarfile.open(target, mode) as archive:
        for path in sorted(tree.rglob("*"), reverse=True):
            archive.add(path, f"{top}/{path.relative_to(tree)}", recursive=False)
    return target
