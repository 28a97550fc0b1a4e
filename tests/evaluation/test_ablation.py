"""The ablation: its variants, resuming, and its table."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch

from lib.classifiers.build import build_classifier
from lib.common.errors import StudyError
from lib.common.files import hash_tree
from lib.common.tensors import save_tensors
from lib.data.samples import SampleSet
from lib.evaluation import ablation
from lib.evaluation.ablation import (
    VARIANTS,
    ablation_course,
    ablation_table,
    chosen_variants,
    load_ablation,
    run_ablation,
)
from lib.gan.training import Training
from tests.student.conftest import INFO, OPTIONS

MEASURES = ("label_agreement", "fid_real", "fid_teacher", "pixel_difference")


def test_steps_change_one_thing_of_their_base():
    changed = {
        name: len(variant.changes) + (variant.share != 1) for name, variant in VARIANTS.items()
    }
    assert list(VARIANTS)[:4] == ["original", "old generator", "samples alone", "default"]
    assert VARIANTS["old generator"].changes["generator"] == "distylegan"
    same = VARIANTS["samples alone"].changes.items() <= VARIANTS["old generator"].changes.items()
    assert same and changed["samples alone"] == changed["old generator"] - 1
    assert VARIANTS["default"].base == "samples alone" and changed["default"] == 0
    rest = list(VARIANTS.values())[4:]
    assert {variant.base for variant in rest} == {"default"}
    assert [changed[name] for name in list(VARIANTS)[4:]] == [1] * len(rest)
    for variant in VARIANTS.values():
        replace(OPTIONS, **variant.changes)


def test_gains_are_paired_by_seed_and_positive_when_better():
    values = {"original": (9.0, 7.0), "old generator": (6.0, 5.0), "default": (1.0, 2.0)}
    rows = pd.DataFrame(
        {"variant": name, "seed": k, "n": 10, "parameters": 5, "fid_real_low": 0}
        | dict.fromkeys(MEASURES, value)
        for name, pair in values.items()
        for k, value in enumerate(pair)
    )
    table = ablation_table(rows).set_index("variant")
    row = table.loc["old generator"]
    assert (row["fid_teacher"], row["fid_teacher_gain"]) == (5.5, 2.5)
    assert row["fid_teacher_gain_std"] == pytest.approx(0.5**0.5)
    assert row["label_agreement_gain"] == -2.5
    assert table.loc["original", "fid_real_gain"] == 0
    assert np.isnan(table.loc["default", "fid_real_gain"])  # its base was not run


def given(folder) -> dict:
    """Write sets of noise and an evaluator; return the arguments of an ablation."""
    rng = np.random.default_rng(0)
    for name, n in (("samples", 48), ("real/train", 24), ("real/test", 24)):
        images = rng.integers(0, 256, (n, 3, 32, 32), dtype=np.uint8)
        latents = rng.standard_normal((n, 6), np.float32) if name == "samples" else None
        SampleSet(images, np.arange(n) % 3, latents, INFO).save(folder / name)
    record = {"name": "resnet20_x0_25", "num_classes": 3, "mean": [0.5] * 3, "std": [0.5] * 3}
    torch.manual_seed(0)
    network = build_classifier(record["name"], 3)
    save_tensors(folder / "evaluator" / "classifier.safetensors", network, record)
    paths = {name: folder / name for name in ("samples", "real", "evaluator")}
    return paths | {"options": replace(OPTIONS, kimg=0.04), "per_class": 4, "seed": 1}


def test_a_killed_ablation_goes_on_to_the_same_figures(tmp_path, monkeypatch, capsys):
    names = ["original", "fewer samples"]
    run_ablation(tmp_path / "whole", **given(tmp_path), names=names)
    files = {path.split("/")[0] for path in hash_tree(tmp_path / "whole")}
    kinds = {f"{kind}-{name.replace(' ', '-')}" for kind in ("run", "images") for name in names}
    kinds = {kind + ".json" * kind.startswith("run") for kind in kinds}
    assert files == kinds | {"yardsticks.json"}
    note, steps = Training.note, []

    def killed(self, step, losses):
        steps.append(step)
        if len(steps) == 10:  # in the second variant, after its checkpoint
            raise KeyboardInterrupt
        note(self, step, losses)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Training, "note", killed)
        run_ablation(tmp_path / "parts", **given(tmp_path), names=names)
    assert steps == [0, 1, 2, 3, 4] * 2
    monkeypatch.setattr(Training, "note", lambda *a: (steps.append(a[1]), note(*a)))
    run_ablation(tmp_path / "parts", **given(tmp_path), names=names)
    assert steps[10:] == [4]
    assert hash_tree(tmp_path / "parts") == hash_tree(tmp_path / "whole")
    rows, yardsticks = load_ablation([tmp_path / "whole"])
    assert rows["variant"].tolist() == names
    assert (rows["fid_real_low"] < rows["fid_real"]).all() and (rows["n"] == 12).all()
    assert yardsticks["n_real"] == 24 and yardsticks["n_teacher"] == 36
    assert yardsticks["distances"] == {"": "Fréchet distance (resnet20_x0_25)"}
    assert ablation_table(rows)["pixel_difference"].notna().all()
    found = ablation_course(rows)
    assert list(found) == ["kimg", *(f"{v}, {m}" for m in ("distance", "AUC") for v in names)]
    assert found["kimg"].iloc[[0, -1]].tolist() == [0, 0.04] and found.iloc[-1].notna().all()


def test_a_variant_that_diverges_does_not_stop_the_others(tmp_path, monkeypatch, capsys):
    def fails(*args, options, **more):
        raise StudyError("the loss is nan")

    monkeypatch.setattr(ablation, "distill", fails)
    run_ablation(tmp_path / "out", **given(tmp_path), names=["original", "default"])
    rows, _ = load_ablation([tmp_path / "out"])
    assert rows["failed"].tolist() == ["the loss is nan"] * 2 and rows["fid_real"].isna().all()


def test_variants_are_chosen_by_name():
    assert chosen_variants([]) == VARIANTS
    assert list(chosen_variants(["default", "original"])) == ["original", "default"]
    with pytest.raises(StudyError, match="ablation_variants: defualt is none of original"):
        chosen_variants(["defualt"])
