"""Each set is compared with real images over the networks of both, beside others over all's."""

import numpy as np
import pandas as pd

from lib.comparison.models import common_models, means_over_models

MODELS = ["resnet20", "vgg11_bn", "repvgg_a0", "mobilenetv2_x0_5"]


def table(drops):
    """`drops` maps a set to its losses, model by model; None stands for failed cells."""
    setting = {"engine": "nncf", "method": "default", "calibration_size": 300}
    rows = [
        setting | {"model": model, "calibration_set": name, "drop_pp": drop}
        for name, values in drops.items()
        for model, drop in zip(MODELS, values, strict=True)
    ]
    return pd.DataFrame(rows).astype({"drop_pp": float})


def means(degradation):
    found = means_over_models(degradation, ["drop_pp"]).set_index("calibration_set")
    return found[["drop_pp", "models", "complete"]].to_dict("index")


def common(degradation):
    """Return the sets that count with the number of networks that all of them have."""
    found = common_models(degradation.dropna())
    return found[found["complete"]].groupby("calibration_set").size().to_dict()


def test_a_set_goes_over_the_models_that_it_shares_with_real():
    degradation = table({"real": [0, 1, 2, 9], "student": [0, 1, 2, None], "noise": [1, 1, 1, 9]})
    assert means(degradation) == {
        "real": {"drop_pp": 3, "models": 4, "complete": True},
        "student": {"drop_pp": 1, "models": 3, "complete": False},
        "noise": {"drop_pp": 3, "models": 4, "complete": True},
    }
    assert common(degradation) == {"real": 3, "student": 3, "noise": 3}
    assert means(degradation.dropna())["student"]["models"] == 3  # never planned, not failed


def test_a_set_that_lacks_most_models_does_not_decide_for_the_others():
    drops = {"real": [0, 0, 0, 4], "zeroq": [None, None, None, 5], "student": [1, 1, 1, 5]}
    assert means(table(drops))["zeroq"] == {"drop_pp": 5, "models": 1, "complete": False}
    assert common(table(drops)) == {"real": 4, "student": 4}


def test_gaps_in_other_places_leave_more_than_half():
    drops = {"real": [1, 2, 3, 4], "teacher": [None, 2, 3, 4]}
    drops |= {"student": [1, None, 3, 4], "noise": [1, 2, None, 4]}
    assert [row["models"] for row in means(table(drops)).values()] == [4, 3, 3, 3]
    assert common(table(drops)) == {"real": 3, "teacher": 3}


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
    assert np.isnan(found["student"]["drop_pp"]) and common(nothing) == {}
