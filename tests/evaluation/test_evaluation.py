import shutil

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from lib.app.requests import interpolate
from lib.classifiers.build import build_classifier
from lib.classifiers.options import ClassifierOptions
from lib.common.errors import StudyError
from lib.common.files import ROOT
from lib.common.tensors import save_weights
from lib.data.samples import SampleSet
from lib.evaluation import extractors
from lib.evaluation.accuracy_score import classification_accuracy_scores
from lib.evaluation.copying import copy_ratios
from lib.evaluation.diversity import distinct_share, nearest_spacing, pairwise_distance
from lib.evaluation.extractors import Extractor, extract, inception_extractor, open_extractor
from lib.evaluation.features import FeatureSet, extract_features, first_per_class
from lib.evaluation.frechet import frechet_distance
from lib.evaluation.tables import comparisons, evaluate
from lib.evaluation.truncation import truncation_curve
from lib.study.params import read_profile
from lib.study.study import Study
from lib.teacher.sampling import load_teacher
from lib.teacher.source import adopt_teacher

OPTIONS = {"kid_subset_size": 20, "kid_subsets": 3, "neighbours": 3, "groups": 4}
OPTIONS |= {"confidence": 0.9, "seed": 1}


def samples(n=40, classes=2, seed=0):
    rng = np.random.default_rng(seed)
    images = rng.integers(0, 256, (n, 3, 32, 32), dtype=np.uint8)
    return SampleSet(images, np.arange(n) % classes, info={"class_names": ["cat", "dog"]})


def feature_set(n, seed, logits=True, extractor="a"):
    rng = np.random.default_rng(seed)
    drawn = rng.normal(size=(n, 2)).astype(np.float32) if logits else None
    labels = np.arange(n) % 2
    info = {"extractor": extractor, "resizing": "none", "class_names": ["cat", "dog"]}
    return FeatureSet(rng.normal(size=(n, 5)).astype(np.float32), drawn, labels, labels, info)


@pytest.fixture
def evaluator(tmp_path):
    torch.manual_seed(0)
    config = {"name": "resnet20_x0_5", "num_classes": 2, "mean": [0.5] * 3, "std": [0.5] * 3}
    network = build_classifier("resnet20_x0_5", 2)
    save_weights(tmp_path / "evaluator/classifier.safetensors", network, config)
    return tmp_path / "evaluator"


def save_sets(folder, sets):
    for name, features in sets.items():
        features.save(folder / name)
    return {name: folder / name for name in sets}


def test_features_are_kept_with_what_must_be_stated(tmp_path, evaluator):
    samples().save(tmp_path / "set")
    extract_features(tmp_path, samples=tmp_path / "set", evaluator=evaluator, per_class=5)
    found = FeatureSet.load(tmp_path)
    assert found.features.shape == (10, 32)
    assert found.info["extractor"] == "resnet20_x0_5 trained on real train, 32 features"
    assert found.info["resizing"] == "none (32×32)"
    np.testing.assert_array_equal(found.predicted, found.logits.argmax(1))
    chosen = first_per_class(samples(), 5)
    features, _ = extract(open_extractor("classifier", evaluator), chosen.images, batch_size=3)
    np.testing.assert_allclose(features, found.features, rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(found.first(2).features, found.features[:4])


def test_features_of_the_real_images_serve_a_second_evaluation(tmp_path, evaluator, monkeypatch):
    taken = []
    count = lambda *given, desc, **more: taken.append(desc) or extract(*given, **more)  # noqa: E731
    monkeypatch.setattr("lib.evaluation.features.extract", count)
    monkeypatch.setattr("lib.study.study.code_fingerprint", lambda build: "code")
    profile = read_profile(ROOT / "params" / "tiny.yaml") | {"output_dir": str(tmp_path / "out")}
    study = Study.open("03_evaluation", profile)

    def take(name, source):
        study.make(name, copytree_into, options={"source": source})
        study.make("evaluator", copytree_into, options={"source": str(evaluator)})
        inputs = {"samples": name, "evaluator": "evaluator"}
        study.make(f"features-{name}", extract_features, inputs=inputs)

    for seed in (1, 2):  # another student, the same real images
        samples(seed=seed).save(tmp_path / f"student {seed}")
        samples(seed=0).save(tmp_path / "real")
        take("real", str(tmp_path / "real"))
        take("student", str(tmp_path / f"student {seed}"))
    assert taken == ["features of real", "features of student", "features of student"]


def copytree_into(out, source):
    shutil.copytree(source, out, dirs_exist_ok=True)


def test_any_module_may_be_hooked_in():
    class Means(nn.Module):
        def forward(self, images):
            return images.float().mean(dim=(2, 3))

    features, logits = extract(Extractor("means", "none", Means().eval()), samples().images, 7)
    assert logits is None
    np.testing.assert_allclose(features, samples().images.mean(axis=(2, 3)), rtol=1e-5)
    with pytest.raises(StudyError, match="means is in training mode"):
        extract(Extractor("means", "none", Means()), samples().images)


@pytest.mark.parametrize(
    "given, message",
    [
        (lambda x: x.float(), r"must give features \(n, d\)"),
        (lambda x: torch.full((len(x), 2), torch.nan), "gives NaN or infinity"),
        (lambda x: torch.zeros(1, 2), r"must give features \(n, d\)"),
    ],
)
def test_unfit_modules_are_named(given, message):
    class Odd(nn.Module):
        def forward(self, images):
            return given(images)

    with pytest.raises(StudyError, match=f"extractor odd.*{message}"):
        extract(Extractor("odd", "none", Odd().eval()), samples().images)


def test_inception_weights_are_checked_before_they_are_opened(tmp_path, monkeypatch):
    (tmp_path / "weights.pth").write_bytes(b"not the weights")
    with pytest.raises(StudyError, match="weights.pth has SHA-256 .*, expected 6726825d"):
        inception_extractor(weights=tmp_path / "weights.pth")
    monkeypatch.setattr(extractors, "URL_INCEPTION_V3", "http://127.0.0.1:9/weights.pth")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    with pytest.raises(StudyError, match="put the file at .*weights.pth"):
        inception_extractor()


def test_each_set_is_compared_and_every_row_says_with_what(tmp_path):
    sets = {
        "real train": feature_set(60, 0),
        "real test": feature_set(40, 1),
        "teacher": feature_set(50, 2),
        "student": feature_set(50, 3),
    }
    evaluate(tmp_path, features=save_sets(tmp_path, sets), **OPTIONS)
    table = pd.read_csv(tmp_path / "metrics.csv")
    assert list(zip(table["set"], table["against"], strict=True)) == comparisons(list(sets))
    assert ("student", "teacher") in comparisons(list(sets))
    assert table["n_against"].tolist() == [60, 60, 40, 60, 40, 50]
    assert not table[["class", "n", "extractor", "resizing", "is_mean"]].isna().any().any()
    row = table.iloc[1]
    expected = frechet_distance(sets["teacher"].features, sets["real train"].features)
    assert row["fid"] == pytest.approx(expected, rel=1e-5)
    per_class = pd.read_csv(tmp_path / "per_class.csv")
    dogs = per_class[per_class["class"] == "dog"].iloc[1]
    expected = frechet_distance(sets["teacher"].features[1::2], sets["real train"].features[1::2])
    assert dogs["n"] == 25
    assert dogs["fid"] == pytest.approx(expected, rel=1e-5)
    assert "is_mean" not in per_class


def test_a_class_of_few_images_leaves_its_figures_out(tmp_path):
    few = feature_set(40, 1)
    few = few.at(np.flatnonzero((few.labels == 0) | (np.arange(40) < 4)))
    sets = {"real train": feature_set(60, 0), "real test": few, "teacher": feature_set(50, 2)}
    evaluate(tmp_path, features=save_sets(tmp_path, sets), **OPTIONS)
    table = pd.read_csv(tmp_path / "per_class.csv").set_index(["set", "against", "class"])
    assert np.isnan(table.loc[("real test", "real train", "dog"), "fid"])
    assert table.loc[("real test", "real train", "dog"), "n"] == 2
    assert table.loc[("real test", "real train", "cat"), "fid"] > 0


@pytest.mark.parametrize(
    "names, extractor, message",
    [
        (("real train", "teacher"), "a", "features of real test are missing"),
        (("real train", "real test"), "a", "features of a set to judge are missing"),
        (("real train", "real test", "teacher"), "b", "differ in extractor"),
    ],
)
def test_sets_that_cannot_be_compared_are_refused(tmp_path, names, extractor, message):
    sets = {name: feature_set(20, 0) for name in names[:-1]}
    sets[names[-1]] = feature_set(20, 0, extractor=extractor)
    with pytest.raises(StudyError, match=message):
        evaluate(tmp_path, features=save_sets(tmp_path, sets), **OPTIONS)


def test_first_per_class_takes_the_first_of_each():
    labels = np.array([0, 1, 1, 0, 1, 0])
    images = np.arange(6, dtype=np.uint8)[:, None, None, None] * np.ones((1, 3, 32, 32), np.uint8)
    both = SampleSet(images, labels, info={"class_names": ["a", "b"]})
    chosen = first_per_class(both, 2)
    np.testing.assert_array_equal(chosen.images[:, 0, 0, 0], [0, 1, 2, 3])
    with pytest.raises(StudyError, match="class a has 3 samples, 4 wanted"):
        first_per_class(both, 4)


def test_diversity_by_hand():
    points = np.array([[0.0, 0], [3, 4], [0, 0.1]])
    expected = (5 + 0.1 + np.hypot(3, 3.9)) / 3
    assert pairwise_distance(points) == pytest.approx(expected)
    assert nearest_spacing(points) == pytest.approx(0.1)
    assert distinct_share(points, 0.2) == pytest.approx(2 / 3)
    assert distinct_share(points, 0.05) == 1


def test_copy_ratio_is_relative_to_the_spacing_there():
    training = np.array([[0.0], [1], [100], [110]])
    np.testing.assert_allclose(
        copy_ratios(np.array([[0.25], [97.5], [0]]), training), [0.25, 0.25, 0]
    )
    wide = np.arange(0, 250, 10, np.uint8)[:, None] * np.ones(3, np.uint8)
    pair = wide[3:5] + np.uint8(2), wide
    np.testing.assert_allclose(copy_ratios(*pair), copy_ratios(*(x.astype(float) for x in pair)))
    twins = np.array([[0.0], [0], [10], [30], [60]])
    assert np.isfinite(copy_ratios(np.array([[1.0]]), twins)).all()


def test_interpolation_keeps_the_length_and_meets_its_ends():
    start, end = np.array([3.0, 0, 0]), np.array([0, 4.0, 0])
    path = interpolate(start, end, 5)
    np.testing.assert_allclose(path[[0, -1]], [start, end], atol=1e-6)
    np.testing.assert_allclose(np.linalg.norm(path, axis=1), [3, 3.25, 3.5, 3.75, 4], rtol=1e-6)
    np.testing.assert_allclose(interpolate(start, -start, 3)[1], 0, atol=1e-6)
    with pytest.raises(StudyError, match="cannot interpolate"):
        interpolate(start, end[:2], 5)


def test_accuracy_score_learns_from_separable_images_and_not_from_wrong_labels(tmp_path):
    def plain(n, exchange=False):
        labels = np.arange(n) % 2
        shade = np.where(labels == 1, 220, 30).astype(np.uint8)
        images = np.broadcast_to(shade[:, None, None, None], (n, 3, 32, 32)).copy()
        return SampleSet(images, labels[::-1].copy() if exchange else labels, info=samples().info)

    sets = {"good": plain(48), "exchanged": plain(48, exchange=True)}
    for name, part in (sets | {"test": plain(30)}).items():
        part.save(tmp_path / name)
    classification_accuracy_scores(
        tmp_path / "out",
        sets={name: tmp_path / name for name in sets},
        test=tmp_path / "test",
        per_class=20,
        confidence=0.95,
        name="resnet20_x0_5",
        seed=1,
        options=ClassifierOptions(
            batch_size=4, learning_rate=0.02, weight_decay=0, augment_shift=0, label_smoothing=0
        ),
    )
    table = pd.read_csv(tmp_path / "out" / "scores.csv").set_index("trained on")
    assert table["n"].tolist() == [40, 40]
    assert table.loc["good", "score"] == 1
    assert table.loc["exchanged", "score"] == 0
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["scores.csv"]


def test_truncation_curve_narrows_the_teacher(tmp_path, evaluator):
    pickle = ROOT / "tests" / "fixtures" / "stylegan2" / "tiny_p4.pkl"
    names = [str(k) for k in range(load_teacher(pickle).c_dim)]
    (tmp_path / "teacher").mkdir()
    about = {"class_names": names, "data": "nothing", "origin": "file", "sha256": ""}
    adopt_teacher(tmp_path / "teacher", source=pickle, **about)
    real = feature_set(60, 0)
    real = FeatureSet(
        np.random.default_rng(0).normal(size=(60, 32)).astype(np.float32),
        None,
        np.arange(60) % len(names),
        np.arange(60) % len(names),
        real.info | {"class_names": names},
    )
    real.save(tmp_path / "real")
    truncation_curve(
        tmp_path / "out",
        teacher=tmp_path / "teacher" / "teacher.safetensors",
        evaluator=evaluator,
        real=tmp_path / "real",
        psis=[0.0, 1.0],
        per_class=6,
        extractor="classifier",
        noise_mode="const",
        latent_distribution="normal",
        batch_size=8,
        **OPTIONS,
    )
    table = pd.read_csv(tmp_path / "out" / "truncation.csv")
    assert table["psi"].tolist() == [0, 1]
    assert table["diversity"][0] < 0.1 * table["diversity"][1]
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["truncation.csv"]
