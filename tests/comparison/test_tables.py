"""Comparison: numbers by hand, pairing, failures, and a verdict that follows the table."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from statsmodels.stats.contingency_tables import mcnemar
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.weightstats import ttost_paired

from lib.common.errors import StudyError
from lib.comparison.claims import answers, claim
from lib.comparison.headline import headline
from lib.comparison.tables import degradation_table, mcnemar_table, versus_real
from lib.comparison.verdict import verdict
from tests.comparison.conftest import CLASSES, EQUAL, FEW, MODELS, SEEDS, SETS, N, predict, study


def words(errors, failed=(), **options):
    data = study(errors, failed, **options)
    return verdict(degradation_table(*data, **FEW), versus_real(*data, **FEW))


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
    pooled = table[table["model"] == "all"].set_index("calibration_set")
    assert pooled.loc["student", "pairs"] == 4
    assert pooled.loc["student", "difference_pp"] == pytest.approx(-1)
    assert pooled.loc["student", "agreement_pp"] == pytest.approx(-1)
    assert pooled.loc["noise", "difference_pp"] == pytest.approx(-9.5)
    # 21 images differ in some seed, all of them losses
    assert pooled.loc["student", "permutation_p"] == pytest.approx(2 * 0.5**21)
    assert pooled.loc["student", "permutation_holm_p"] == pytest.approx(2 * 0.5**21)
    assert pooled.loc["noise", "permutation_holm_p"] == pytest.approx(
        2 * pooled.loc["noise", "permutation_p"]
    )


def test_pooling_models_adds_no_images():
    """Equal results of two models are one result, not twice the evidence."""
    table = versus_real(*study({"real": 110, "student": 120}))
    pooled, single = (table[table["model"] == model].iloc[0] for model in ("all", "vgg11_bn"))
    columns = ["difference_pp", "low_pp", "high_pp", "tost_p", "permutation_p"]
    np.testing.assert_allclose(*([float(row[c]) for c in columns] for row in (pooled, single)))


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
    pooled = table[table["model"] == "all"].set_index("calibration_set")
    real = hits(unseen, "real").mean(axis=0)
    for kind in ("teacher", "student"):
        row, other = pooled.loc[kind], hits(unseen, kind).mean(axis=0)
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


def test_a_planted_drop_of_two_points_is_found(unseen):
    table = versus_real(*unseen)
    pooled = table[table["model"] == "all"].set_index("calibration_set")
    assert pooled.loc["student", "difference_pp"] == pytest.approx(-2, abs=0.5)
    assert pooled.loc["student", "permutation_holm_p"] < 1e-6
    claims = {kind: claim(row) for kind, row in pooled.to_dict("index").items()}
    assert claims["student"] == "worse" and claims["teacher"] == "equivalent"


def test_spread_between_seeds_is_that_of_their_means(unseen):
    table = versus_real(*unseen)
    row = table[(table["model"] == "all") & (table["calibration_set"] == "student")].iloc[0]
    gains = 100 * (hits(unseen, "student") - hits(unseen, "real")).mean(axis=1)
    by_seed = gains.reshape(len(MODELS), len(SEEDS)).mean(axis=0)  # models first, seeds fastest
    assert row["seed_std_pp"] == pytest.approx(by_seed.std(ddof=1))
    single = versus_real(unseen[0][unseen[0]["seed"] == 0], *unseen[1:])
    assert single["seed_std_pp"].isna().all()


def test_single_networks_have_mcnemars_test(unseen):
    table = mcnemar_table(*unseen)
    assert len(table) == 4 * len(SETS) + 4 * (len(SETS) - 1)
    rows = table[(table["against"] == "real") & (table["calibration_set"] == "student")]
    for row, ours, real in zip(
        rows.itertuples(), hits(unseen, "student"), hits(unseen, "real"), strict=True
    ):
        pairs = pd.crosstab(ours, real).to_numpy()
        assert (row.losses, row.gains) == (pairs[0, 1], pairs[1, 0])
        assert row.mcnemar_p == pytest.approx(mcnemar(pairs, exact=True).pvalue)
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


def test_few_images_show_no_equivalence():
    """Twenty images without a difference do not exclude a rate of one in seven."""
    table, predictions, labels = study(EQUAL)
    few = {name: found[:20] for name, found in predictions.items()}
    versus = versus_real(table, few, labels[:20])
    assert versus["resolution_pp"].iloc[0] == pytest.approx(100 * (1 - 0.05 ** (1 / 20)))
    assert {claim(row) for row in versus.to_dict("records")} == {"inconclusive"}
    text = verdict(degradation_table(table, few, labels[:20]), versus)
    assert text.startswith("**Open.**")
    assert "too few to call anything equivalent within ±0.5 points" in text


def test_all_equal():
    text = words(EQUAL)
    assert "Teacher, student, fractal and noise are equivalent to real images within ±0.5" in text
    assert "Accuracy does not tell the sets apart" in text
    assert "student's images can replace real calibration images" in text
    assert text.count("+0.00 points against real (95 % interval +0.00 to +0.00)") == 4


def test_synthetic_sets_fail():
    text = words(EQUAL | {"student": 200, "fractal": 400, "noise": 1900})
    assert "Teacher is equivalent to real images" in text
    assert "Student, fractal and noise are worse than real images." in text
    assert "student's images cannot replace real calibration images" in text
    assert "- student: -4.80 points against real" in text
    assert "does not tell the sets apart" not in text


def test_all_synthetic_sets_fail():
    text = words({"real": 104, "teacher": 300, "student": 300, "fractal": 300})
    assert "No set can be said to stand in for real images." in text
    assert "equivalent to real images within" not in text


def test_everything_fails():
    text = words(dict.fromkeys(SETS, 900))
    assert "INT8 loses 40.00 points" in text
    assert "real images themselves do not serve well" in text


def answer(data):
    """Return the headline of a study's table, predictions and labels."""
    return headline(degradation_table(*data, **FEW), versus_real(*data, **FEW))


def first_words(errors, **options):
    return answer(study(errors, **options))


def test_the_headline_follows_the_table():
    assert first_words(EQUAL).startswith("**Yes.** Calibrated with the student's images")
    same = "The same holds for teacher, fractal and noise: accuracy does not tell"
    assert same in first_words(EQUAL)
    alone = first_words(EQUAL | {"student": 200})
    assert alone.startswith("**No.**") and "same holds" not in alone
    assert "Teacher, fractal and noise are equivalent to real ones." in alone
    others = first_words({"real": 104, "student": 104, "teacher": 60, "noise": 900})
    assert "Teacher is better than real ones; noise is worse." in others
    failing = first_words(EQUAL | {"student": 200, "noise": 900})
    assert failing.startswith(
        "**No.** Calibrated with the student's images, INT8 networks are less"
    )
    assert "default quantization, -4.80 points (95 % interval" in failing
    assert "Teacher and fractal are equivalent to real ones; noise is worse." in failing
    assert first_words({"real": 200, "student": 104}).startswith("**Yes.**")
    assert first_words({"real": 104, "teacher": 104}).startswith("**Yes.** Calibrated with the te")
    everything = first_words(dict.fromkeys(SETS, 900))
    assert everything.startswith("**No set serves.** With the student's images as with real")
    assert "loses up to 40.00 points against FP32 with real images, too." in everything
    assert first_words({"real": 104}).startswith("**No answer.** No calibration set was compared")
    assert first_words(EQUAL, failed=("student",)).startswith("**No answer.** No INT8 network cal")
    undecided = first_words({"real": 104, "student": 104}, shift={"student": 700})
    assert undecided.startswith("**Open.** These test images do not settle")


def spoil_accuracy_aware(kind):
    """Return a study where accuracy-aware quantization with the set `kind` loses much."""
    table, predictions, labels = study(EQUAL, methods=("default", "accuracy_aware"))
    for name in predictions:
        if f"/accuracy_aware/{kind}/" in name:
            predictions[name] = predict(labels, 300)
    return table, predictions, labels


def test_an_answer_that_depends_on_the_method_is_said_to():
    text = answer(spoil_accuracy_aware("student"))
    assert text.startswith("**It depends.**")
    assert "NNCF, default quantization, +0.00 points" in text and "(equivalent)" in text
    assert "NNCF, accuracy-aware quantization, -9.80 points" in text and "(worse)" in text


def two_models(hard):
    """Return a study of two models and two methods, `hard` errors with noise on the second."""
    parts, predictions = [], {}
    for model, noise, methods in (
        ("resnet20", 104, ("default", "accuracy_aware")),
        ("vgg11_bn", hard, ("default",)),
    ):
        table, found, labels = study(EQUAL | {"noise": noise}, methods=methods)
        parts.append(table.assign(model=model))
        predictions |= {f"{model}/{name.partition('/')[2]}": made for name, made in found.items()}
    return pd.concat(parts, ignore_index=True), predictions, labels


def test_a_difference_between_models_is_not_laid_to_the_way_to_quantize():
    text = answer(two_models(hard=900))
    assert "for noise the answer differs between ways to quantize that had different models" in text
    assert "(over the 1 model that all had: NNCF, default quantization +0.00, NNCF, accu" in text
    assert "depends on how one quantizes" not in text
    text = answer(spoil_accuracy_aware("noise"))
    assert "or noise the answer depends on how one quantizes." in text


def test_fractals_that_keep_more_predictions_are_named():
    def text_of(spoiled):
        table, *rest = study({"real": 100, "student": 100, "fractal": 100})
        table.loc[table["calibration_set"] == spoiled, "agreement"] = 0.5
        return answer((table, *rest))

    assert "Fractals, which need neither images nor a generator" in text_of("student")
    assert "in 1 of 1 way to quantize: agreement with FP32" in text_of("student")
    assert "Fractals" not in text_of("fractal")


def test_fractals_ahead_on_one_model_of_two_are_not_named():
    """Far ahead on one and behind on the other: the mean alone says nothing of the rest."""
    tables, predictions = [], {}
    for model, student, fractal in (("resnet20", 0.5, 0.9), ("vgg11_bn", 0.8, 0.7)):
        table, found, labels = study({"real": 100, "student": 100, "fractal": 100})
        kinds = table["calibration_set"]
        table.loc[kinds == "student", "agreement"] = student
        table.loc[kinds == "fractal", "agreement"] = fractal
        tables.append(table.assign(model=model))
        predictions |= {f"{model}/{name.partition('/')[2]}": made for name, made in found.items()}
    assert "Fractals" not in answer((pd.concat(tables, ignore_index=True), predictions, labels))


def test_engines_are_named_and_skipped_ones_with_the_reason():
    table, predictions, labels = study(EQUAL)
    other = table[table["method"] != "fp32"].assign(engine="pot")
    skipped = other.assign(status="skipped", error="Skipped: no Python 3.11 here", accuracy=None)
    both = pd.concat([table, skipped], ignore_index=True)
    degradation = degradation_table(both, predictions, labels, **FEW)
    text = verdict(degradation, versus_real(both, predictions, labels, **FEW))
    assert "Not measured: POT, default quantization (Skipped: no Python 3.11 here)." in text
    assert "**NNCF, default quantization** (300 images)." in text
    assert "**POT, default quantization** (300 images). No network was calibrated" in text
    assert text.startswith("**Yes.**") and "nan" not in text
    for name in [n for n in predictions if "/nncf/" in n]:
        predictions[name.replace("/nncf/", "/pot/")] = predictions[name]
    made = pd.concat([table, other], ignore_index=True)
    degradation = degradation_table(made, predictions, labels, **FEW)
    text = verdict(degradation, versus_real(made, predictions, labels, **FEW))
    assert "**POT, default quantization** (300 images). Calibrated with real images" in text
    assert "Not measured" not in text


def test_lost_agreement_is_said_beside_equal_accuracy():
    """Images that FP32 gets wrong come out wrong in other ways: no accuracy is lost."""
    table, predictions, labels = study({"real": 100, "student": 100})
    for name in predictions:
        if "/student/" in name:
            spoiled = np.flatnonzero(predictions[name] != labels)[20:80]
            predictions[name][spoiled] = (labels[spoiled] + 2) % CLASSES
    text = answer((table, predictions, labels))
    assert text.startswith("**Yes.**")
    assert "change more predictions than real images do: agreement with FP32 is lower" in text


def test_the_headline_table_has_a_claim_for_each_set():
    data = study(EQUAL | {"noise": 900}, failed=("fractal",))
    table = answers(degradation_table(*data, **FEW), versus_real(*data, **FEW))
    claims = table.set_index("calibration_set")["claim"].to_dict()
    expected = {"real": "reference", "teacher": "equivalent", "student": "equivalent"}
    assert claims == expected | {"fractal": "not measured", "noise": "worse"}


def test_a_better_set_is_called_better():
    assert "Student is better than real images." in words({"real": 200, "student": 104})


def test_an_undecided_set_is_called_so():
    """As many images gained as lost, but many: neither equivalence nor a difference is shown."""
    text = words({"real": 104, "student": 104}, shift={"student": 700})
    assert "Student is neither shown to be equivalent to real images nor to differ" in text
    assert "it stays open whether the student's images can replace real calibration images" in text
    assert "+0.00 points against real (95 % interval -1." in text


def test_claims_need_the_corrected_test():
    row = {"pairs": 1, "tost_holm_p": 0.4, "low_pp": -2.0, "high_pp": -0.1}
    assert claim(row | {"permutation_holm_p": 0.04}) == "worse"
    assert claim(row | {"permutation_holm_p": 0.06}) == "inconclusive"
    assert claim(row | {"permutation_holm_p": 0.06}, confidence=0.9) == "worse"


def test_margin_and_words_go_together():
    data = study({"real": 104, "student": 112})
    degradation = degradation_table(*data, **FEW)
    wide, narrow = (
        verdict(degradation, versus_real(*data, margin_pp=margin, **FEW), margin_pp=margin)
        for margin in (2, 0.1)
    )
    assert "equivalent to real images within ±2 points" in wide
    assert "worse than real images" in narrow


def test_agreement_is_spoken_of():
    text = words({"real": 104, "student": 150, "noise": 120})
    assert "Agreement with FP32: real 99.75 %, noise 98.95 %, student 97.45 %" in text
    assert "the same order as by accuracy" in text
    table, predictions, labels = study({"real": 104, "student": 120})
    student = table["calibration_set"] == "student"
    table.loc[student, "agreement"] = 0.9995
    degradation = degradation_table(table, predictions, labels)
    text = verdict(degradation, versus_real(table, predictions, labels))
    assert "student 99.95 %, real 99.75 %; this is another order than by accuracy" in text


def test_failed_cells_are_reported():
    text = words(EQUAL, failed=("fractal",))
    assert "Fractal is not measured, as no cell succeeded beside one with real images." in text
    assert "- fractal: not measured; 4 cells failed" in text
    assert "nan" not in text
    table = degradation_table(*study(EQUAL, failed=("fractal",)))
    fractal = table[table["calibration_set"] == "fractal"]
    assert (fractal["failed"] == 2).all() and fractal["drop_pp"].isna().all()


def test_without_real_images_there_is_no_comparison():
    text = words(EQUAL, failed=("real",))
    assert "No network was calibrated with real images" in text
    assert "Teacher, student, fractal and noise are not measured" in text
    assert "NNCF, default quantization with real images (RuntimeError: no)" in text
    assert "- teacher: not measured; 4 cells without a counterpart by real images" in text
    data = study({"real": 104})
    assert versus_real(*data).empty
    assert "INT8 loses 0.20 points" in verdict(degradation_table(*data), versus_real(*data))


def test_each_method_has_its_paragraph():
    text = words(EQUAL, methods=("default", "accuracy_aware"))
    assert "**NNCF, default quantization** (300 images)." in text
    assert "**NNCF, accuracy-aware quantization** (300 images)." in text


def test_where_everything_failed_there_are_tables_without_numbers():
    data = study(EQUAL, failed=SETS)
    degradation, versus = degradation_table(*data, **FEW), versus_real(*data, **FEW)
    assert (versus["pairs"] == 0).all() and (versus["models"] == 0).all()
    assert {"against", "mcnemar_holm_p"} <= set(mcnemar_table(*data).columns)
    assert answers(degradation, versus)["models"].eq(0).all()
    text = verdict(degradation, versus)
    assert text.startswith("**No answer.** No INT8 network calibrated with the student's")
    assert "NNCF, default quantization (RuntimeError: no)" in text and "nan" not in text


def test_missing_predictions_are_named():
    table, predictions, labels = study({"real": 104, "noise": 120})
    del predictions["resnet20/nncf/default/noise/300/1"]
    with pytest.raises(StudyError, match="resnet20/nncf/default/noise/300/1.*run quantization"):
        degradation_table(table, predictions, labels)


def test_an_equivalent_set_that_is_measurably_worse_is_said_to_be():
    small = words({"real": 104, "student": 110, "teacher": 104})
    assert small.startswith("**Yes.**")
    assert "still cost accuracy, measurably so by NNCF, default quantization: 0.30 points" in small
    assert "still cost accuracy" not in words({"real": 104, "student": 104, "teacher": 104})
