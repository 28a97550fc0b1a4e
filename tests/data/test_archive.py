import io
import lzma
import tarfile

import numpy as np
import pytest
from PIL import Image

from lib.common.errors import StudyError
from lib.common.files import ROOT
from lib.data.archive import read_archive
from lib.data.real import (
    load_image_tree,
    load_real,
    prepare_real,
    read_image,
    source_fingerprint,
)
from lib.study.params import read_profile, validate
from lib.study.preflight import check_data, class_folders
from tests.data.conftest import OPTIONS, write_tree


def pack(tree, target, mode="w:xz"):
    with tarfile.open(target, mode) as archive:
        for path in sorted(tree.rglob("*"), reverse=True):
            archive.add(path, f"./{path.relative_to(tree)}", recursive=False)
    return target


@pytest.mark.parametrize("mode", ["w", "w:gz", "w:bz2", "w:xz"])
def test_archive_holds_the_same_images_as_its_folder(tmp_path, mode):
    tree = write_tree(tmp_path / "pets")
    archive = pack(tree, tmp_path / "pets.tar.any", mode)
    for ours, theirs in zip(load_image_tree(archive), load_image_tree(tree), strict=True):
        np.testing.assert_array_equal(ours.images, theirs.images)
        np.testing.assert_array_equal(ours.labels, theirs.labels)
        assert ours.info == theirs.info == {"data": "pets", "class_names": ["cat", "dog"]}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["pets", "pets.tar.any"]


def test_data_are_called_by_the_name_that_is_given_and_known_by_their_content(tmp_path):
    tree = write_tree(tmp_path / "pets", n=9)
    first, second = (pack(tree, tmp_path / name) for name in ("a.tar.xz", "b.tar.xz"))
    named = {"data": "imagefolder", "data_dir": first, "name": "Pets (JPEG copy)"}
    prepare_real(tmp_path / "out", validation_images=4, **(OPTIONS | named))
    assert load_real(tmp_path / "out", "test").info["data"] == "Pets (JPEG copy)"
    known = source_fingerprint("imagefolder", first)
    assert known == source_fingerprint("imagefolder", second)
    pack(write_tree(tmp_path / "more", n=4), second)
    assert known != source_fingerprint("imagefolder", second)


def test_names_in_an_archive_never_become_paths(tmp_path):
    archive = tmp_path / "bad.tar"
    image = io.BytesIO()
    Image.new("RGB", (32, 32)).save(image, "PNG")
    with tarfile.open(archive, "w") as file:
        for name in ("train/cat/1.png", "../train/cat/2.png", "/train/dog/3.png"):
            info = tarfile.TarInfo(name)
            info.size = image.tell()
            file.addfile(info, io.BytesIO(image.getvalue()))
        link = tarfile.TarInfo("train/cat/passwd")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        file.addfile(link)
    assert {key: [n for n, _ in files] for key, files in read_archive(archive).items()} == {
        ("train", "cat"): ["1.png"]
    }


def test_faults_of_an_archive_are_named(tmp_path):
    (tmp_path / "text.tar").write_text("no archive")
    with pytest.raises(StudyError, match=r"text.tar cannot be read as a tar archive"):
        load_image_tree(tmp_path / "text.tar")
    (tmp_path / "empty").mkdir()
    with pytest.raises(StudyError, match="has no files train/<class>/<image>"):
        load_image_tree(pack(tmp_path / "empty", tmp_path / "empty.tar"))
    small = pack(write_tree(tmp_path / "small", side=28), tmp_path / "small.tar")
    with pytest.raises(StudyError, match=r"train/cat/0.png is 28×28 pixels"):
        load_image_tree(small)


@pytest.mark.parametrize("mode", ["w", "w:gz", "w:bz2", "w:xz"])
def test_archive_that_is_cut_off_or_damaged_is_never_read_wrong(tmp_path, mode):
    path = pack(write_tree(tmp_path / "pets"), tmp_path / "pets.tar", mode)
    whole, tree = path.read_bytes(), read_archive(path)
    places = np.linspace(0, len(whole) - 1, 40).astype(int)
    faulty = [whole[:cut] for cut in places]
    if mode != "w":  # a plain archive has no check sums of contents
        faulty += [whole[:i] + bytes([whole[i] ^ 4]) + whole[i + 1 :] for i in places]
    for content in faulty:
        path.write_bytes(content)
        try:
            assert read_archive(path) == tree  # only padding, or a date in gzip's header
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


def test_archive_that_grows_beyond_bounds_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("lib.data.archive.LARGEST", 2 * 2**20)
    with lzma.open(tmp_path / "bomb.tar.xz", "wb") as file:
        file.write(bytes(3 * 2**20))
    with pytest.raises(StudyError, match="bomb.tar.xz holds more than 2 MiB"):
        read_archive(tmp_path / "bomb.tar.xz")


def test_files_that_are_no_images_are_passed_over_alike(tmp_path):
    tree = write_tree(tmp_path / "pets")
    for name in (".DS_Store", "._0.png", "Thumbs.db", "notes.txt"):
        (tree / "train" / "cat" / name).write_text("no image")
    for source in (tree, pack(tree, tmp_path / "pets.tar.gz", "w:gz")):
        assert len(load_image_tree(source)[0]) == 6


def test_images_that_do_harm_are_refused(tmp_path):
    rows = b"P6 60000 60000 255\n"
    eps = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 32 32\n"
    for content in (rows, b"P6 32 x", eps, b""):
        with pytest.raises(StudyError, match="photo.png"):
            read_image(content, "photo.png")


def test_archive_is_checked_before_long_work(tmp_path):
    archive = pack(write_tree(tmp_path / "pets"), tmp_path / "pets.tar.xz")
    values = read_profile(ROOT / "params" / "tiny.yaml") | {"data": "imagefolder"}
    good = validate(values | {"data_dir": str(archive)})
    check_data(good)
    assert class_folders(good) == ["cat", "dog"]
    small = pack(write_tree(tmp_path / "small", side=28), tmp_path / "small.tar")
    with pytest.raises(StudyError, match="28×28"):
        check_data(validate(values | {"data_dir": str(small)}))
