"""The ablation: its variants, resuming, and its table."""

import pandas as pd
import pytest

from lib.ablation import MEASURES, ablation_table, variants
from lib.recipes import BASES, parse_recipe


def test_variants_change_one_thing_of_a_recipe():
    found = variants()
    for name, variant in found.items():
        changes = parse_recipe(variant.recipe)
        base = BASES["default" if name.startswith("default") else "original"]
        differs = changes ^ base
        assert len(differs) <= 1 or differs == {"one_pass", "one_state", "train_mode"}
        assert name in BASES or differs or variant.options or variant.latents == "uniform"
    assert len({str(variant) for variant in found.values()}) == len(found)


def test_gains_are_paired_by_seed_and_positive_when_better():
    values = {"original": (9.0, 7.0), "original+average": (6.0, 5.0), "default": (1.0, 2.0)}
    rows = pd.DataFrame(
        {"variant": name, "seed": k, "n": 10, "parameters": 5} | dict.fromkeys(MEASURES, value)
        for name, pair in values.items()
        for k, value in enumerate(pair)
    )
    table = ablation_table(rows).set_index("variant")
    row = table.loc["original+average"]
    assert (row["fid_teacher"], row["fid_teacher_gain"]) == (5.5, 2.5)
    assert row["fid_teacher_gain_std"] == pytest.approx(0.5**0.5)
    assert row["label_agreement_gain"] == -2.5
    assert table.loc["default", "fid_real_gain"] == 0
