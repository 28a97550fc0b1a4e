"""Each set is compared with real images over the networks that both have."""

import numpy as np
import pandas as pd

from lib.comparison.models import means_over_models, shared_models

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


def test_a_set_goes_over_the_models_that_it_shares_with_real():
    degradation = table({"real": [0, 1, 2, 9], "student": [0, 1, 2, None], "noise": [1, 1, 1, 9]})
    assert means(degradation) == {
        "real": {"drop_pp": 3, "models": 4, "complete": True},
        "student": {"drop_pp": 1, "models": 3, "complete": False},
        "noise": {"drop_pp": 3, "models": 4, "complete": True},
    }
    assert means(degradation.dropna())["student"]["models"] == 3  # never planned, not failed


def test_networks_shared_by_all_leave_out_groups_that_lack_too_many():
    real = ["a", "b", "c", "d"]
    assert shared_models(real, [real, real[1:]]) == ["b", "c", "d"]
    assert shared_models(real, [["d"], real, real[:3]]) == ["a", "b", "c"]
    assert shared_models(real, [real[1:], ["a", "c", "d"], ["a", "b", "d"]]) == ["b", "c", "d"]


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
    assert np.isnan(found["student"]["drop_pp"])
