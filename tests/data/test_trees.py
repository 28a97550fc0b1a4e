"""Trees of images in folders and archives: read alike, whatever else lies there."""

import io
import lzma
import os
import shutil
import tarfile
import zipfile

import numpy as np
import pytest
from PIL import Image

from lib.common.errors import StudyError
from lib.data.archives import read_archive
from lib.data.real import load_image_tree, source_fingerprint
from lib.data.trees import list_tree
from tests.data.conftest import pack, write_tree

MODES = ["w", "w:gz", "w:bz2", "w:xz"]


def zipped(tree, target):
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in sorted(tree.rglob("*")):
            archive.write(path, path.relative_to(tree.parent))
    return target


def same(one, other):
    for ours, theirs in zip(load_image_tree(one), load_image_tree(other), strict=True):
        np.testing.assert_array_equal(ours.images, theirs.images)
        np.testing.assert_array_equal(ours.labels, theirs.labels)
        assert ours.info == theirs.info


def test_folder_is_read_with_its_class_names(tmp_path):
    train, test = load_image_tree(write_tree(tmp_path / "pets"))
    assert train.info == {"data": "pets", "class_names": ["cat", "dog"]}
    np.testing.assert_array_equal(train.images[4, :, 0, 0], [10, 1, 200])
    np.testing.assert_array_equal(test.labels, [0, 0, 0, 1, 1, 1])


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("top", [".", "dataset", "a/b"])
def test_archive_reads_like_its_folder(tmp_path, mode, top):
    tree = write_tree(tmp_path / "pets")
    (tree / "train" / "cat" / "more").mkdir()
    Image.new("RGB", (32, 32), "red").save(tree / "train" / "cat" / "more" / "1.jfif", "JPEG")
    same(pack(tree, tmp_path / "pets.tar.any", mode, top), tree)
    assert len(load_image_tree(tree)[0]) == 7
    same(zipped(tree, tmp_path / "pets.zip"), tree)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["pets", "pets.tar.any", "pets.zip"]


def test_links_are_followed_in_folders_and_archives(tmp_path):
    tree, plain = write_tree(tmp_path / "pets"), write_tree(tmp_path / "plain" / "pets")
    train = tree / "train"
    os.replace(train / "cat", tree / "elsewhere")
    (train / "cat").symlink_to("../elsewhere")
    (train / "dog" / "0.png").unlink()
    os.link(train / "dog" / "1.png", train / "dog" / "0.png")
    (train / "dog" / "3.png").symlink_to("1.png")
    shutil.copy(plain / "train/dog/1.png", plain / "train/dog/0.png")
    shutil.copy(plain / "train/dog/1.png", plain / "train/dog/3.png")
    same(tree, plain)
    same(pack(tree, tmp_path / "pets.tar"), plain)
    known = source_fingerprint("imagefolder", tree)
    Image.new("RGB", (32, 32)).save(tree / "elsewhere" / "1.png")
    assert known != source_fingerprint("imagefolder", tree)
    (train / "cat" / "loop").symlink_to("..")
    assert len(load_image_tree(tree)[0]) == 7


def test_links_at_the_top_of_an_archive_are_followed(tmp_path):
    tree = write_tree(tmp_path / "pets")
    (tree / "data").mkdir()
    (tree / "train").rename(tree / "data" / "training")
    (tree / "train").symlink_to("test/../data/training")
    found = list_tree(pack(tree, tmp_path / "pets.tar"))
    assert found.counts("train") == {"cat": 3, "dog": 3}


def test_links_out_of_an_archive_lead_nowhere(tmp_path):
    tree = write_tree(tmp_path / "pets")
    link = tree / "train" / "cat" / "passwd.png"
    for target in ("/etc/passwd", "../../../../etc/passwd", "../..", "passwd.png", "gone.png"):
        link.unlink(missing_ok=True)
        link.symlink_to(target)
        found = list_tree(pack(tree, tmp_path / "pets.tar"))
        assert found.counts("train") == {"cat": 3, "dog": 3}, target
        assert "train/cat/passwd.png" in found.note()


def test_names_in_an_archive_never_become_paths(tmp_path):
    image = io.BytesIO()
    Image.new("RGB", (32, 32)).save(image, "PNG")
    names = ["train/cat/1.png", "test/cat/1.png", "../train/cat/2.png", "/train/dog/3.png"]
    with tarfile.open(tmp_path / "bad.tar", "w") as file:
        for name in names:
            info = tarfile.TarInfo(name)
            info.size = image.tell()
            file.addfile(info, io.BytesIO(image.getvalue()))
    with zipfile.ZipFile(tmp_path / "bad.zip", "w") as file:
        for name in names:
            file.writestr(name, image.getvalue())
    for archive in ("bad.tar", "bad.zip"):
        tree = list_tree(tmp_path / archive)
        assert tree.counts("train") == {"cat": 1}
        assert "../train/cat/2.png" in tree.note()


def test_litter_is_passed_over_and_the_rest_is_said(tmp_path, capsys):
    tree = write_tree(tmp_path / "pets")
    for folder in (
        ".ipynb_checkpoints",
        "train/.ipynb_checkpoints",
        "train/cat/@eaDir",
        "train/cat/.ipynb_checkpoints",
        "__MACOSX/train/cat",
        "train/__MACOSX",
    ):
        (tree / folder).mkdir(parents=True)
        shutil.copy(tree / "train/cat/0.png", tree / folder / "0.png")
    (tree / "train" / "cat" / "folder.png").mkdir()
    for name in ("#recycle", "@eadir", "@__thumb"):
        shutil.copytree(tree / "train/dog", tree / "train" / name)
    for name in (".DS_Store", "._0.png", "Thumbs.db", "desktop.ini"):
        (tree / "train" / "cat" / name).write_text("litter")
    sources = [tree, pack(tree, tmp_path / "pets.tar.gz", "w:gz"), zipped(tree, tmp_path / "a.zip")]
    for source in sources:
        assert len(load_image_tree(source)[0]) == 6
    assert "not read" not in capsys.readouterr().out
    (tree / "train" / "cat" / "notes.txt").write_text("no image")
    (tree / "README.md").write_text("no image")
    for source in (tree, pack(tree, tmp_path / "pets.tar.gz", "w:gz")):
        assert len(load_image_tree(source)[0]) == 6
        assert "2 files that are no images of a class: README.md, train/cat/notes.txt" in (
            capsys.readouterr().out
        )


def test_classes_come_in_the_order_that_is_given(tmp_path):
    tree = write_tree(tmp_path / "numbers", ["1", "2", "10"])
    assert list_tree(tree).classes("train") == ["1", "10", "2"]
    train, test = load_image_tree(tree, ["1", "2", "10"])
    assert train.class_names == test.class_names == ["1", "2", "10"]
    assert set(train.images[train.labels == 2][:, 0, 0, 0]) == {20}
    with pytest.raises(StudyError, match="class_order and the class folders of .* differ in 10, 3"):
        load_image_tree(tree, ["1", "2", "3"])


def test_faults_of_a_tree_are_named(tmp_path):
    with pytest.raises(StudyError, match="nowhere is missing: data_dir needs train/<class>"):
        load_image_tree(tmp_path / "nowhere")
    (tmp_path / "other" / "val" / "cat").mkdir(parents=True)
    (tmp_path / "other" / "train").mkdir()
    with pytest.raises(StudyError, match="test/ is missing.*here are train, val"):
        load_image_tree(tmp_path / "other")
    tree = write_tree(tmp_path / "broken")
    (tree / "train" / "cat" / "1.png").write_bytes(b"no image")
    with pytest.raises(StudyError, match="1.png is no image"):
        load_image_tree(tree)
    other = write_tree(tmp_path / "another")
    (other / "test" / "cat").rename(other / "test" / "cta")
    with pytest.raises(StudyError, match=r"train/ or test/ lacks .'cat', 'cta'."):
        load_image_tree(other)
    (other / "train" / "empty").mkdir()
    with pytest.raises(StudyError, match="train/empty has no images: add some, or remove it"):
        load_image_tree(other)
    for file in (other / "train/cat").iterdir():
        file.rename(file.with_suffix(".avif"))
    with pytest.raises(StudyError, match="train/cat has no images: convert train/cat/.*avif and"):
        load_image_tree(other)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"no archive", "cannot be read as a tar archive.*get it again"),
        (b"\x28\xb5\x2f\xfd", "is a Zstandard file: unpack it, or repack it as .zip or .tar.gz"),
        (b"7z\xbc\xaf\x27\x1c", "is a 7-Zip archive: unpack it"),
        (b"version https://git-lfs.github.com/spec/v1", "git lfs pull"),
        (b"PK\x03\x04 no zip", "cannot be read as a zip archive"),
    ],
)
def test_files_that_are_no_archive_are_told_what_to_do(tmp_path, content, message):
    (tmp_path / "data.tar").write_bytes(content)
    with pytest.raises(StudyError, match=message):
        load_image_tree(tmp_path / "data.tar")


def test_faults_of_an_archive_are_named(tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(StudyError, match="train/ is missing: data_dir.*here are no folders"):
        load_image_tree(pack(tmp_path / "empty", tmp_path / "empty.tar"))
    small = zipped(write_tree(tmp_path / "small", side=28), tmp_path / "small.zip")
    with pytest.raises(StudyError, match=r"train/cat/0.png is 28×28 pixels"):
        load_image_tree(small)
    content = bytearray(small.read_bytes())
    content[content.index(b"PK\x01\x02") + 8] |= 1  # the first entry of the directory
    small.write_bytes(content)
    with pytest.raises(StudyError, match="small.zip is encrypted: unpack it and name the folder"):
        load_image_tree(small)


@pytest.mark.parametrize("mode", [*MODES, "zip"])
def test_archive_that_is_cut_off_or_damaged_is_never_read_wrong(tmp_path, mode):
    tree = write_tree(tmp_path / "pets")
    path = tmp_path / "pets.tar"
    zipped(tree, path) if mode == "zip" else pack(tree, path, mode)
    whole, images = path.read_bytes(), list_tree(path).images
    places = np.linspace(0, len(whole) - 1, 40).astype(int)
    faulty = [whole[:cut] for cut in places]
    if mode not in ("w", "zip"):  # a plain archive has no check sums of contents, zip none of names
        faulty += [whole[:i] + bytes([whole[i] ^ 4]) + whole[i + 1 :] for i in places]
    for content in faulty:
        path.write_bytes(content)
        try:
            assert list_tree(path).images == images  # only padding, or a date in gzip's header
        except StudyError as error:
            assert "pets.tar" in str(error)


def test_damaged_header_in_a_plain_archive_is_found(tmp_path):
    path = pack(write_tree(tmp_path / "pets"), tmp_path / "pets.tar", "w")
    with tarfile.open(path) as archive:
        later = [member.offset for member in archive][3]
    content = bytearray(path.read_bytes())
    content[later] ^= 1
    path.write_bytes(content)
    with pytest.raises(StudyError, match=f"damaged at byte {later:,}"):
        read_archive(path)


def test_archives_that_grow_beyond_bounds_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("lib.data.archives.LARGEST", 2 * 2**20)
    with lzma.open(tmp_path / "bomb.tar.xz", "wb") as file:
        file.write(bytes(3 * 2**20))
    with zipfile.ZipFile(tmp_path / "bomb.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("train/cat/1.png", bytes(3 * 2**20))
    for name in ("bomb.tar.xz", "bomb.zip"):
        with pytest.raises(StudyError, match=f"{name} holds more than 2 MiB"):
            read_archive(tmp_path / name)
    monkeypatch.setattr("lib.data.archives.MOST", 50)
    tree = write_tree(tmp_path / "pets")
    for level in range(6):  # each folder holds the one before twice
        (tree / f"level{level}").mkdir()
        for name in ("a", "b"):
            below = f"../level{level - 1}" if level else "../train"
            (tree / f"level{level}" / name).symlink_to(below)
    with pytest.raises(StudyError, match="links multiply its files beyond 50"):
        read_archive(pack(tree, tmp_path / "pets.tar"))


def test_names_that_are_not_utf_8_are_refused(tmp_path):
    tree = write_tree(tmp_path / "pets")
    for split in ("train", "test"):
        os.rename(os.fsencode(tree / split / "cat"), os.fsencode(tree / split) + b"/caf\xe9")
    with pytest.raises(StudyError, match="not UTF-8: rename it"):
        list_tree(tree)
