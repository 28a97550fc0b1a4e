"""Calibration sets: balance, order, determinism, errors, and what a new kind needs."""

import numpy as np
import pytest

from lib.calibration.kinds import KINDS, Kind
from lib.calibration.makers import MID_GREY
from lib.calibration.photographs import FILES, photograph_crops
from lib.calibration.sets import balanced_order, make_calibration_set
from lib.calibration.sources import check_generators, further_samples, sample_generator
from lib.common.errors import StudyError
from lib.common.files import ROOT
from lib.common.seeds import derive_seed
from lib.comparison.models import set_name
from lib.data.samples import SampleSet
from lib.publish.cards import render_card
from lib.publish.sets import data_card
from lib.study.params import read_profile, validate

NAMES = ["ant", "bee", "cat"]
SHARED = [kind.name for kind in KINDS.values() if not kind.per_network and not kind.drawn]
BALANCED = sorted(set(SHARED) - {"one_class"})


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """A sorted SampleSet of 3 × 30 images with dark reds and bright blues."""
    rng = np.random.default_rng(0)
    mean = np.array([60, 120, 180])[:, None, None]
    images = np.clip(rng.normal(mean, 25, (90, 3, 32, 32)), 0, 255).astype(np.uint8)
    info = {"data": "insects", "class_names": NAMES}
    folder = tmp_path_factory.mktemp("source")
    SampleSet(images, np.repeat(np.arange(3), 30), info=info).save(folder)
    return folder


def make(out, kind, source, per_class=10, seed=0):
    source = source if KINDS[kind].needs else None
    make_calibration_set(
        out, kind=kind, per_class=per_class, seed=seed, source=source, class_names=NAMES
    )
    return SampleSet.load(out)


@pytest.mark.parametrize("kind", BALANCED)
def test_every_prefix_is_balanced(kind, source, tmp_path):
    samples = make(tmp_path, kind, source)
    assert len(samples) == 30 and samples.class_names == NAMES
    assert samples.info["kind"] == kind
    for n in range(1, 31):
        counts = np.bincount(samples.labels[:n], minlength=3)
        assert np.ptp(counts) <= 1
    assert samples.labels.tolist() != sorted(samples.labels)


@pytest.mark.parametrize("kind", sorted(set(SHARED) - {"grey"}))
def test_the_seed_decides(kind, source, tmp_path):
    first = make(tmp_path / "a", kind, source, seed=1)
    again = make(tmp_path / "b", kind, source, seed=1)
    other = make(tmp_path / "c", kind, source, seed=2)
    files = [sorted((tmp_path / name).iterdir()) for name in "ab"]
    assert [f.read_bytes() for f in files[0]] == [f.read_bytes() for f in files[1]]
    assert np.array_equal(first.images, again.images)
    assert not np.array_equal(first.images, other.images)


@pytest.mark.parametrize("kind", ["real", "teacher", "student", "one_class"])
def test_drawn_sets_hold_source_images_once_each(kind, source, tmp_path):
    samples = make(tmp_path, kind, source)
    known = SampleSet.load(source)
    known = {i.tobytes(): label for i, label in zip(known.images, known.labels, strict=True)}
    drawn = [image.tobytes() for image in samples.images]
    assert len(set(drawn)) == len(drawn) == 30
    assert [known[image] for image in drawn] == samples.labels.tolist()
    if kind == "one_class":
        assert set(samples.labels) == {0}


def test_gaussian_has_the_statistics_of_its_source(source, tmp_path):
    found, expected = make(tmp_path, "gaussian", source, per_class=30), SampleSet.load(source)
    for statistic in (np.mean, np.std):
        pair = (statistic(samples.images, axis=(0, 2, 3)) for samples in (found, expected))
        np.testing.assert_allclose(*pair, atol=1)


def test_noise_is_uniform_and_grey_is_grey(source, tmp_path):
    noise = make(tmp_path / "noise", "noise", source).images
    counts = np.bincount(noise.ravel(), minlength=256)
    assert counts.min() > 0.7 * counts.mean() and counts.max() < 1.3 * counts.mean()
    assert (make(tmp_path / "grey", "grey", source).images == MID_GREY).all()


def test_too_few_images_are_named(source, tmp_path):
    with pytest.raises(StudyError, match=r"student.*30 images of class 'ant', 31 are wanted"):
        make(tmp_path, "student", source, per_class=31)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "kind, message",
    [
        ("dream", "'dream' is unknown.*real"),
        ("zeroq", "zeroq is made for each network"),
        ("teacher", "teacher needs a source"),
        ("noise", "noise needs class_names"),
    ],
)
def test_wrong_requests_are_named(kind, message, tmp_path):
    with pytest.raises(StudyError, match=message):
        make_calibration_set(tmp_path, kind=kind, per_class=2, seed=0)


def test_a_new_kind_is_one_entry(monkeypatch, tmp_path):
    black = Kind(
        name="black",
        colour="#000000",
        description="Images without light.",
        make=lambda request: (np.zeros((request.total, 3, 32, 32), np.uint8), request.labels()),
        origin="code",
        labelled=False,
        control=True,
    )
    monkeypatch.setitem(KINDS, "black", black)
    values = read_profile(ROOT / "params" / "tiny.yaml") | {"calibration_sets": ["real", "black"]}
    params = validate(values)
    assert params.calibration_sets == ["real", "black"] and black.inputs == {}
    samples = make(tmp_path / "calibration-black", "black", None)
    assert samples.images.max() == 0 and samples.info["kind"] == "black"
    entry = {"builder": "b", "options": {}, "inputs": {}}
    entry["made_with"] = {"git_revision": "r", "versions": {}, "cpu": "c"}
    name = "calibration-black"
    card = data_card(samples, tmp_path / name, name, entry, params)
    assert "made by the study's code alone" in card["licence"]
    text = render_card("set.md.j2", **card)
    assert "Images without light." in text and "show no classes" in text
    assert set_name("black") == "black"


def test_every_kind_has_a_title_and_a_colour_of_its_own():
    for what in ("title", "colour", "description"):
        assert len({getattr(kind, what) for kind in KINDS.values()}) == len(KINDS)
    assert [name for name, kind in KINDS.items() if kind.drawn and not kind.is_dose] == [
        "student_original", "student_b", "student_c", "teacher_early"
    ]  # fmt: skip


def test_spoilt_images_are_those_of_the_data_less_good(source, tmp_path):
    known = SampleSet.load(source).images.astype(float)
    flat, dark, blurred = (
        make(tmp_path / kind, f"real_{kind}", source).images.astype(float)
        for kind in ("flat", "dark", "blurred")
    )
    assert flat.std() == pytest.approx(0.3 * known.std(), rel=0.1)
    assert dark.mean() == pytest.approx(0.25 * known.mean(), rel=0.05)
    assert np.diff(blurred).std() < 0.5 * np.diff(known).std()
    assert blurred.mean() == pytest.approx(known.mean(), rel=0.05)


def test_the_mixed_set_is_half_fractals(source, tmp_path):
    known = {image.tobytes() for image in SampleSet.load(source).images}
    mixed = make(tmp_path, "student_fractal", source)
    drawn = np.array([image.tobytes() in known for image in mixed.images])
    assert [drawn[mixed.labels == label].sum() for label in range(3)] == [5, 5, 5]


def test_photographs_and_fractals_are_half_and_half_in_each_class(source, tmp_path):
    mixed = make(tmp_path, "photographs_fractal", source)
    crops = photograph_crops(30, derive_seed(0, "calibration", "photographs_fractal"))
    cut = np.isin([image.tobytes() for image in mixed.images], [crop.tobytes() for crop in crops])
    assert [cut[mixed.labels == label].sum() for label in range(3)] == [5, 5, 5]


def test_photographs_are_cut_alike_at_any_size():
    few, many = photograph_crops(3, seed=1), photograph_crops(20, seed=1)
    assert np.array_equal(few, many[:3]) and many.shape == (20, 3, 32, 32)
    assert sum(map(len, FILES.values())) == 9
    large = photograph_crops(3, seed=1, side=224)
    small = large.reshape(3, 3, 32, 7, 32, 7).mean(axis=(3, 5))
    assert np.abs(small - few).mean() < 6 < np.abs(small - few[::-1]).mean()


def test_further_generators_are_found_and_named(tmp_path):
    moments = tmp_path / "moments"
    moments.mkdir()
    for kimg in range(16):
        (moments / f"{kimg**2:05}.safetensors").touch()
    where = {"files": {}, "per_class": 5, "seed": 1, "folder": lambda name: tmp_path}
    plan = further_samples(KINDS["student_4"], **where)
    assert plan["inputs"] == {"weights": "student/moments/00016.safetensors"}
    plan = further_samples(KINDS["teacher_60"], **where)
    assert plan["options"] == {"per_class": 5, "seed": 1, "truncation": 0.6}
    with pytest.raises(StudyError, match="student_b draws from a generator of its own: name the"):
        check_generators(["real", "student_b"], {})
    with pytest.raises(StudyError, match="none.safetensors"):
        check_generators(["student_b"], {"student_b": str(tmp_path / "none.safetensors")})
    check_generators(["student_4"], {})
    with pytest.raises(StudyError, match="student_4 draws from a generator of its own"):
        check_generators(["student_4"], {}, student="weights.safetensors")
    changed = tmp_path / "weights.safetensors"
    changed.write_bytes(b"other")
    given = where | {"files": {"student_4": str(changed)}}
    plan = further_samples(KINDS["student_4"], **given)  # a file comes before the moment
    assert plan["run_options"] == {"weights": changed}
    with pytest.raises(StudyError, match="changed since its hash"):
        sample_generator(tmp_path / "out", weights=changed, per_class=1, seed=0, sha256="0" * 64)


def test_balanced_order_is_a_permutation_even_of_unequal_classes():
    labels = np.array([0] * 7 + [1] * 2 + [2] * 4)
    order = balanced_order(labels, seed=3)
    assert sorted(order) == list(range(13))
    assert sorted(labels[order[:3]]) == [0, 1, 2] and sorted(labels[order[3:6]]) == [0, 1, 2]
    assert not np.array_equal(order, balanced_order(labels, seed=4))
