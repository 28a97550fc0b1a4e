"""Whether a fresh network tells two sets of images apart."""

import numpy as np
import pandas as pd
import pytest

from lib.classifiers.options import ClassifierOptions
from lib.common.errors import StudyError
from lib.common.files import hash_tree
from lib.data.samples import SampleSet
from lib.evaluation import telling
from lib.evaluation.diagnosis import told_apart
from lib.evaluation.telling import auc_interval, halves, tell_apart

OPTIONS = ClassifierOptions(epochs=4, batch_size=16, augment_shift=0, learning_rate=0.03)


def noise(n: int, seed: int, brighter: int = 0) -> SampleSet:
    images = np.random.default_rng(seed).integers(0, 120, (n, 3, 32, 32)) + brighter
    info = {"class_names": ["a", "b"], "data": "noise"}
    return SampleSet(images.astype(np.uint8), np.arange(n) % 2, info=info)


@pytest.fixture()
def sets(tmp_path) -> dict:
    made = {"one": noise(96, 1), "like it": noise(128, 2), "brighter": noise(96, 3, 100)}
    for name, images in made.items():
        images.save(tmp_path / name)
    return {name: tmp_path / name for name in made}


def run(out, sets, pairs) -> None:
    given = {"per_class": 48, "name": "resnet20_x0_25", "options": OPTIONS, "seed": 1}
    tell_apart(out, samples=sets, pairs=pairs, **given)


def test_unlike_sets_are_told_apart_and_alike_ones_are_not(tmp_path, sets, monkeypatch, capsys):
    pairs = [("one", "like it"), ("one", "brighter")]
    run(tmp_path / "out", sets, pairs)
    table = pd.read_csv(tmp_path / "out" / "telling.csv").set_index("against")
    assert table["n"].tolist() == [48, 48]
    assert table["auc_low"]["like it"] < 0.5 < table["auc_high"]["like it"]
    assert table["auc"]["brighter"] == 1
    trained, train = [], telling.train_classifier
    monkeypatch.setattr(
        telling,
        "train_classifier",
        lambda out, **more: (trained.append(out.name), train(out, **more)),
    )
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(telling, "auc_interval", lambda *a: die() if len(trained) == 2 else (0, 0, 0))
        run(tmp_path / "parts", sets, pairs)
    run(tmp_path / "parts", sets, pairs)
    assert trained == ["one like it", "one brighter"]  # none twice
    assert hash_tree(tmp_path / "parts") == hash_tree(tmp_path / "out")


def die() -> None:
    raise KeyboardInterrupt


def test_auc_is_the_share_of_pairs_in_order():
    rng = np.random.default_rng(0)
    first, second = rng.normal(size=300), rng.normal(0.7, size=500)
    auc, low, high = auc_interval(first, second)
    assert auc == pytest.approx(np.mean(first[:, None] < second))
    draws = [np.mean(rng.choice(first, 300)[:, None] < rng.choice(second, 500)) for _ in range(300)]
    assert high - auc == pytest.approx(1.96 * np.std(draws), rel=0.15) and low < auc < high


def test_the_judged_half_was_not_learnt():
    images = noise(50, 1)
    learnt, judged = (half.images.reshape(25, -1) for half in halves(images, 3))
    assert not (learnt[:, None] == judged).all(axis=2).any()


def test_too_few_images_are_named(tmp_path):
    for name in ("one", "other"):
        noise(2, 1).save(tmp_path / name)
    with pytest.raises(StudyError, match="needs four images"):
        run(
            tmp_path / "out",
            {name: tmp_path / name for name in ("one", "other")},
            [("one", "other")],
        )


def test_a_set_that_gives_itself_away_is_a_finding():
    row = {"set": "student", "against": "teacher", "n": 500, "auc": 0.97}
    rows = pd.DataFrame([row | {"auc_low": 0.95}, row | {"against": "real test", "auc_low": 0.96}])
    (fault,) = told_apart(rows)["student"]
    assert "does not pass for its teacher" in fault and "97% of 500 pairs" in fault
    assert told_apart(rows.assign(auc_low=0.85)) == {}
