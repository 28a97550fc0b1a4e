"""What INT8 saves, what sets cost to make, published figures, and image quality beside effect."""

import shutil

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from lib import set_quality
from lib.cost import int8_costs, set_costs, with_sizes
from lib.errors import StudyError
from lib.extractors import Extractor
from lib.published import FIGURES, published_table
from lib.rankings import rank_correlations, rank_sets, ranking_words
from lib.sampleset import SampleSet
from lib.set_quality import (
    measure_quality,
    quality_and_effect,
    quality_correlations,
    quality_words,
)


def test_ratios_are_above_one_where_int8_wins():
    rows = [
        ("a", "openvino", "fp32", 2.0, 100.0, 4000),
        ("a", "nncf", "default", 1.0, 400.0, 1000),
        ("b", "openvino", "fp32", 2.0, 100.0, 4000),
        ("b", "nncf", "default", 4.0, 100.0, 1000),
    ]
    columns = ["model", "engine", "method", "latency_ms", "throughput", "size_bytes"]
    table = int8_costs(pd.DataFrame(rows, columns=columns)).set_index("model")
    assert list(table.loc["a", ["faster", "latency_ratio", "size_ratio"]]) == [4, 2, 4]
    assert list(table.loc["b", ["faster", "latency_ratio", "size_ratio"]]) == [1, 0.5, 4]
    means = table.loc["all (geometric mean)", ["faster", "latency_ratio", "size_ratio"]]
    assert list(means) == pytest.approx([2, 1, 4])
    assert "quantization_s" not in table
    seconds = pd.DataFrame(
        {"model": "a", "engine": "nncf", "method": "default", "seconds": [1.0, 2.0, 6.0]}
    )
    timed = int8_costs(pd.DataFrame(rows, columns=columns), seconds).set_index("model")
    assert timed.loc["a", "quantization_s"] == 3 and np.isnan(timed.loc["b", "quantization_s"])
    with pytest.raises(StudyError, match="timings of b in FP32"):
        int8_costs(pd.DataFrame(rows[:2] + rows[3:], columns=columns))


def test_sizes_come_from_the_networks_that_were_timed():
    results = pd.DataFrame(
        {
            "model": "a",
            "engine": ["openvino", "nncf", "nncf"],
            "method": ["fp32", "default"] * 1 + ["default"],
            "calibration_set": ["none", "real", "noise"],
            "seed": 0,
            "size_bytes": [8, 2, 3],
        }
    )
    timings = results[["model", "engine", "method"]].drop_duplicates().assign(throughput=1.0)
    assert list(with_sizes(timings, results)["size_bytes"]) == [8, 2]


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
    entries = {
        name: {"inputs": {"source": dict.fromkeys(inputs, "hash")}, "builder": "lib.x.make"}
        for name, (inputs, _) in made.items()
    }
    seconds = {name: {"seconds": s, "resumed": False} for name, (_, s) in made.items()}
    return {"artifacts": entries, "measured_artifacts": {}, "seconds": seconds}


SETS = ["real", "teacher", "student", "noise"]


def test_cost_of_a_set_follows_what_it_was_made_from():
    costs = set_costs(manifest(), SETS).set_index("set")
    assert costs["at_hand_s"].to_dict() == {
        "real": 0.5,
        "teacher": 7.5,
        "student": 2.5,
        "noise": 0.25,
    }
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


def test_means_over_networks_go_over_those_that_all_engines_have():
    columns = ["model", "engine", "method", "latency_ms", "throughput", "size_bytes"]
    rows = [(model, "openvino", "fp32", 1.0, 100.0, 4000) for model in "ab"]
    rows += [("a", "nncf", "default", 1.0, 200.0, 1000), ("b", "nncf", "default", 1.0, 900.0, 10)]
    both = rows + [("a", "pot", "default", 1.0, 300.0, 1000)]
    table = int8_costs(pd.DataFrame(both, columns=columns))
    means = table[table["model"] == "all (geometric mean)"].set_index("engine")
    assert means["faster"].to_dict() == pytest.approx({"nncf": 2, "pot": 3})
    assert means["models"].to_dict() == {"nncf": 1, "pot": 1}
    apart = [row for row in both if row[:2] != ("a", "nncf")]
    table = int8_costs(pd.DataFrame(apart, columns=columns))
    means = table[table["model"] == "all (geometric mean)"].set_index("engine")
    assert means["faster"].to_dict() == pytest.approx({"nncf": 9, "pot": 3})


def test_times_that_say_too_little_are_noted():
    known = manifest()
    del known["seconds"]["teacher"]
    known["seconds"]["student"]["resumed"] = True
    known["artifacts"]["teacher"]["builder"] = "lib.teacher_source.adopt_teacher"
    costs = set_costs(known, SETS).set_index("set")
    assert np.isnan(costs.loc["student", "from_nothing_s"])
    assert costs.loc["student", "at_hand_s"] == 2.5
    note = costs.loc["student", "note"]
    assert "teacher: not recorded" in note and "student: since an interruption only" in note
    assert "teacher: taken over, not trained here" in note
    assert costs.loc["noise", "note"] == ""
    del known["seconds"]
    assert set_costs(known, SETS)["from_nothing_s"].isna().all()


def degradation(drops, agreements, kls, method="default"):
    return pd.DataFrame(
        {
            "model": "resnet20_x0_5",
            "engine": "nncf",
            "method": method,
            "calibration_size": 300,
            "calibration_set": list("abcd")[: len(drops)],
            "drop_pp": drops,
            "agreement": agreements,
            "kl": kls,
            "fp32_accuracy": 0.98,
        }
    )


def test_orders_and_how_alike_they_are():
    table = degradation([0.0, 0.1, 0.5, 3.0], [0.99, 0.98, 0.97, 0.9], [0.1, 0.2, 0.3, 0.4])
    related = rank_correlations(rank_sets(table))
    np.testing.assert_allclose(related["kendall"], 1)
    assert "the same order" in ranking_words(rank_sets(table), related)
    other = degradation([3.0, 0.5, 0.1, 0.1], [0.99, 0.98, 0.97, 0.9], [0.1, 0.2, 0.3, 0.4])
    ranks = rank_sets(other)
    assert list(ranks["rank_drop_pp"]) == [4, 3, 1.5, 1.5]
    words = ranking_words(ranks, rank_correlations(ranks))
    assert "by accuracy: c = d › b › a" in words and "not the same order" in words
    assert rank_correlations(ranks)["spearman"].iloc[0] == pytest.approx(-0.9487, abs=1e-4)


def test_orders_of_one_set_or_equal_ones_cannot_be_compared():
    for table in (degradation([0.1], [0.9], [0.1]), degradation([0.1] * 3, [0.9] * 3, [0.1] * 3)):
        ranks = rank_sets(table)
        assert rank_correlations(ranks)["kendall"].isna().all()
        assert "No order to compare" in ranking_words(ranks, rank_correlations(ranks))


class Colours(nn.Module):
    """Mean colours as features; logits that see class 1 in bright images."""

    def forward(self, images):
        features = images.float().mean(dim=(2, 3))
        bright = features.mean(dim=1, keepdim=True)
        return features, torch.cat([255 - bright, bright], dim=1)


def test_quality_of_sets_and_of_sets_for_each_network(tmp_path, monkeypatch):
    extractor = Extractor("colours", "none", Colours().eval())
    monkeypatch.setattr(set_quality, "classifier_extractor", lambda folder: extractor)
    rng, labels = np.random.default_rng(0), np.arange(40) % 2
    folders = {"real": "real", "good": "good", "dark": "dark", "own": "own/resnet20"}
    for name, folder in folders.items():
        shade = np.where(labels == 1, 200, 40)[:, None, None, None] * (name != "dark")
        images = rng.integers(0, 40, (40, 3, 32, 32)) + shade + rng.integers(0, 15, (40, 3, 1, 1))
        info = {"data": "test", "class_names": ["dark", "bright"]}
        SampleSet(images.astype(np.uint8), labels, info=info).save(tmp_path / folder)
    shutil.copytree(tmp_path / "own/resnet20", tmp_path / "own/vgg11_bn")
    sets = {name: tmp_path / name for name in ("real", "good", "dark", "own")}
    measure_quality(tmp_path / "out", sets=sets, real=tmp_path / "real", evaluator=tmp_path)
    table = pd.read_csv(tmp_path / "out/quality.csv").set_index("calibration_set")
    assert table["n"].to_dict() == {"real": 40, "good": 40, "dark": 40, "own": 80}
    assert table.loc["real", "fid"] == pytest.approx(0, abs=1e-6)
    assert table.loc["dark", "fid"] > 100 * table.loc["good", "fid"] > 0
    assert table["label_agreement"].to_dict() == {"real": 1, "good": 1, "dark": 0.5, "own": 1}


def test_quality_is_set_against_effect():
    quality = pd.DataFrame(
        {"calibration_set": list("abc"), "fid": [0.1, 5.0, 100.0], "label_agreement": [1, 0.9, 0.1]}
    )
    near = degradation([0.0, 0.1, 0.5, 3.0], [0.99, 0.98, 0.97, 0.9], [0] * 4)
    joined = quality_and_effect(quality, near)
    assert list(joined["disagreement_pp"]) == pytest.approx([1, 2, 3])  # d was not measured
    found = quality_correlations(joined)
    np.testing.assert_allclose(found["spearman"], 1)
    words = quality_words(found)
    assert "over 3 sets with loss of accuracy +1.00, with disagreement with FP32 +1.00" in words
    assert "loss of accuracy and disagreement with FP32 follow FID" in words
    far = degradation([0.5, 0.1, 0.0], [0.97, 0.99, 0.98], [0] * 3)
    words = quality_words(quality_correlations(quality_and_effect(quality, far)))
    assert "neither follows FID" in words
    alone = quality_correlations(quality_and_effect(quality[:1], near))
    assert "too few sets" in quality_words(alone)


def test_published_figures_stand_beside_ours_with_the_differences():
    ours = degradation([0.7], [0.99], [0]).assign(calibration_set="student")
    here = {"data": "digits", "trained_here": True, "images": 600}
    table = published_table(ours, **here)
    assert len(table) == len(FIGURES)
    fp32 = table[table["network"] == "ResNet20"].iloc[0]
    assert fp32["ours"] == pytest.approx(98) and fp32["our_network"] == "resnet20_x0_5"
    assert "CIFAR-10 there, digits here (600 test images)" in fp32["differences"]
    assert "weights trained by this study" in fp32["differences"]
    missing = table[table["network"] == "VGG16-BN"].iloc[0]
    assert np.isnan(missing["ours"]) and missing["our_network"] == "none"
    worst = table[table["network"] == "the selected models"].iloc[0]
    assert worst["ours"] == pytest.approx(0.7) and "POT" in worst["differences"]
    same = published_table(
        ours.assign(model="resnet20"), data="cifar10", trained_here=False, images=10_000
    )
    assert same.iloc[0]["differences"] == "its own training"
    other = published_table(ours.assign(model="my_network"), **here)
    assert other["ours"].notna().sum() == 1  # the largest loss over all networks
