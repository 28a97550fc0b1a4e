"""Each set is compared with real images over the models of both, ranked over those of all."""

import numpy as np
import pandas as pd
import pytest

from lib.comparison.headline import headline
from lib.comparison.models import common_models, means_over_models
from lib.comparison.rankings import rank_sets
from lib.comparison.tables import degradation_table, versus_real
from lib.comparison.verdict import _order_words, models_words, verdict
from tests.comparison.conftest import EQUAL, FEW, study

MODELS = ["resnet20", "vgg11_bn", "repvgg_a0", "mobilenetv2_x0_5"]


def table(drops, engine="nncf", models=MODELS, reason="RuntimeError: no"):
    """`drops` maps a set to its losses, model by model; None stands for failed cells."""
    rows = [
        {"model": model, "engine": engine, "method": "default", "calibration_size": 300}
        | {"calibration_set": name, "drop_pp": np.nan if drop is None else drop}
        | {"reason": reason if drop is None else "", "agreement": 0.9, "kl": 0.1}
        for name, values in drops.items()
        for model, drop in zip(models, values, strict=True)
    ]
    return pd.DataFrame(rows)


def means(degradation):
    found = means_over_models(degradation, ["drop_pp"]).set_index("calibration_set")
    return found[["drop_pp", "models", "complete"]].to_dict("index")


def test_a_set_goes_over_the_models_that_it_shares_with_real():
    degradation = table({"real": [0, 1, 2, 9], "student": [0, 1, 2, None], "noise": [1, 1, 1, 9]})
    assert means(degradation) == {
        "real": {"drop_pp": 3, "models": 4, "complete": True},
        "student": {"drop_pp": 1, "models": 3, "complete": False},
        "noise": {"drop_pp": 3, "models": 4, "complete": True},
    }
    words = models_words(degradation)
    assert "4 models (resnet20, vgg11_bn, repvgg_a0, mobilenetv2_x0_5)." in words
    assert "*student* is compared with real images over resnet20, vgg11_bn and repvgg_a0 only" in (
        words
    )
    assert "only (RuntimeError: no)." in words


def test_sets_are_ranked_over_the_models_of_all():
    degradation = table({"real": [0, 1, 2, 9], "student": [0, 1, 2, None]})
    ranks = rank_sets(degradation)
    assert ranks["rank_drop_pp"].tolist() == [1.5, 1.5] and ranks["models"].tolist() == [3, 3]


def test_a_set_that_lacks_most_models_does_not_decide_the_ranking():
    degradation = table(
        {"real": [0, 0, 0, 4], "zeroq": [None, None, None, 5], "student": [1, 1, 1, 5]}
    )
    found = means(degradation)
    assert found["real"] == {"drop_pp": 1, "models": 4, "complete": True}
    assert found["student"] == {"drop_pp": 2, "models": 4, "complete": True}
    assert found["zeroq"] == {"drop_pp": 5, "models": 1, "complete": False}
    assert set(rank_sets(degradation)["calibration_set"]) == {"real", "student"}


def test_gaps_in_other_places_leave_more_than_half_for_the_ranking():
    drops = {"real": [1, 2, 3, 4], "teacher": [None, 2, 3, 4]}
    drops |= {"student": [1, None, 3, 4], "noise": [1, 2, None, 4]}
    assert [row["models"] for row in means(table(drops)).values()] == [4, 3, 3, 3]
    ranks = rank_sets(table(drops))
    assert ranks["calibration_set"].tolist() == ["real", "teacher"]
    assert (ranks["models"] == 3).all()


def test_rounding_makes_no_order():
    degradation = table({"real": [1, 2, 3, 4], "student": [1, 2, 3, 4.0000004]})
    assert rank_sets(degradation)["rank_drop_pp"].tolist() == [1.5, 1.5]
    kind = {"agreement": [0.9, 0.9000001] * 4, "drop_pp": [1.0, 1.0000002] * 4}
    assert "this is the same order as by accuracy" in _order_words(degradation.assign(**kind))


def test_models_without_real_images_do_not_count():
    found = means(table({"real": [None, None, 2, 4], "student": [1, 1, 1, 1]}))
    assert found["real"] == {"drop_pp": 3, "models": 2, "complete": True}
    assert found["student"] == {"drop_pp": 1, "models": 2, "complete": True}
    never = table({"real": [None] * 4, "student": [1, 1, 1, 1], "noise": [2, 2, 2, None]})
    assert means(never)["student"]["models"] == 4 and means(never)["real"]["models"] == 0
    apart = means(table({"real": [1, None, None, None], "student": [None, 1, 1, 1]}))
    assert apart["student"]["models"] == 0 and not apart["student"]["complete"]


def test_nothing_measured():
    nothing = table({"real": [None] * 4, "student": [None] * 4})
    found = means(nothing)
    assert [row["models"] for row in found.values()] == [0, 0]
    assert models_words(nothing) == "" and rank_sets(nothing).empty
    assert common_models(nothing[:0]).empty


def test_a_cell_that_was_never_planned_is_no_failure():
    degradation = table({"real": [0, 0, 0, 0], "student": [1, 1, 1, 1]}).iloc[:-1]
    assert means(degradation)["student"]["models"] == 3
    words = models_words(degradation)
    assert "*student* is compared with real images over resnet20, vgg11_bn and repvgg_a0 only." in (
        words
    )


def test_engines_are_said_to_go_over_different_models():
    few = table({"real": [0, 0], "student": [0, 0]}, "pot", MODELS[:2])
    degradation = pd.concat([table({"real": [0] * 4, "student": [0] * 4}), few])
    lines = models_words(degradation).splitlines()
    assert lines[0].endswith("4 models (resnet20, vgg11_bn, repvgg_a0, mobilenetv2_x0_5).")
    assert "Left out: repvgg_a0 and mobilenetv2_x0_5, not quantized so." in lines[1]


def broken(kind, models):
    """Networks calibrated with `kind` failed for `models`, of three; all others are alike."""
    table, predictions, labels = study(EQUAL, models=["resnet20", "vgg11_bn", "repvgg_a0"])
    gone = (table["calibration_set"] == kind) & table["model"].isin(models)
    table["error"] = np.where(gone, "RuntimeError: no", None)
    table.loc[gone, "status"] = "error"
    spoiled = [n for n in predictions if "/student/" in n and n.startswith("repvgg_a0")]
    predictions |= {name: (predictions[name] + 1) % 10 for name in spoiled}
    return table, predictions, labels


@pytest.mark.parametrize("kind", ["teacher", "noise"])
def test_a_set_that_fails_changes_nothing_for_the_others(kind):
    """A control that fails on a network must not hide what the student does to it."""
    data = broken(kind, ["repvgg_a0"])
    versus, degradation = versus_real(*data, **FEW), degradation_table(*data, **FEW)
    pooled = versus[versus["model"] == "all"].set_index("calibration_set")
    assert pooled.loc[kind, ["models", "real_models", "complete"]].tolist() == [2, 3, False]
    assert (pooled.drop(index=kind)["models"] == 3).all()
    assert pooled["failed"].drop(index=kind).sum() == 0 and pooled.loc[kind, "failed"] == 2
    assert pooled.loc["student", "difference_pp"] < -5
    text = headline(degradation, versus)
    assert text.startswith("**No.**")
    assert "These are means over 3 models (resnet20, vgg11_bn, repvgg_a0)." in text
    assert f"{kind} (over 2 of 3 models)" in verdict(degradation, versus).lower()


def test_the_headline_names_the_models_that_the_student_lacks():
    data = broken("student", ["repvgg_a0"])
    text = headline(degradation_table(*data, **FEW), versus_real(*data, **FEW))
    assert text.startswith("**Yes.**")
    assert "means over 2 models (resnet20, vgg11_bn). Repvgg_a0 failed by NNCF, default" in text


def test_each_model_counts_alike_where_a_seed_failed():
    table, predictions, labels = study(EQUAL, models=["resnet20", "vgg11_bn"])
    gone = (table["calibration_set"] == "student") & (table["model"] == "resnet20")
    gone &= table["seed"] == 1
    assert gone.sum() == 1
    table.loc[gone, "status"] = "error"
    table["error"] = np.where(gone, "RuntimeError: no", None)
    spoiled = [n for n in predictions if "/student/" in n and n.startswith("resnet20")]
    predictions |= {name: (predictions[name] + 1) % 10 for name in spoiled}
    versus = versus_real(table, predictions, labels, **FEW).set_index(["calibration_set", "model"])
    own = versus.loc["student"]["difference_pp"]
    assert own["resnet20"] < -50 and own["vgg11_bn"] == 0
    assert own["all"] == pytest.approx((own["resnet20"] + own["vgg11_bn"]) / 2)
    assert 0 <= versus.loc[("student", "all"), "permutation_p"] < 1e-6


@pytest.mark.parametrize("kind", ["student", "teacher"])
def test_a_set_that_lacks_most_models_is_said_to_be_incomplete(kind):
    data = broken(kind, ["vgg11_bn", "repvgg_a0"])
    degradation, versus = degradation_table(*data, **FEW), versus_real(*data, **FEW)
    pooled = versus[versus["model"] == "all"].set_index("calibration_set")
    assert pooled.loc[kind, "models"] == 1 and not pooled.loc[kind, "complete"]
    assert (pooled.drop(index=kind)["models"] == 3).all()
    text = verdict(degradation, versus)
    assert f"*{kind}* is compared with real images over resnet20 only (RuntimeError: no)." in text
    assert f"{kind} (over 1 of 3 models)" in text.lower()
    if kind == "student":
        assert text.startswith("**Open.** Too few models could be calibrated with the student's")
        assert "So it stays open, for want of models," in text
    else:
        assert "teacher is measured with too few of the models" in text.lower()


def test_better_sets_are_not_said_to_be_the_same():
    """Where real images and the student fail and another set does not, a set serves."""
    table, predictions, labels = study(EQUAL)
    for name in predictions:
        if "/real/" in name or "/student/" in name:
            predictions[name] = np.where(np.arange(len(labels)) % 5, predictions[name], -1)
    settings = degradation_table(table, predictions, labels, **FEW)
    text = headline(settings, versus_real(table, predictions, labels, **FEW))
    assert "No set serves" not in text and "same holds" not in text
    assert "are better than real ones" in text and "as good is not good here" in text
