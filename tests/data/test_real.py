import numpy as np
import pytest
from PIL import Image

from lib.common.errors import StudyError
from lib.data.real import (
    load_digits_32,
    load_image_tree,
    load_real,
    prepare_real,
    source_fingerprint,
)
from tests.data.conftest import OPTIONS, write_tree


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
