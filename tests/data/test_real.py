"""The real data: digits, what data are called and known by, how many images it takes."""

import numpy as np
import pytest

from lib.common.errors import StudyError
from lib.common.files import ROOT
from lib.data.cifar10 import load_cifar10
from lib.data.real import load_digits_32, load_real, prepare_real, source_fingerprint
from lib.study.params import read_profile, validate
from lib.study.preflight import check_data
from tests.data.conftest import pack, write_tree

OPTIONS = {
    "data": "digits",
    "data_dir": "",
    "source": "",
    "name": "",
    "seed": 1,
    "test_images": 600,
}


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


def test_cifar10_that_cannot_be_had_says_where_to_put_it(tmp_path, monkeypatch):
    def offline(*args, **kwargs):
        raise OSError("no network")

    monkeypatch.setattr("torchvision.datasets.CIFAR10", offline)
    with pytest.raises(StudyError, match="put the folder cifar-10-batches-bin, the file cifar-10-"):
        load_cifar10(tmp_path)


def test_validation_images_that_are_too_many_or_a_large_share_are_named(tmp_path, capsys):
    with pytest.raises(StudyError, match="cannot hold out 1195 of 1197"):
        prepare_real(tmp_path, validation_images=1195, **OPTIONS)
    prepare_real(tmp_path, validation_images=500, **OPTIONS)
    assert "note: 500 of 1197 training images are held out" in capsys.readouterr().out
    prepare_real(tmp_path, validation_images=200, **OPTIONS)
    assert "held out" not in capsys.readouterr().out


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


def check(tree, **change):
    values = read_profile(ROOT / "params" / "tiny.yaml") | {"data": "imagefolder"}
    values |= {"data_dir": str(tree), "validation_images": 4, "calibration_per_class": 4}
    check_data(validate(values | change))


def test_numbers_of_images_are_checked_before_long_work(tmp_path):
    tree = write_tree(tmp_path / "pets", ("cat", "dog"), n=9)
    check(tree)
    for index in (6, 7, 8):
        (tree / "train" / "dog" / f"{index}.png").unlink()
    with pytest.raises(StudyError, match="class dog has 4 training images beside.*choose 4 or"):
        check(tree, calibration_per_class=5)
    with pytest.raises(StudyError, match="1 cannot be held out: choose between 2 .*and 13"):
        check(tree, validation_images=1)
    for index in range(1, 6):
        (tree / "train" / "dog" / f"{index}.png").unlink()
    with pytest.raises(StudyError, match="class dog has one training image"):
        check(tree)


def test_faults_of_an_image_are_found_before_long_work(tmp_path):
    with pytest.raises(StudyError, match="cat/0.png is 28×28"):
        check(pack(write_tree(tmp_path / "small", side=28), tmp_path / "small.tar"))
    with pytest.raises(StudyError, match=r"one class \(cat\): it takes two or more"):
        check(write_tree(tmp_path / "one", ("cat",)))
