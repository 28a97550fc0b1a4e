"""Whether a set serves a network: planted tables have the answer that they must have."""

import numpy as np
import pytest
from scipy.stats import norm

from lib.common.errors import StudyError
from lib.comparison.service import resampled, service_table
from tests.comparison.conftest import EQUAL, N, change, study

FEW = {"resamples": 500}


def answer(data, kind="student", model="resnet20", **options):
    table = service_table(*data, **FEW | options)
    return table.set_index(["calibration_set", "model"]).loc[(kind, model)]


@pytest.mark.parametrize(
    "changed, expected",
    [
        (200, "serves"),
        (215, "serves"),  # 0.15 points
        (100, "serves"),  # better is no harm
        (247, "not decided"),  # 0.47 of 0.5 points
        (300, "fails"),
    ],
)
def test_a_set_serves_within_the_margin_beyond_chance(changed, expected):
    row = answer(study({"real": 200, "student": changed}))
    assert row["answer"] == expected and row["margin_pp"] == 0.5
    assert row["difference_pp"] == pytest.approx((200 - changed) / 100)
    assert row["low_pp"] < row["difference_pp"] < row["high_pp"]


def test_a_set_as_far_from_real_as_another_draw_of_real_serves():
    """Draws of real images differ by 0.9 points: what lies as far off is no worse than they."""
    changed = study({"real": 300, "student": 330}, spread=30)
    row = answer(changed)
    deviation = np.std(30 * np.arange(5), ddof=1) / 100
    assert row["redraw_pp"] == row["margin_pp"] == pytest.approx(2 * 2**0.5 * deviation)
    assert row["answer"] == "serves"
    assert (
        answer(study({"real": 300, "student": 360}, spread=0), margin_pp=0.2)["answer"] == "fails"
    )


def test_opposite_effects_do_not_cancel():
    own = {("student", "resnet20"): 100, ("student", "vgg11_bn"): 300}
    table = service_table(*study({"real": 200, "student": 200}, own=own), **FEW)
    found = table[table["calibration_set"] == "student"].set_index("model")["answer"]
    assert found.to_dict() == {"resnet20": "serves", "vgg11_bn": "fails", "repvgg_a0": "serves"}


def test_the_error_is_that_of_images_and_draws():
    """Against the sum of the two variances, of sets that change other images."""
    table, predictions = study({"real": 200, "student": 200}, models=["resnet20"])
    rng, p = np.random.default_rng(0), [0.02, 0.05]
    fp32 = predictions["resnet20/openvino/fp32/none/0/0"]
    for name in predictions:
        if "nncf" in name:
            wrong = rng.random(N) < p["student" in name] + 0.004 * rng.standard_normal()
            predictions[name] = np.where(wrong, (fp32 + 1) % 10, fp32)
    row = answer((table, predictions), resamples=4000)
    agreed = {
        kind: np.stack([v == fp32 for k, v in predictions.items() if f"/{kind}/" in k])
        for kind in ("real", "student")
    }
    draws = sum(v.mean(axis=1).var(ddof=1) / 5 for v in agreed.values())
    apart = agreed["student"].mean(axis=0) - agreed["real"].mean(axis=0)
    expected = 100 * (draws + apart.var() / N) ** 0.5
    assert row["error_pp"] == pytest.approx(expected, rel=0.15)
    reach = norm.ppf(0.975) * row["error_pp"]
    assert row["high_pp"] - row["difference_pp"] == pytest.approx(reach)


def test_images_are_drawn_for_all_sets_alike():
    values = np.random.default_rng(0).random((1, 400)) < 0.9
    first, second = resampled({"a": values, "b": values}, 200, seed=1).values()
    assert np.array_equal(first, second) and first.std() > 0.005
    assert not resampled({"a": values[:0]}, 200, seed=1)


def test_few_differing_images_are_taken_exactly():
    """Of 200 images none differs: up to 1.8 points are not excluded, too much for the margin."""
    row = answer(study({"real": 0, "student": 0}, spread=0, n=200))
    assert row["difference_pp"] == 0 and row["answer"] == "not decided"
    assert row["low_pp"] == pytest.approx(-100 * (1 - 0.0125 ** (1 / 200)), rel=0.05)
    assert answer(study({"real": 0, "student": 0}, spread=0))["answer"] == "serves"


def test_the_correction_covers_all_networks_and_sets():
    alone = answer(study({"real": 200, "student": 235}, models=["resnet20"]))
    among = answer(study(EQUAL | {"student": 235}))
    assert among["serves_p"] > alone["serves_p"]


def test_networks_may_be_judged_on_fewer_images():
    table, predictions = study({"real": 200, "student": 200})
    short = {n: v[:4000] if n.startswith("vgg11_bn/") else v for n, v in predictions.items()}
    images = service_table(table, short, **FEW).groupby("model")["images"].max()
    assert images.to_dict() == {"resnet20": N, "vgg11_bn": 4000, "repvgg_a0": N}


def test_what_failed_is_not_measured_and_says_why():
    row = answer(study(EQUAL, failed=[("student", "resnet20")]))
    assert row["answer"] == "not measured" and row["reason"] == "RuntimeError: no"
    assert answer(study(EQUAL, failed=["real"]))["answer"] == "not measured"
    table, predictions = study(EQUAL)
    with pytest.raises(StudyError, match="no INT8 network"):
        service_table(table[table["method"] == "fp32"], predictions)


def test_change_changes_what_it_says():
    fp32 = np.arange(50) % 10
    assert (change(fp32, 7, 45) != fp32).sum() == 7
