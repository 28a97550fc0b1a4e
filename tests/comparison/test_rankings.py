"""Orders of the calibration sets by accuracy, agreement and divergence."""

import numpy as np
import pytest

from lib.comparison.rankings import rank_correlations, rank_sets, ranking_words
from tests.comparison.conftest import degradation


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
