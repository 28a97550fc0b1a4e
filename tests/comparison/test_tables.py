"""Comparison: numbers by hand and by other libraries, pairing, failures."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from statsmodels.stats.contingency_tables import mcnemar
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.weightstats import ttost_paired

from lib.common.errors import StudyError
from lib.comparison.tables import degradation_table, mcnemar_table, versus_real
from tests.comparison.conftest import CLASSES, EQUAL, FEW, MODELS, SEEDS, SETS, N, study


def pooled(table):
    return table[table["model"] == "all"].set_index("calibration_set")


def test_degradation_by_hand():
    table = degradation_table(*study({"real": 110, "noise": 300}))
    assert len(table) == 4
    real = table[(table["model"] == "vgg11_bn") & (table["calibration_set"] == "real")].iloc[0]
    assert real["seeds"] == 2 and real["failed"] == 0
    assert real["drop_pp"] == pytest.approx(0.5)
    # images that INT8 misses and FP32 does not: 10 with both seeds, and one each with one only
    difference = np.zeros(N)
    difference[100:110], difference[0], difference[110] = 1, -0.5, 0.5
    half = 1.96 * 100 * difference.std() / np.sqrt(N)
    assert real["low_pp"] == pytest.approx(0.5 - half, abs=0.05)
    assert real["high_pp"] == pytest.approx(0.5 + half, abs=0.05)
    assert real["seed_std_pp"] == pytest.approx(0)
    assert real["agreement"] == pytest.approx(1 - (10 + 12) / 2 / N)


def test_versus_real_by_hand():
    table = versus_real(*study({"real": 110, "student": 130, "noise": 300}))
    assert set(table["model"]) == {"all", *MODELS}
    rows = pooled(table)
    assert rows.loc["student", "pairs"] == 4
    assert rows.loc["student", "difference_pp"] == pytest.approx(-1)
    assert rows.loc["student", "agreement_pp"] == pytest.approx(-1)
    assert rows.loc["noise", "difference_pp"] == pytest.approx(-9.5)
    # 21 images differ in some seed, all of them losses; equal models are no further evidence
    own = table[table["calibration_set"] == "student"]
    np.testing.assert_allclose(own["permutation_p"], 2 * 0.5**21)
    assert own["tost_p"].nunique() == own["low_pp"].nunique() == 1
    assert rows.loc["student", "permutation_holm_p"] == pytest.approx(2 * 0.5**21)
    noise = rows.loc["noise"]
    assert noise["permutation_holm_p"] == pytest.approx(2 * noise["permutation_p"])


@pytest.fixture(scope="module")
def unseen():
    """Predictions drawn at random: the student's networks lose 2 points, the teacher's none."""
    rng = np.random.default_rng(11)
    table, predictions, labels = study(EQUAL)
    for name, found in predictions.items():
        share = 0.02 if "/student/" in name else 0.002
        spoiled = rng.random(N) < share
        wrong = (labels + rng.integers(1, CLASSES, N)) % CLASSES
        predictions[name] = np.where(spoiled, wrong, found)
    return table, predictions, labels


def hits(unseen, kind):
    """Whether each network calibrated with `kind` is right: `(4, N)`, models and seeds."""
    _, predictions, labels = unseen
    names = [n for n in predictions if n.split("/")[3] == kind]
    assert len(names) == 4
    return np.array([predictions[name] == labels for name in names]).astype(float)


def test_pooled_numbers_agree_with_an_independent_computation(unseen):
    table = versus_real(*unseen, resamples=20_000, margin_pp=0.5)
    real = hits(unseen, "real").mean(axis=0)
    assert pooled(table).loc["student", "difference_pp"] == pytest.approx(-2, abs=0.5)
    for kind in ("teacher", "student"):
        row, other = pooled(table).loc[kind], hits(unseen, kind).mean(axis=0)
        change = 100 * (other - real)
        assert row["difference_pp"] == pytest.approx(change.mean())
        theirs = stats.bootstrap(
            (change,), np.mean, n_resamples=5000, method="percentile", rng=3, batch=500
        ).confidence_interval
        assert (row["low_pp"], row["high_pp"]) == pytest.approx((theirs.low, theirs.high), abs=0.03)
        assert row["image_se_pp"] == pytest.approx(stats.sem(change))
        assert row["tost_p"] == pytest.approx(ttost_paired(100 * other, 100 * real, -0.5, 0.5)[0])
        random = stats.permutation_test(
            (change,), np.mean, permutation_type="samples", n_resamples=4000, rng=5, batch=500
        )
        assert row["permutation_p"] == pytest.approx(random.pvalue, abs=0.03)
    for corrected, p in (("tost_holm_p", "tost_p"), ("permutation_holm_p", "permutation_p")):
        for family in (table["model"] == "all", table["model"] != "all"):
            expected = multipletests(table.loc[family, p], method="holm")[1]
            np.testing.assert_allclose(table.loc[family, corrected], expected)


def test_spread_between_seeds_is_that_of_their_means(unseen):
    row = pooled(versus_real(*unseen)).loc["student"]
    gains = 100 * (hits(unseen, "student") - hits(unseen, "real")).mean(axis=1)
    by_seed = gains.reshape(len(MODELS), len(SEEDS)).mean(axis=0)  # models first, seeds fastest
    assert row["seed_std_pp"] == pytest.approx(by_seed.std(ddof=1))
    single = versus_real(unseen[0][unseen[0]["seed"] == 0], *unseen[1:])
    assert single["seed_std_pp"].isna().all()


def test_single_networks_have_mcnemars_test(unseen):
    table = mcnemar_table(*unseen)
    assert len(table) == 4 * len(SETS) + 4 * (len(SETS) - 1)
    rows = table[(table["against"] == "real") & (table["calibration_set"] == "student")]
    pairs = zip(hits(unseen, "student"), hits(unseen, "real"), strict=True)
    for row, (ours, real) in zip(rows.itertuples(), pairs, strict=True):
        counts = pd.crosstab(ours, real).to_numpy()
        assert (row.losses, row.gains) == (counts[0, 1], counts[1, 0])
        assert row.mcnemar_p == pytest.approx(mcnemar(counts, exact=True).pvalue)
    family = table["against"] == "fp32"
    expected = multipletests(table.loc[family, "mcnemar_p"], method="holm")[1]
    np.testing.assert_allclose(table.loc[family, "mcnemar_holm_p"], expected)


def test_identical_predictions_differ_in_nothing():
    data = study(EQUAL)
    table = versus_real(*data)
    columns = ["difference_pp", "low_pp", "high_pp", "agreement_pp", "image_se_pp", "tost_p"]
    assert (table[columns] == 0).all(axis=None)
    assert (table[["permutation_p", "permutation_holm_p"]] == 1).all(axis=None)
    tested = mcnemar_table(*data)
    assert (tested.loc[tested["against"] == "real", "mcnemar_p"] == 1).all()


def test_failed_cells_are_counted_with_their_reason():
    table = degradation_table(*study(EQUAL, failed=("fractal",)), **FEW)
    gone = table[table["calibration_set"] == "fractal"]
    assert (gone["failed"] == 2).all() and gone["drop_pp"].isna().all()
    assert set(gone["reason"]) == {"RuntimeError: no"}
    rows = pooled(versus_real(*study(EQUAL, failed=("real",)), **FEW))
    assert (rows["unpaired"] == 4).all() and rows["difference_pp"].isna().all()
    data = study(EQUAL, failed=SETS)
    assert (versus_real(*data, **FEW)[["pairs", "models"]] == 0).all(axis=None)
    assert degradation_table(*data, **FEW)["drop_pp"].isna().all() and mcnemar_table(*data).empty
    assert versus_real(*study({"real": 104})).empty


def test_missing_predictions_are_named():
    table, predictions, labels = study({"real": 104, "noise": 120})
    del predictions["resnet20/nncf/default/noise/300/1"]
    with pytest.raises(StudyError, match="resnet20/nncf/default/noise/300/1.*run quantization"):
        degradation_table(table, predictions, labels)


@pytest.mark.parametrize("kind", ["teacher", "noise"])
def test_a_set_that_fails_changes_nothing_for_the_others(kind):
    models = ["resnet20", "vgg11_bn", "repvgg_a0"]
    rows = pooled(versus_real(*study(EQUAL, failed=[(kind, "repvgg_a0")], models=models), **FEW))
    assert rows.loc[kind, ["models", "real_models", "complete"]].tolist() == [2, 3, False]
    assert (rows.drop(index=kind)["models"] == 3).all()
    assert rows["failed"].drop(index=kind).sum() == 0 and rows.loc[kind, "failed"] == 2


def test_each_model_counts_alike_where_a_seed_failed():
    table, predictions, labels = study(EQUAL)
    gone = (table["calibration_set"] == "student") & (table["model"] == "resnet20")
    table.loc[gone & (table["seed"] == 1), "status"] = "error"
    spoiled = [n for n in predictions if "/student/" in n and n.startswith("resnet20")]
    predictions |= {name: (predictions[name] + 1) % 10 for name in spoiled}
    versus = versus_real(table, predictions, labels, **FEW).set_index(["calibration_set", "model"])
    own = versus.loc["student"]["difference_pp"]
    assert own["resnet20"] < -50 and own["vgg11_bn"] == 0
    assert own["all"] == pytest.approx((own["resnet20"] + own["vgg11_bn"]) / 2)
    assert 0 <= versus.loc[("student", "all"), "permutation_p"] < 1e-6
