"""What INT8 saves, what sets cost to make, and published figures."""

import numpy as np
import pandas as pd
import pytest

from lib.common.errors import StudyError
from lib.comparison.cost import int8_costs, set_costs
from lib.comparison.literature import published_table

SETS = ["real", "teacher", "student", "noise"]
TIMES = ["model", "engine", "method", "latency_ms", "throughput"]


def costs(rows, seconds=None):
    """Costs of rows of `TIMES` and `size_bytes`; networks by noise are larger and do not count."""
    table = pd.DataFrame(rows, columns=[*TIMES, "size_bytes"])
    sets = table["method"].map({"fp32": "none"}).fillna("real")
    results = table.assign(seed=0, calibration_set=sets)
    noise = results.assign(calibration_set="noise", size_bytes=1)
    return int8_costs(table[TIMES], pd.concat([noise, results]), seconds)


def test_ratios_are_above_one_where_int8_wins():
    rows = [
        ("a", "openvino", "fp32", 2.0, 100.0, 4000),
        ("a", "nncf", "default", 1.0, 400.0, 1000),
        ("b", "openvino", "fp32", 2.0, 100.0, 4000),
        ("b", "nncf", "default", 4.0, 100.0, 1000),
    ]
    ratios = ["faster", "latency_ratio", "size_ratio"]
    table = costs(rows).set_index("model")
    assert list(table.loc["a", ratios]) == [4, 2, 4] and list(table.loc["b", ratios]) == [1, 0.5, 4]
    assert list(table.loc["all (geometric mean)", ratios]) == pytest.approx([2, 1, 4])
    assert list(table["size_bytes"][:2]) == [1000, 1000] and "quantization_s" not in table
    key = {"model": "a", "engine": "nncf", "method": "default"}
    timed = costs(rows, pd.DataFrame(key | {"seconds": [1.0, 2.0, 6.0]})).set_index("model")
    assert timed.loc["a", "quantization_s"] == 3 and np.isnan(timed.loc["b", "quantization_s"])
    with pytest.raises(StudyError, match="timings of b in FP32"):
        costs(rows[:2] + rows[3:])


def manifest():
    """The chain of the student's images; sampling the teacher takes 7 s, and so on."""
    made = {
        "real": ([], 1000),
        "teacher": (["real/train"], 50),
        "teacher_samples": (["teacher/teacher.safetensors"], 7),
        "student": (["teacher_samples", "real/train"], 30),
        "student_samples": (["student/student.safetensors"], 2),
        "calibration-student": (["student_samples"], 0.5),
        "calibration-teacher": (["teacher_samples"], 0.5),
        "calibration-real": (["real/train"], 0.5),
        "calibration-noise": ([], 0.25),
        "classifier-resnet20": (["real/train"], 200),
        "models": (["classifier-resnet20", "real/validation"], 300),
        "zeroq_from_models": (["models"], 4),
        "calibration-zeroq": (["classifier-resnet20", "zeroq_from_models"], 40),
    }
    entries, seconds = {}, {}
    for name, (inputs, took) in made.items():
        entries[name] = {"builder": "lib.x.make", "options": {}}
        entries[name]["inputs"] = {"source": dict.fromkeys(inputs, "hash")}
        seconds[name] = {"seconds": took, "resumed": False}
    return {"artifacts": entries, "measured_artifacts": {}, "seconds": seconds}


def test_cost_of_a_set_follows_what_it_was_made_from():
    costs = set_costs(manifest(), SETS).set_index("set")
    assert costs["at_hand_s"].tolist() == [0.5, 7.5, 2.5, 0.25]
    assert costs.loc["student", "from_nothing_s"] == 50 + 7 + 30 + 2 + 0.5
    assert costs.loc["teacher", "from_nothing_s"] == 50 + 7 + 0.5
    assert (costs["note"] == "").all()
    with pytest.raises(StudyError, match="calibration-grey is missing"):
        set_costs(manifest(), ["grey"])


def test_networks_to_quantize_cost_a_set_nothing():
    known = manifest()
    for given in ("real", "classifier-resnet20", "models"):
        del known["seconds"][given]
    costs = set_costs(known, ["zeroq"]).iloc[0]
    assert costs["at_hand_s"] == costs["from_nothing_s"] == 44
    assert costs["made_of"] == "calibration-zeroq, zeroq_from_models" and costs["note"] == ""


def test_means_over_networks_go_over_those_that_engines_share():
    rows = [(model, "openvino", "fp32", 1.0, 100.0, 4000) for model in "abc"]
    nncf = {"a": 200.0, "b": 200.0, "c": 900.0}
    rows += [(model, "nncf", "default", 1.0, faster, 10) for model, faster in nncf.items()]
    rows += [(model, "pot", "default", 1.0, 300.0, 1000) for model in "ab"]
    means = costs(rows).tail(2).set_index("engine")
    assert means["faster"].to_dict() == pytest.approx({"nncf": 2, "pot": 3})
    assert means["models"].to_dict() == {"nncf": 2, "pot": 2}
    means = costs(rows[:-1]).tail(2).set_index("engine")
    assert means["faster"].to_dict() == pytest.approx({"nncf": 36 ** (1 / 3), "pot": 3})
    assert means["models"].to_dict() == {"nncf": 3, "pot": 1}
    assert costs(rows[:3]).empty


def test_times_that_say_too_little_are_noted():
    known = manifest()
    del known["seconds"]["teacher"]
    known["seconds"]["student"]["resumed"] = True
    known["artifacts"]["teacher"]["builder"] = "lib.teacher.source.adopt_teacher"
    costs = set_costs(known, SETS).set_index("set")
    assert np.isnan(costs.loc["student", "from_nothing_s"])
    assert costs.loc["student", "at_hand_s"] == 2.5
    notes = ["teacher: not recorded", "student: since an interruption only"]
    notes += ["teacher: taken over, not trained here"]
    assert costs.loc["student", "note"].split("; ") == notes and costs.loc["noise", "note"] == ""
    known["artifacts"]["teacher"]["options"] = {"start": "training.safetensors"}
    note = set_costs(known, ["student"]).iloc[0]["note"]
    assert "teacher: without the training that it went on from" in note
    del known["seconds"]
    assert set_costs(known, SETS)["from_nothing_s"].isna().all()


def test_published_figures_stand_beside_cifar10_alone():
    assert 1 <= len(published_table("CIFAR-10 (JPEG copy)")) <= 10
    assert published_table("digits").empty
