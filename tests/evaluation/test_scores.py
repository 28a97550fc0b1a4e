"""The classification accuracy score and the truncation curve."""

import numpy as np
import pandas as pd

from lib.classifiers.options import ClassifierOptions
from lib.common.files import ROOT
from lib.data.samples import SampleSet
from lib.evaluation.features import FeatureSet
from lib.evaluation.scores import classification_accuracy_scores, truncation_curve
from lib.teacher.options import SamplingOptions
from lib.teacher.sampling import load_teacher
from lib.teacher.source import adopt_teacher
from tests.evaluation.conftest import OPTIONS, draw, samples, save_sets


def test_accuracy_score_learns_from_separable_images_and_not_from_wrong_labels(tmp_path):
    def plain(n, exchange=False):
        labels = np.arange(n) % 2
        shade = np.where(labels == 1, 220, 30).astype(np.uint8)
        images = np.broadcast_to(shade[:, None, None, None], (n, 3, 32, 32)).copy()
        return SampleSet(images, labels[::-1].copy() if exchange else labels, info=samples().info)

    sets = {"good": plain(48), "exchanged": plain(48, exchange=True)}
    plain(30).save(tmp_path / "test")
    classification_accuracy_scores(
        tmp_path / "out",
        sets=save_sets(tmp_path, sets),
        test=tmp_path / "test",
        per_class=20,
        confidence=0.95,
        name="resnet20_x0_5",
        seed=1,
        options=ClassifierOptions(
            batch_size=4, learning_rate=0.02, weight_decay=0, augment_shift=0, label_smoothing=0
        ),
    )
    table = pd.read_csv(tmp_path / "out" / "scores.csv").set_index("trained on")
    assert table["n"].tolist() == [40, 40]
    assert table.loc["good", "score"] == 1
    assert table.loc["exchanged", "score"] == 0
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["scores.csv"]


def test_truncation_curve_narrows_the_teacher(tmp_path, evaluator):
    pickle = ROOT / "tests" / "fixtures" / "stylegan2" / "tiny_p4.pkl"
    names = [str(k) for k in range(load_teacher(pickle).c_dim)]
    (tmp_path / "teacher").mkdir()
    about = {"class_names": names, "data": "nothing", "origin": "file", "sha256": ""}
    adopt_teacher(tmp_path / "teacher", source=pickle, **about)
    labels = np.arange(60) % len(names)
    info = {"extractor": "a", "resizing": "none", "class_names": names}
    features = draw(60, 32).astype(np.float32)
    FeatureSet(features, None, labels, labels, info).save(tmp_path / "real")
    truncation_curve(
        tmp_path / "out",
        teacher=tmp_path / "teacher" / "teacher.safetensors",
        evaluator=evaluator,
        real=tmp_path / "real",
        psis=[0.0, 1.0],
        sampling=SamplingOptions(per_class=6, batch_size=8),
        extractor="classifier",
        **OPTIONS,
    )
    table = pd.read_csv(tmp_path / "out" / "truncation.csv")
    assert table["psi"].tolist() == [0, 1]
    assert table["diversity"][0] < 0.1 * table["diversity"][1]
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["truncation.csv"]
