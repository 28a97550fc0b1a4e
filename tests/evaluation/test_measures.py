"""FID, KID, IS, precision and recall: by torch-fidelity and by hand; intervals; the tables."""

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import stats
from torch_fidelity.metric_fid import fid_features_to_statistics, fid_statistics_to_metric
from torch_fidelity.metric_isc import isc_features_to_metric
from torch_fidelity.metric_kid import kid_features_to_metric
from torch_fidelity.metric_prc import prc_features_to_metric

from lib.common.errors import StudyError
from lib.evaluation import distances, measures
from lib.evaluation.distances import (
    Moments,
    frechet_distance,
    frechet_estimate,
    jackknife,
    kernel_estimate,
)
from lib.evaluation.measures import evaluate, fidelity, inception_score
from lib.evaluation.neighbours import precision_recall
from tests.evaluation.conftest import OPTIONS, draw, feature_set, save_sets


def figures(features, reference, logits=None):
    logits = draw(len(features), 10) if logits is None else logits
    return fidelity(features, reference, logits, **OPTIONS | {"groups": 10})


@pytest.mark.parametrize("scale", [1e-4, 1.0, 1e5, 10.0 ** np.linspace(-5, 3, 96)])
@pytest.mark.parametrize("n, m, d", [(500, 300, 16), (400, 400, 64), (40, 60, 96), (30, 500, 64)])
def test_fid_is_that_of_torch_fidelity(n, m, d, scale):
    mix, scale = draw(d, d, seed=2), np.broadcast_to(scale, 96)[:d]
    features, reference = scale * (draw(n, d) @ mix + 0.1), scale * (draw(m, d, seed=1) @ mix.T)
    pair = [fid_features_to_statistics(torch.from_numpy(part)) for part in (features, reference)]
    expected = fid_statistics_to_metric(*pair, verbose=False)["frechet_inception_distance"]
    assert frechet_distance(features, reference) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("n, d", [(500, 16), (12, 64), (2, 8), (300, 2)])
def test_a_set_has_no_fid_to_itself(n, d):
    features = 100 * draw(n, d) + 1000
    assert 0 <= frechet_distance(features, features) < 1e-6


def test_fid_of_shifted_normals_is_the_squared_shift():
    first = draw(20000, 2)
    assert frechet_distance(first, first + 3) == pytest.approx(18, rel=1e-9)


def test_moments_taken_piece_by_piece_are_those_of_the_whole(monkeypatch):
    monkeypatch.setattr(distances, "ROWS", 13)
    features = draw(50, 6) + 5
    found = Moments.of(features)
    assert found.n == 50
    np.testing.assert_allclose(found.mean, features.mean(axis=0))
    np.testing.assert_allclose(found.root.T @ found.root, np.cov(features.T))


def left_out(first, second, groups=20):
    """The standard error of FID by leaving out groups and decomposing again."""

    def distance(kept):
        left = [side[np.isin(np.arange(len(side)) % groups, kept)] for side in (first, second)]
        return [frechet_distance(*left)]

    [(value, _, high)] = jackknife(distance, groups)
    return (high - value) / 2.093024  # t with 19 degrees of freedom


@pytest.mark.parametrize("n, m, d", [(400, 300, 8), (250, 400, 64), (60, 300, 64), (60, 60, 96)])
def test_fid_interval_is_that_of_the_exact_jackknife(n, m, d):
    """Also of fewer images than features. A group jackknife's own error has a relative sd of 16 %,
    so that it is averaged over sets."""
    mix, errors = draw(d, d, seed=9) / np.sqrt(d), []
    for seed in range(12):
        pair = draw(n, d, 0.1, seed) @ mix, draw(m, d, 0, seed + 50)
        found = frechet_estimate(*pair)
        errors.append([(found["fid_high"] - found["fid"]) / 1.959964, left_out(*pair)])
    own, exact = np.square(errors).mean(axis=0) ** 0.5
    assert own == pytest.approx(exact, rel=0.15)


def test_fid_interval_of_few_skewed_images_errs_on_the_wide_side():
    """Features as after a rectifier, of a falling spectrum; fewer images than features."""
    mix = draw(128, 128, seed=9) * np.arange(1, 129)[:, None] ** -0.5
    errors = []
    for seed in range(12):
        sets = draw(50, 128, 0, seed), draw(200, 128, 0, seed + 50)
        pair = [np.logaddexp(0, 0.6 * part @ mix - 1) for part in sets]
        found = frechet_estimate(*pair)
        errors.append([(found["fid_high"] - found["fid"]) / 1.959964, left_out(*pair)])
    own, exact = np.square(errors).mean(axis=0) ** 0.5
    assert 1 < own / exact < 1.5


def test_fid_interval_is_that_of_leaving_out_each_image():
    pair = draw(120, 6, 0.2), 1.3 * draw(120, 6, seed=1)
    found = frechet_estimate(*pair)
    own = [
        jackknife(lambda kept, side=side: [frechet_distance(*side(kept))], 120)[0]
        for side in (lambda k: (pair[0][k], pair[1]), lambda k: (pair[0], pair[1][k]))
    ]
    reach = np.hypot(*[high - value for value, _, high in own]) / stats.t.ppf(0.975, 119)
    assert found["fid_high"] - found["fid"] == pytest.approx(1.959964 * reach, rel=0.05)


@pytest.mark.parametrize("n, d, widest", [(200, 20, 1.4), (90, 40, 1.6), (30, 40, 1.6)])
def test_intervals_are_as_wide_as_the_spread_of_new_sets_or_wider(n, d, widest):
    found = pd.DataFrame(
        frechet_estimate(1.2 * draw(n, d, 0, k) + 0.1, draw(n, d, 0, k + 200)) for k in range(100)
    )
    infinite = n // 2 > d
    for name in ("fid", "fid_infinite")[: 1 + infinite]:
        width = (found[f"{name}_high"] - found[name]).mean() / 1.959964
        assert 0.8 < width / found[name].std() < widest, name
    if infinite:
        truth = d * (0.1**2 + 0.2**2)
        left, bias = (found[name].mean() - truth for name in ("fid_infinite", "fid"))
        assert abs(left) < 0.05 * bias


def test_extrapolation_takes_most_of_the_bias_away():
    """True distance of N(0, I) and N(0.1, 1.2² I) in 20 dimensions: 20 (0.1² + 0.2²) = 1."""
    estimates = pd.DataFrame(
        {"n": n} | frechet_estimate(1.2 * draw(n, 20, 0, k) + 0.1, draw(n, 20, 0, k + 50), seed=k)
        for n in (240, 720)
        for k in range(3)
    )
    means = estimates.groupby("n").mean() - 1
    assert means.loc[240, "fid"] > 1 and means.loc[720, "fid"] > 0.3
    assert means["fid_infinite"].abs().max() < 0.15
    inside = estimates["fid_infinite_low"].lt(1) & estimates["fid_infinite_high"].gt(1)
    assert inside.sum() >= 4


def test_too_few_images_to_extrapolate_leave_fid_alone():
    found = frechet_estimate(draw(40, 32), draw(60, 32, seed=1))
    assert np.isnan([found["fid_infinite"], found["fid_infinite_high"]]).all()
    assert found["fid_low"] < found["fid"] < found["fid_high"]
    smallest = frechet_estimate(draw(2, 3), draw(2, 3, seed=1))
    assert smallest["fid"] > 0
    assert np.isnan(smallest["fid_high"])


def test_jackknife_of_a_mean_is_its_t_interval():
    values = draw(20, 1)
    [(mean, low, high)] = jackknife(lambda kept: values[kept].mean(axis=0), 20)
    reach = 2.093024 * values.std(ddof=1) / np.sqrt(20)  # t with 19 degrees of freedom
    assert (low, high) == pytest.approx((values.mean() - reach, values.mean() + reach), rel=1e-6)
    assert mean == pytest.approx(values.mean())


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("n, m, d", [(300, 240, 16), (90, 400, 128)])
def test_other_values_are_those_of_torch_fidelity(n, m, d, dtype):
    given = draw(n, d, 0.2), draw(m, d, seed=1), 3 * draw(n, 10, seed=2)
    features, reference, logits = (torch.from_numpy(part.astype(dtype)) for part in given)
    found = kernel_estimate(features, reference, subset_size=80, subsets=7, seed=5)
    expected = kid_features_to_metric(
        features, reference, kid_subset_size=80, kid_subsets=7, rng_seed=5, verbose=False
    )
    for name in ("mean", "std"):
        of_fidelity = expected[f"kernel_inception_distance_{name}"]
        assert found[f"kid_{name}"] == pytest.approx(of_fidelity, rel=1e-5)
    expected = prc_features_to_metric(features, reference, prc_neighborhood=4, verbose=False)
    found = precision_recall(features, reference, neighbours=4)
    assert found == pytest.approx((expected["precision"], expected["recall"]), rel=1e-5)
    expected = isc_features_to_metric(logits, rng_seed=6)
    assert inception_score(logits, seed=6) == pytest.approx(tuple(expected.values()), rel=1e-5)


def test_kid_interval_holds_the_direct_estimate_and_ignores_groups(monkeypatch):
    monkeypatch.setattr(distances, "KERNEL_ROWS", 7)
    x, y = draw(60, 4, 0.5), draw(47, 4, seed=1)
    kernels = [((a @ b.T) / 4 + 1) ** 3 for a, b in ((x, x), (y, y), (x, y))]
    own = [(k.sum() - k.trace()) / (len(k) * (len(k) - 1)) for k in kernels[:2]]
    expected = own[0] + own[1] - 2 * kernels[2].mean()
    for groups in (2, 7, 20):
        found = kernel_estimate(x, y, groups=groups)
        assert found["kid"] == pytest.approx(expected, rel=1e-9)
        assert found["kid_low"] < found["kid"] < found["kid_high"]


def test_distances_grow_with_the_shift_and_a_collapsed_set_has_no_recall():
    reference = draw(300, seed=1)
    same = figures(reference, reference)
    assert same["fid"] == pytest.approx(0, abs=1e-6)
    assert same["precision"] == same["recall"] == 1
    near, far = figures(draw(300), reference), figures(draw(300, shift=2), reference)
    assert near["fid"] < far["fid"] and near["kid_mean"] < far["kid_mean"]
    assert figures(draw(300) * 0.01, reference)["recall"] < 0.1 < near["recall"]
    assert near == figures(draw(300), reference)


def test_inception_score_is_one_for_equal_and_ten_for_sure_balanced_predictions():
    same = inception_score(np.zeros((500, 10)), seed=1)
    sure = inception_score(50 * np.eye(10)[np.arange(500) % 10], seed=1)
    assert same[0] == pytest.approx(1, abs=1e-6)
    assert 9 < sure[0] <= 10 + 1e-6


def test_intervals_enclose_their_values():
    result = figures(draw(400, 4, 0.3), draw(400, 4, seed=1))
    result["is"] = result["is_mean"]
    for name in ("fid", "fid_infinite", "kid", "is", "precision", "recall"):
        assert result[f"{name}_low"] <= result[name] <= result[f"{name}_high"], name
    assert result["fid_infinite"] < result["fid"]
    without = fidelity(draw(60), draw(60), **OPTIONS)
    assert not [key for key in without if key.startswith("is_")]


@pytest.mark.parametrize(
    "features, reference, message",
    [
        (draw(60) * np.nan, draw(60), "features: Input contains NaN"),
        (draw(60), draw(60, d=9), "features have 8 columns, reference features 9"),
        (draw(60)[0], draw(60), r"features: Expected 2D array, got 1D"),
        (draw(1), draw(60), "features: Found array with 1 sample"),
    ],
)
@pytest.mark.parametrize("measure", [frechet_distance, precision_recall, figures])
def test_unfit_matrices_are_named(measure, features, reference, message):
    with pytest.raises(StudyError, match=message):
        measure(features, reference)


def test_unfit_numbers_of_images_are_named():
    with pytest.raises(StudyError, match="3 images are too few for 3 neighbours"):
        figures(draw(3), draw(3))
    with pytest.raises(StudyError, match="59 rows of logits for 60 of features"):
        figures(draw(60), draw(60), draw(59, 10))


def test_each_set_is_compared_and_every_row_says_with_what(tmp_path):
    sizes = {"real train": 60, "real test": 40, "teacher": 50, "student": 50}
    sets = {name: feature_set(n, seed) for seed, (name, n) in enumerate(sizes.items())}
    few = sets["real test"]  # is left with 2 dogs
    sets["real test"] = few.subset(
        np.flatnonzero((few.labels == 0) | (np.arange(40) < 4))
    )  # 2 dogs
    evaluate(tmp_path, features=save_sets(tmp_path, sets), **OPTIONS)
    table = pd.read_csv(tmp_path / "metrics.csv")
    assert (table["set"] + " to " + table["against"]).tolist() == [
        "real test to real train",
        "teacher to real train",
        "teacher to real test",
        "student to real train",
        "student to real test",
        "student to teacher",
    ]
    assert table["n_against"].tolist() == [60, 60, 22, 60, 22, 50]
    assert not table[["class", "n", "extractor", "resizing", "is_mean"]].isna().any().any()
    expected = frechet_distance(sets["teacher"].features, sets["real train"].features)
    assert table["fid"][1] == pytest.approx(expected, rel=1e-5)
    table = pd.read_csv(tmp_path / "per_class.csv").set_index(["set", "against", "class"])
    dogs = table.loc[("teacher", "real train", "dog")]
    expected = frechet_distance(sets["teacher"].features[1::2], sets["real train"].features[1::2])
    assert dogs["n"] == 25
    assert dogs["fid"] == pytest.approx(expected, rel=1e-5)
    assert "is_mean" not in table
    few = table.loc[("real test", "real train", "dog")]
    assert np.isnan(few["fid"]) and few["n"] == 2
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


def test_precision_and_recall_look_at_so_many_rows_at_most(monkeypatch):
    rng = np.random.default_rng(0)
    features, reference = rng.normal(size=(60, 3)), rng.normal(size=(90, 3))
    whole = fidelity(features, reference, kid_subset_size=20, kid_subsets=5, groups=5)
    monkeypatch.setattr(measures, "MOST", 40)
    few = fidelity(features, reference, kid_subset_size=20, kid_subsets=5, groups=5)
    assert few["fid"] == whole["fid"] and few["kid"] != whole["kid"]
    assert (few["recall"] * 40) == pytest.approx(round(few["recall"] * 40))
    assert few["precision"] != whole["precision"]
