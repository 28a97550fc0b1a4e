"""The ablation: its variants, resuming, and its table."""

import numpy as np
import pandas as pd
import pytest

from lib.common.errors import StudyError
from lib.data.samples import SampleSet
from lib.evaluation import ablation
from lib.evaluation.ablation import (
    MEASURES,
    ablation_table,
    chosen_variants,
    load_ablation,
    run_ablation,
    variants,
)
from lib.student.options import BASES, NEEDS, StudentOptions, parse_recipe

INFO = {"class_names": ["a", "b", "c"], "data": "test", "latent_distribution": "normal"}
OPTIONS = StudentOptions(epochs=1, batch_size=4, ngf=8, ndf=4, project_dim=8, pixel_epochs=1)


def test_variants_change_one_thing_of_their_base():
    found = variants()
    for name, variant in found.items():
        base = found[variant.base]
        differs = parse_recipe(variant.recipe) ^ parse_recipe(base.recipe)
        differs |= {"augment"} if variant.recipe.endswith("+augment") else set()
        differs |= {"latents"} if variant.latents != base.latents else set()
        assert len(differs) == (name != variant.base) or differs == {"one_pass"} | NEEDS["one_pass"]
        assert parse_recipe(base.recipe) >= BASES[base.recipe.partition("+")[0]]
    assert len({str(variant) for variant in found.values()}) == len(found)


def test_gains_are_paired_by_seed_and_positive_when_better():
    values = {"original": (9.0, 7.0), "original+learning_rate": (6.0, 5.0), "default": (1.0, 2.0)}
    rows = pd.DataFrame(
        {"variant": name, "seed": k, "n": 10, "parameters": 5} | dict.fromkeys(MEASURES, value)
        for name, pair in values.items()
        for k, value in enumerate(pair)
    )
    table = ablation_table(rows).set_index("variant")
    row = table.loc["original+learning_rate"]
    assert (row["fid_teacher"], row["fid_teacher_gain"]) == (5.5, 2.5)
    assert row["fid_teacher_gain_std"] == pytest.approx(0.5**0.5)
    assert row["label_agreement_gain"] == -2.5
    assert table.loc["default", "fid_real_gain"] == 0


class Weighed(ablation.Measure):
    """Measures the sum of a student's weights; keeps which runs there were."""

    runs: list[str] = []

    def __init__(self, *given) -> None:
        pass

    def __call__(self, student, seed) -> dict[str, float]:
        self.runs.append(student.config["recipe"])
        return {"weight": sum(value.sum().item() for value in student.parameters())}

    def yardsticks(self) -> dict:
        return {"n_real": 1}


def test_interrupted_ablation_trains_what_is_missing(tmp_path, monkeypatch, capsys):
    rng = np.random.default_rng(0)
    for name, n in (("normal", 8), ("uniform", 8), ("real/train", 6)):
        images = rng.integers(0, 256, (n, 3, 32, 32), dtype=np.uint8)
        latents = None if name.startswith("real") else rng.standard_normal((n, 6), np.float32)
        SampleSet(images, np.arange(n) % 3, latents, INFO).save(tmp_path / name)
    chosen = {name: variants()[name] for name in ("original", "original, uniform latents")}
    monkeypatch.setattr(ablation, "variants", lambda: chosen)
    monkeypatch.setattr(ablation, "Measure", Weighed)
    given = {
        "names": [],
        "samples": {name: tmp_path / name for name in ("normal", "uniform")},
        "real": tmp_path / "real",
        "evaluator": tmp_path / "none",
        "options": OPTIONS,
        "per_class": 1,
        "seed": 1,
    }
    out = tmp_path / "out"
    run_ablation(out, **given)
    whole = {path.name: path.read_bytes() for path in out.iterdir()}
    assert sorted(whole) == [
        "run-original.json",
        "run-original_uniform_latents.json",
        "yardsticks.json",
    ]
    (out / "run-original.json").unlink()
    run_ablation(out, **given)
    assert {path.name: path.read_bytes() for path in out.iterdir()} == whole
    assert len(Weighed.runs) == 3
    rows, yardsticks = load_ablation([out])
    assert rows["variant"].tolist() == list(chosen)
    assert rows["weight"].nunique() == 2
    assert yardsticks == {"n_real": 1}


def test_variants_are_chosen_by_name():
    assert list(chosen_variants([])) == list(variants())
    assert list(chosen_variants(["default", "original"])) == ["original", "default"]
    with pytest.raises(StudyError, match="ablation_variants: defualt is none of original"):
        chosen_variants(["defualt"])


def test_gains_need_the_recipe_that_a_variant_starts_from():
    figures = dict.fromkeys(MEASURES, 1.0) | {"n": 10, "parameters": 5, "seed": 1}
    rows = [figures | {"variant": name} for name in ("original", "default-average")]
    gains = ablation_table(pd.DataFrame(rows)).set_index("variant")["fid_teacher_gain"]
    assert gains["original"] == 0 and np.isnan(gains["default-average"])
