"""Quality of the calibration sets, and whether what they cost goes with it."""

import itertools
import shutil

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.stats import spearmanr
from statsmodels.stats.multitest import multipletests
from torch import nn

from lib.comparison import quality as set_quality
from lib.comparison.quality import (
    measure_quality,
    permutation_p,
    quality_and_effect,
    quality_correlations,
    quality_words,
)
from lib.data.samples import SampleSet
from lib.evaluation.extractors import Extractor
from tests.comparison.conftest import degradation


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
    measure_quality(tmp_path / "out", sets=sets, real=tmp_path / "real", evaluator=tmp_path, seed=1)
    table = pd.read_csv(tmp_path / "out/quality.csv").set_index("calibration_set")
    assert table["images"].to_dict() == {"real": 40, "good": 40, "dark": 40, "own": 80}
    assert (table["n"] == 40).all() and (table["n_real"] == 40).all()
    assert table.loc["real", "fid"] == pytest.approx(0, abs=1e-6)
    assert table.loc["dark", "fid"] > 100 * table.loc["good", "fid"] > 0
    assert table["label_agreement"].to_dict() == {"real": 1, "good": 1, "dark": 0.5, "own": 1}


def test_fid_of_sets_is_compared_at_one_number_of_images(tmp_path, monkeypatch):
    """Images of one distribution in sets of 40 and 400: at different n the smaller looks worse."""
    extractor = Extractor("colours", "none", Colours().eval())
    monkeypatch.setattr(set_quality, "classifier_extractor", lambda folder: extractor)
    rng, info = np.random.default_rng(0), {"data": "test", "class_names": ["dark", "bright"]}
    for name, n in {"real": 2000, "few": 12, "many": 1000, "other": 1000}.items():
        images = rng.integers(0, 256, (n, 3, 1, 1)) * np.ones((1, 1, 32, 32))
        labels = np.arange(n) % 2
        SampleSet(images.astype(np.uint8), labels, info=info).save(tmp_path / name)
    given = {"real": tmp_path / "real", "evaluator": tmp_path, "seed": 1}
    sets = {name: tmp_path / name for name in ("few", "many", "other")}
    measure_quality(tmp_path / "out", sets=sets, **given)
    table = pd.read_csv(tmp_path / "out/quality.csv").set_index("calibration_set")
    assert (table["n"] == 12).all() and table["images"].tolist() == [12, 1000, 1000]
    large = {name: folder for name, folder in sets.items() if name != "few"}
    measure_quality(tmp_path / "large", sets=large, **given)
    alone = pd.read_csv(tmp_path / "large/quality.csv").set_index("calibration_set")
    assert (alone["n"] == 1000).all()
    assert alone["fid"].max() < 0.2 * table["fid"].min()  # FID falls with n
    assert table.loc["many", "fid"] != table.loc["other", "fid"]
    measure_quality(tmp_path / "again", sets=sets, **given)
    assert (tmp_path / "again/quality.csv").read_bytes() == (
        tmp_path / "out/quality.csv"
    ).read_bytes()


def quality(fids, agreement=None):
    names = list("abcdefghi")[: len(fids)]
    right = agreement or [1 - 0.1 * i for i in range(len(fids))]
    return pd.DataFrame({"calibration_set": names, "fid": fids, "label_agreement": right})


def effects(drops):
    return degradation(drops, [0.99 - drop / 100 for drop in drops], [0.1] * len(drops))


def test_a_loss_that_follows_fid_is_told_with_the_test():
    fids = [0.1, 0.3, 2.0, 5.0, 9.0, 30.0, 100.0]
    joined = quality_and_effect(quality(fids), effects([0.0, 0.1, 0.2, 0.5, 3.0, 9.0, 40.0]))
    assert list(joined["disagreement_pp"])[:3] == pytest.approx([1, 1.1, 1.2])
    assert (joined["models"] == 1).all()
    found = quality_correlations(joined)
    np.testing.assert_allclose(found["spearman"], 1)
    np.testing.assert_allclose(found["p"], 2 / 5040)
    np.testing.assert_allclose(found["holm_p"], 4 * 2 / 5040)
    words = quality_words(found)
    assert "over 7 sets: loss of accuracy rises with FID (Spearman's rho +1.00, corrected" in words
    assert "disagreement with FP32 rises with FID" in words and "chance" not in words


def test_a_high_correlation_alone_is_no_evidence():
    fids = [0.1, 0.3, 2.0, 5.0, 9.0]
    found = quality_correlations(
        quality_and_effect(quality(fids), effects([0.1, 0.0, 0.5, 0.2, 3.0]))
    )
    assert found["spearman"].iloc[0] == pytest.approx(0.8)
    words = quality_words(found)
    assert "loss of accuracy and FID: Spearman's rho +0.80, which may be chance (corrected" in words
    assert "rises" not in words


def test_few_or_equal_sets_are_no_evidence():
    perfect = quality_and_effect(quality([0.1, 2, 5, 9]), effects([0.0, 1.0, 2.0, 3.0]))
    found = quality_correlations(perfect)
    assert (found["spearman"] == 1).all() and found["p"].isna().all()
    words = quality_words(found)
    assert "loss of accuracy and FID: Spearman's rho +1.00, over too few sets to test" in words
    alike = quality_and_effect(quality([0.1, 2, 5, 9, 10]), effects([0.0] * 5))
    words = quality_words(quality_correlations(alike))
    assert "loss of accuracy and FID: all sets are alike in one of the two" in words
    nothing = quality_correlations(perfect[:0])
    assert nothing.empty and "no evidence" in quality_words(nothing)


def test_p_is_that_of_all_orders_also_with_ties():
    rng = np.random.default_rng(4)
    for _ in range(3):
        first, second = pd.Series(rng.integers(0, 4, 6)), pd.Series(rng.normal(size=6))
        first.iloc[:2] = [0, 1]
        observed = spearmanr(first, second).statistic
        rhos = np.array(
            [
                spearmanr([first[i] for i in order], second).statistic
                for order in itertools.permutations(range(6))
            ]
        )
        tails = [(rhos >= observed - 1e-9).mean(), (rhos <= observed + 1e-9).mean()]
        assert permutation_p(first, second) == pytest.approx(min(1, 2 * min(tails)))


def test_p_values_are_corrected_among_all_rows():
    rng = np.random.default_rng(2)
    both = pd.concat(
        [
            quality_and_effect(quality(list(rng.random(6))), effects(list(rng.random(6)))).assign(
                engine=engine
            )
            for engine in ("nncf", "pot")
        ]
    )
    found = quality_correlations(both)
    assert len(found) == 8
    np.testing.assert_allclose(found["holm_p"], multipletests(found["p"], method="holm")[1])


def test_sets_that_were_not_measured_are_left_out():
    table = effects([0.0, 0.1, 0.5, 3.0])
    joined = quality_and_effect(quality([0.1, 5.0, 100.0]), table)  # the fourth has no FID
    assert list(joined["calibration_set"]) == list("abc")
    table.loc[1, "drop_pp"] = np.nan
    assert list(quality_and_effect(quality([0.1, 5.0, 100.0]), table)["calibration_set"]) == [
        "a",
        "c",
    ]
