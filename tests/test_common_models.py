"""Means over models go over the same models for every calibration set that is compared."""

import numpy as np
import pandas as pd
import pytest
from prediction_tables import EQUAL, FEW, study

from lib.claims import answers
from lib.common_models import common_models, means_over_models
from lib.comparison import degradation_table, versus_real
from lib.headline import headline
from lib.rankings import rank_sets
from lib.verdict import models_words, verdict

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


def test_a_model_that_one_set_lacks_counts_for_none():
    degradation = table({"real": [0, 1, 2, 9], "student": [0, 1, 2, None]})
    assert means(degradation) == {
        "real": {"drop_pp": 1, "models": 3, "complete": True},
        "student": {"drop_pp": 1, "models": 3, "complete": True},
    }
    words = models_words(degradation)
    assert "3 models (resnet20, vgg11_bn, repvgg_a0)" in words
    assert "Left out: mobilenetv2_x0_5, not measured with student (RuntimeError: no)" in words
    assert rank_sets(degradation)["rank_drop_pp"].tolist() == [1.5, 1.5]


def test_a_set_that_lacks_most_models_does_not_shrink_the_comparison():
    degradation = table(
        {"real": [0, 0, 0, 4], "zeroq": [None, None, None, 5], "student": [1, 1, 1, 5]}
    )
    found = means(degradation)
    assert found["real"] == {"drop_pp": 1, "models": 4, "complete": True}
    assert found["student"] == {"drop_pp": 2, "models": 4, "complete": True}
    assert found["zeroq"] == {"drop_pp": 5, "models": 1, "complete": False}
    assert set(rank_sets(degradation)["calibration_set"]) == {"real", "student"}
    words = models_words(degradation)
    assert "*zeroq* is incomplete: compared with real images over mobilenetv2_x0_5 only." in words
    assert "Left out" not in words


def test_gaps_in_other_places_leave_more_than_half():
    drops = {"real": [1, 2, 3, 4], "teacher": [None, 2, 3, 4]}
    drops |= {"student": [1, None, 3, 4], "noise": [1, 2, None, 4]}
    found = means(table(drops))
    assert {name: row["models"] for name, row in found.items()} == {
        "real": 3,
        "teacher": 3,
        "student": 3,
        "noise": 3,
    }
    assert [row["complete"] for row in found.values()] == [True, True, False, False]


def test_models_without_real_images_do_not_count():
    found = means(table({"real": [None, None, 2, 4], "student": [1, 1, 1, 1]}))
    assert found["real"] == {"drop_pp": 3, "models": 2, "complete": True}
    assert found["student"] == {"drop_pp": 1, "models": 2, "complete": True}
    never = table({"real": [None] * 4, "student": [1, 1, 1, 1], "noise": [2, 2, 2, None]})
    assert means(never)["student"]["models"] == 3 and means(never)["real"]["models"] == 0
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
    assert "mobilenetv2_x0_5, not measured with student (no cell succeeded)" in words


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


def test_pooled_differences_go_over_common_models():
    data = broken("teacher", ["repvgg_a0"])
    degradation, versus = degradation_table(*data, **FEW), versus_real(*data, **FEW)
    pooled = versus[versus["model"] == "all"].set_index("calibration_set")
    assert pooled["models"].tolist() == [2] * 4 and pooled["complete"].all()
    assert pooled["failed"].to_dict() == {"teacher": 2, "student": 0, "fractal": 0, "noise": 0}
    assert pooled.loc["student", "difference_pp"] == 0  # the network that differs is left out
    headlined = answers(degradation, versus).set_index("calibration_set")
    assert (headlined["models"] == 2).all()
    real = headlined.loc["real", "drop_pp"]
    np.testing.assert_allclose(real - headlined["drop_pp"][1:], headlined["difference_pp"][1:])
    text = headline(degradation, versus)
    assert "These are means over 2 models (resnet20, vgg11_bn)." in text
    assert "repvgg_a0, not measured with teacher (RuntimeError: no)" in verdict(degradation, versus)


@pytest.mark.parametrize("kind", ["student", "teacher"])
def test_an_incomplete_set_is_compared_pairwise_and_said_to_be_so(kind):
    data = broken(kind, ["vgg11_bn", "repvgg_a0"])
    degradation, versus = degradation_table(*data, **FEW), versus_real(*data, **FEW)
    pooled = versus[versus["model"] == "all"].set_index("calibration_set")
    assert pooled.loc[kind, "models"] == 1 and not pooled.loc[kind, "complete"]
    assert (pooled.drop(index=kind)["models"] == 3).all()
    text = verdict(degradation, versus)
    assert f"*{kind}* is incomplete: compared with real images over resnet20 only." in text
    assert f"{kind} (over 1 model only)" in text.lower()
    if kind == "student":
        assert text.startswith("**Open.** Too few models could be calibrated with the student's")
        assert "So it stays open, for want of models," in text
    else:
        assert "teacher is measured with too few of the models" in text.lower()
