"""The real data: digits, trees of images in folders and archives, what is wrong with them."""

import io
import lzma
import tarfile

import numpy as np
import pytest
from PIL import Image

from lib.common.errors import StudyError
from lib.common.files import ROOT
from lib.data.real import (
    load_digits_32,
    load_image_tree,
    load_real,
    prepare_real,
    read_archive,
    read_image,
    source_fingerprint,
)
from lib.study.params import read_profile, validate
from lib.study.preflight import check_data, class_folders

OPTIONS = {
    "data": "digits",
    "data_dir": "",
    "source": "",
    "name": "",
    "seed": 1,
    "test_images": 600,
}


def write_tree(folder, classes=("cat", "dog"), side=32, n=3):
    for split in ("train", "test"):
        for value, name in enumerate(classes):
            (folder / split / name).mkdir(parents=True)
            for index in range(n):
                pixel = (10 * value, index, 200)
                Image.new("RGB", (side, side), pixel).save(folder / split / name / f"{index}.png")
    return folder


def test_digits_are_all_there_in_three_disjoint_stratified_splits(tmp_path):
    prepare_real(tmp_path, validation_images=200, **OPTIONS)
    splits = {name: load_real(tmp_path, name) for name in ("train", "validation", "test")}
    assert [len(split) for split in splits.values()] == [997, 200, 600]
    for split in splits.values():
        share = np.bincount(split.labels) / len(split)
        assert np.abs(share - 0.1).max() < 0.01
    whole = sum(split.images.astype(np.int64).sum() for split in splits.values())
    train, test = load_digits_32()
    assert whole == train.images.astype(np.int64).sum() + test.images.astype(np.int64).sum()


def test_test_split_is_fixed_and_validation_follows_the_seed(tmp_path):
    for seed in (1, 2):
        prepare_real(tmp_path / str(seed), validation_images=200, **(OPTIONS | {"seed": seed}))
    first, second = ([load_real(tmp_path / s, n) for n in ("validation", "test")] for s in "12")
    np.testing.assert_array_equal(first[1].images, second[1].images)
    assert not np.array_equal(first[0].images, second[0].images)


def test_image_folder_is_read_with_its_class_names(tmp_path):
    train, test = load_image_tree(write_tree(tmp_path / "pets"))
    assert train.class_names == ["cat", "dog"]
    assert train.info["data"] == "pets"
    np.testing.assert_array_equal(train.images[4, :, 0, 0], [10, 1, 200])
    np.testing.assert_array_equal(test.labels, [0, 0, 0, 1, 1, 1])


def test_faults_of_an_image_folder_are_named(tmp_path):
    with pytest.raises(StudyError, match="train is missing"):
        load_image_tree(tmp_path / "nowhere")
    with pytest.raises(StudyError, match="28×28 pixels.*resize"):
        load_image_tree(write_tree(tmp_path / "small", side=28))
    tree = write_tree(tmp_path / "broken")
    (tree / "train" / "cat" / "1.png").write_bytes(b"no image")
    with pytest.raises(StudyError, match="1.png cannot be read"):
        load_image_tree(tree)
    other = write_tree(tmp_path / "other")
    (other / "test" / "cat").rename(other / "test" / "cta")
    with pytest.raises(StudyError, match=r"train/ or test/ lacks .cat, cta."):
        load_image_tree(other)
    one = write_tree(tmp_path / "one", classes=("cat",))
    with pytest.raises(StudyError, match=r"one class \(cat\)"):
        options = OPTIONS | {"data": "imagefolder", "data_dir": str(one)}
        prepare_real(tmp_path / "out", validation_images=2, **options)


def test_cifar10_that_cannot_be_had_says_where_to_put_it(tmp_path, monkeypatch):
    def offline(*args, **kwargs):
        raise OSError("no network")

    monkeypatch.setattr("torchvision.datasets.CIFAR10", offline)
    with pytest.raises(StudyError, match="put the folder cifar-10-batches-py"):
        source_fingerprint("cifar10", tmp_path)


def test_validation_images_that_are_too_many_or_a_large_share_are_named(tmp_path, capsys):
    with pytest.raises(StudyError, match="cannot hold out 1195 of 1197"):
        prepare_real(tmp_path, validation_images=1195, **OPTIONS)
    prepare_real(tmp_path, validation_images=500, **OPTIONS)
    assert "note: 500 of 1197 training images are held out" in capsys.readouterr().out
    prepare_real(tmp_path, validation_images=200, **OPTIONS)
    assert "held out" not in capsys.readouterr().out


def test_source_fingerprint_follows_the_content(tmp_path):
    tree = write_tree(tmp_path / "pets")
    before = source_fingerprint("imagefolder", str(tree))
    assert before == source_fingerprint("imagefolder", str(tree))
    Image.new("RGB", (32, 32)).save(tree / "train" / "cat" / "1.png")
    assert before != source_fingerprint("imagefolder", str(tree))


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
    monkeypatch.setattr("lib.data.real.LARGEST", 2 * 2**20)
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
