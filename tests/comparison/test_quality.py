"""How near calibration sets are to real images."""

import shutil

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from lib.comparison import quality as set_quality
from lib.comparison.quality import measure_quality
from lib.data.samples import SampleSet
from lib.evaluation.extractors import Extractor


class Colours(nn.Module):
    """Mean colours as features; logits that see class 1 in bright images."""

    def forward(self, images):
        features = images.float().mean(dim=(2, 3))
        bright = features.mean(dim=1, keepdim=True)
        return features, torch.cat([255 - bright, bright], dim=1)


@pytest.fixture(autouse=True)
def colours(monkeypatch):
    extractor = Extractor("colours", "colours", "none", Colours().eval())
    monkeypatch.setattr(set_quality, "classifier_extractor", lambda folder: extractor)


def save(folder, images, labels):
    info = {"data": "test", "class_names": ["dark", "bright"]}
    SampleSet(images.astype(np.uint8), labels, info=info).save(folder)


def quality(tmp_path, *names, out="out"):
    sets = {name: tmp_path / name for name in names}
    given = {"real": tmp_path / "real", "evaluator": tmp_path, "seed": 1}
    measure_quality(tmp_path / out, sets=sets, **given)
    return pd.read_csv(tmp_path / out / "quality.csv").set_index("calibration_set")


def test_quality_of_sets_and_of_sets_for_each_network(tmp_path):
    rng, labels = np.random.default_rng(0), np.arange(40) % 2
    for name in ("real", "good", "dark", "own/resnet20"):
        shade = np.where(labels == 1, 200, 40)[:, None, None, None] * (name != "dark")
        images = rng.integers(0, 40, (40, 3, 32, 32)) + shade + rng.integers(0, 15, (40, 3, 1, 1))
        save(tmp_path / name, images, labels)
    shutil.copytree(tmp_path / "own/resnet20", tmp_path / "own/vgg11_bn")
    table = quality(tmp_path, "real", "good", "dark", "own")
    assert table["images"].to_dict() == {"real": 40, "good": 40, "dark": 40, "own": 80}
    assert (table["n"] == 40).all() and (table["n_real"] == 40).all()
    assert table.loc["real", "fid"] == pytest.approx(0, abs=1e-6)
    assert table.loc["dark", "fid"] > 100 * table.loc["good", "fid"] > 0
    assert table["label_agreement"].to_dict() == {"real": 1, "good": 1, "dark": 0.5, "own": 1}


def test_fid_of_sets_is_compared_at_one_number_of_images(tmp_path):
    """Images of one distribution: at different n the smaller set would look worse."""
    rng = np.random.default_rng(0)
    for name, n in {"real": 2000, "few": 12, "many": 1000, "other": 1000}.items():
        images = rng.integers(0, 256, (n, 3, 1, 1)) * np.ones((1, 1, 32, 32))
        save(tmp_path / name, images, np.arange(n) % 2)
    table = quality(tmp_path, "few", "many", "other")
    assert (table["n"] == 12).all() and table["images"].tolist() == [12, 1000, 1000]
    alone = quality(tmp_path, "many", "other", out="large")
    assert (alone["n"] == 1000).all()
    assert alone["fid"].max() < 0.2 * table["fid"].min()  # FID falls with n
    assert table.loc["many", "fid"] != table.loc["other", "fid"]
