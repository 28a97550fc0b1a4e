"""Made-up students with one fault each: the fault must be named, and no other."""

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter, zoom
from sklearn.linear_model import LogisticRegression

from lib.common.errors import StudyError
from lib.data.real import load_digits_32
from lib.data.samples import SampleSet
from lib.evaluation.diagnosis import Examined, examine, load_findings
from lib.evaluation.features import FeatureSet, first_per_class

NAMES = {
    "copies": "copies training images",
    "collapsed": "has collapsed",
    "narrow": "covers only a part of the real images",
    "labels": "labels do not match",
    "unreal": "does not look like the real images",
}


def small(images):
    """Features for digits: their pixels at 8×8."""
    return images[:, 0, 2::4, 2::4].reshape(len(images), -1).astype(np.float32) / 255


@pytest.fixture(scope="module")
def world():
    """Real train and test images, held-out ones that no set shares, and a judge of classes."""
    train, test = load_digits_32()
    train, held_out = train.subset(np.arange(600)), train.subset(np.arange(600, 1000))
    test = test.subset(np.arange(300))
    judge = LogisticRegression(max_iter=1000).fit(small(train.images), train.labels)
    return train, test, held_out, judge


def findings(world, folder, images, labels):
    """Examine images with these labels as the student."""
    train, test, _, judge = world
    images = np.clip(np.round(images), 0, 255).astype(np.uint8)
    student = SampleSet(images, labels.astype(np.int64), info=train.info)
    least = np.bincount(labels).min()
    student = first_per_class(student, least)
    samples, features = {}, {}
    for name, part in {"real train": train, "real test": test, "student": student}.items():
        samples[name], features[name] = folder / f"images {name}", folder / f"features {name}"
        part.save(samples[name])
        found = small(part.images)
        info = {"class_names": train.class_names, "extractor": "8×8", "resizing": "none"}
        FeatureSet(found, None, part.labels, judge.predict(found), info).save(features[name])
    examine(folder, samples=samples, features=features, per_class=least, neighbours=3)
    return load_findings(folder)["student"]


def copies(world, rng):
    chosen = rng.integers(0, len(world[0]), 400)
    return world[0].images[chosen], world[0].labels[chosen]


def noisy_copies(world, rng):
    images, labels = copies(world, rng)
    return images + rng.normal(0, 8, images.shape), labels


def a_third_copied(world, rng):
    (images, labels), held_out = copies(world, rng), world[2]
    return (
        np.concatenate([images[:130], held_out.images[:260]]),
        np.concatenate([labels[:130], held_out.labels[:260]]),
    )


def collapsed(world, rng, modes=1):
    labels = np.arange(400) % 10
    first = np.array([np.flatnonzero(world[2].labels == k)[:modes] for k in range(10)])
    return world[2].images[first[labels, rng.integers(0, modes, 400)]], labels


def five_modes(world, rng):
    return collapsed(world, rng, modes=5)


def collapsed_with_noise(world, rng):
    images, labels = collapsed(world, rng)
    return images + rng.normal(0, 5, images.shape), labels


def two_classes_collapsed(world, rng):
    images, labels = world[2].images.copy(), world[2].labels
    for label in (3, 7):
        images[labels == label] = images[labels == label][0]
    return images, labels


def typical(world, rng):
    """Images drawn half-way to the mean of their class."""
    images, labels = world[2].images.astype(float), world[2].labels
    means = np.array([images[labels == k].mean(axis=0) for k in range(10)])
    return (images + means[labels]) / 2, labels


def permuted(world, rng):
    return world[2].images, (world[2].labels + 3) % 10


def two_classes_exchanged(world, rng):
    return world[2].images, np.array([0, 1, 2, 7, 4, 5, 6, 3, 8, 9])[world[2].labels]


def shuffled(world, rng):
    return world[2].images, rng.permutation(world[2].labels)


def healthy(world, rng):
    return world[2].images, world[2].labels


def blurred(world, rng):
    return gaussian_filter(world[2].images.astype(float), (0, 0, 3, 3)), world[2].labels


def overlaid(world, rng):
    other = world[2].images[rng.permutation(len(world[2]))].astype(float)
    return (world[2].images + other) / 2, world[2].labels


def blobs(world, rng):
    coarse = rng.uniform(0, 255, (400, 1, 5, 5))
    return zoom(coarse, (1, 3, 6.4, 6.4), order=1), np.arange(400) % 10


@pytest.mark.parametrize(
    "student, faults",
    [
        (healthy, set()),
        (copies, {"copies"}),
        (noisy_copies, {"copies"}),
        (a_third_copied, {"copies"}),
        (collapsed, {"collapsed"}),
        (five_modes, {"collapsed"}),
        (collapsed_with_noise, {"collapsed"}),
        (two_classes_collapsed, {"collapsed"}),
        (typical, {"narrow"}),
        (permuted, {"labels"}),
        (two_classes_exchanged, {"labels"}),
        (shuffled, {"labels"}),
        (blobs, {"unreal"}),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_each_fault_is_exposed_by_its_name_alone(world, tmp_path, student, faults):
    found = findings(world, tmp_path, *student(world, np.random.default_rng(0)))
    assert {key for key, name in NAMES.items() if any(name in f for f in found)} == faults, found
    assert len(found) == len(faults)
    if student is two_classes_collapsed:
        assert "classes 3, 7" in found[0]
    if student is two_classes_exchanged:
        assert "classes 3, 7 renamed" in found[0]


@pytest.mark.parametrize("student", [blurred, overlaid])
def test_badly_made_images_get_no_wrong_name(world, tmp_path, student):
    found = findings(world, tmp_path, *student(world, np.random.default_rng(0)))
    fitting = (NAMES["unreal"], NAMES["narrow"])
    assert all(any(name in fault for name in fitting) for fault in found), found


def test_features_of_other_images_are_refused(world, tmp_path):
    images, labels = healthy(world, None)
    findings(world, tmp_path, images, labels)
    other = first_per_class(FeatureSet.load(tmp_path / "features student"), 3)
    other.save(tmp_path / "features real train")
    paths = ("real train", "real test", "student")
    with pytest.raises(StudyError, match="features real train are not of the images in"):
        examine(
            tmp_path,
            samples={name: tmp_path / f"images {name}" for name in paths},
            features={name: tmp_path / f"features {name}" for name in paths},
            per_class=5,
            neighbours=3,
        )


def test_large_sets_are_examined_class_by_class():
    labels = np.arange(100) % 10
    info = {"class_names": list("0123456789")}
    features = FeatureSet(np.zeros((100, 2), np.float32), None, labels, labels, info)
    some = Examined(np.zeros((100, 3, 32, 32), np.uint8), features).some(40)
    np.testing.assert_array_equal(np.bincount(some.features.labels), 4)
    assert len(some.images) == 40
