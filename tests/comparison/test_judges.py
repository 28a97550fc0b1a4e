"""Whether two judges of accuracy-aware quantization decide alike, on planted results."""

import pandas as pd
import pytest

from lib.comparison.judges import JUDGES, judges_table, judges_words

KEYS = ["model", "engine", "method", "calibration_set", "calibration_size", "seed", "status"]
MEASURED = ["agreement", "quantizers", "drop_pp"]


def results(*rows):
    """Rows of model, method, agreement and quantizers."""
    whole = [
        [model, "nncf", method, "real", 300, 0, "ok", agreement, quantizers, 100 * (1 - agreement)]
        for model, method, agreement, quantizers in rows
    ]
    return pd.DataFrame(whole, columns=[*KEYS, *MEASURED])


def test_judges_are_compared_network_by_network():
    table = judges_table(
        results(
            ("a", "default", 0.9, 10),
            ("a", "accuracy_aware", 0.95, 7),
            ("a", "accuracy_aware_synthetic", 0.94, 8),
            ("b", "default", 0.99, 12),
            ("b", "accuracy_aware", 0.99, 12),
            ("b", "accuracy_aware_synthetic", 0.995, 11),
            ("c", "default", 0.5, 9),
            ("c", "accuracy_aware", 0.6, 5),
        )
    )
    assert table["model"].tolist() == ["a", "b"]
    assert table["given_real"].tolist() == [3, 0] and table["given_synthetic"].tolist() == [2, 1]
    assert table["drop_synthetic"].tolist() == pytest.approx([6.0, 0.5])
    said = judges_words(table)
    assert "alike in 1 of 2 quantizations: real images have 1 repaired, synthetic ones 2" in said
    assert "less that under the real one: -1.0 to +0.5 points" in said


def test_nothing_to_repair_is_no_agreement():
    same = [("a", method, 0.99, 10) for method in ("default", *JUDGES.values())]
    assert "Neither judge finds anything" in judges_words(judges_table(results(*same)))


def test_one_judge_alone_is_said_to_be():
    table = judges_table(results(("a", "default", 0.9, 10), ("a", "accuracy_aware", 0.95, 7)))
    assert table.empty and "under both judges" in judges_words(table)
