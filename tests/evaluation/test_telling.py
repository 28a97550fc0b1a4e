"""Whether two sets of images are told apart by their features."""

import numpy as np
import pandas as pd
import pytest

from lib.common.errors import StudyError
from lib.evaluation.diagnosis import told_apart
from lib.evaluation.features import FeatureSet
from lib.evaluation.telling import auc_interval, halves, tell_apart


def drawn(n: int, seed: int, shift: float = 0) -> FeatureSet:
    features = np.random.default_rng(seed).standard_normal((n, 16)).astype(np.float32) + shift
    labels = np.arange(n) % 2
    return FeatureSet(features, None, labels, labels, {"class_names": ["a", "b"]})


def test_unlike_sets_are_told_apart_and_alike_ones_are_not(tmp_path):
    made = {"one": drawn(400, 1), "like it": drawn(600, 2), "shifted": drawn(400, 3, 1.5)}
    for name, found in made.items():
        found.save(tmp_path / name)
    folders = {name: tmp_path / name for name in made}
    pairs = [("one", "like it"), ("one", "shifted")]
    tell_apart(tmp_path, features=folders, pairs=pairs, per_class=150, seed=1)
    table = pd.read_csv(tmp_path / "telling.csv").set_index("against")
    assert table["n"].tolist() == [150, 150]
    assert table["auc_low"]["like it"] < 0.5 < table["auc_high"]["like it"]
    assert table["auc"]["shifted"] > 0.99


def test_auc_is_the_share_of_pairs_in_order():
    rng = np.random.default_rng(0)
    first, second = rng.normal(size=300), rng.normal(0.7, size=500)
    auc, low, high = auc_interval(first, second)
    assert auc == pytest.approx(np.mean(first[:, None] < second))
    draws = [np.mean(rng.choice(first, 300)[:, None] < rng.choice(second, 500)) for _ in range(300)]
    assert high - auc == pytest.approx(1.96 * np.std(draws), rel=0.15) and low < auc < high


def test_the_judged_half_was_not_learnt():
    learnt, judged = halves(np.arange(50), 3)
    assert sorted([*learnt, *judged]) == list(range(50)) and len(learnt) == len(judged)


def test_too_few_images_are_named(tmp_path):
    for name in ("one", "other"):
        drawn(2, 1).save(tmp_path / name)
    folders = {name: tmp_path / name for name in ("one", "other")}
    with pytest.raises(StudyError, match="needs four images"):
        tell_apart(tmp_path, features=folders, pairs=[("one", "other")], per_class=9, seed=1)


def test_a_set_that_gives_itself_away_is_a_finding():
    row = {"set": "student", "against": "teacher", "n": 500, "auc": 0.97}
    rows = pd.DataFrame([row | {"auc_low": 0.95}, row | {"against": "real test", "auc_low": 0.96}])
    (fault,) = told_apart(rows)["student"]
    assert "does not pass for its teacher" in fault and "97% of pairs (500 new images" in fault
    assert told_apart(rows.assign(auc_low=0.85)) == {}
