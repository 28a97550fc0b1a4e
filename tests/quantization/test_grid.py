"""Export, prediction, quantization and the grid, with a small network in OpenVINO."""

import errno
import hashlib
import json
import logging
import os
import re
import shutil
from dataclasses import replace
from importlib.metadata import version
from unittest import mock

import dask
import numpy as np
import openvino as ov
import pandas as pd
import pytest
import torch
from distributed import LocalCluster
from PIL import Image
from torch import nn

from lib.calibration.sets import make_calibration_set
from lib.common.errors import Skipped, StudyError, Unavailable
from lib.common.files import ROOT, hash_tree, sha256_json
from lib.common.openvino import read_ir, save_ir
from lib.data.samples import SampleSet
from lib.quantization import grid, nncf, run
from lib.quantization.bias import bias_words, choose_bias_correction
from lib.quantization.cell import CELL_KEYS, SYNTHETIC, Cell, Grid, cells_of, divergence
from lib.quantization.grid import (
    has_failures,
    load_results,
    load_seconds_table,
    run_grid,
    time_grid,
)
from lib.quantization.models import export_ir, predict_ir
from lib.quantization.nncf import (
    accuracy_drop,
    quantize_accuracy_aware,
    quantize_default,
    quiet_nncf,
    restore_accuracy,
)
from lib.quantization.options import QuantizationOptions
from lib.quantization.plan import make_cells
from lib.quantization.pot.engine import quantize_pot
from lib.quantization.run import own_share
from lib.quantization.tables import compare_engines, per_class_table
from tests.quantization.conftest import LIGHTS as NAMES
from tests.quantization.conftest import Net, lights, train

FEW = QuantizationOptions(subset_size=20)
MODELS = ["resnet20", "vgg11_bn"]  # names of the study's, for small networks of the test's


class Restless(nn.Module):
    """Gives other logits with each call."""

    def forward(self, x):
        return torch.rand(len(x), 3)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Folders of real, validation and test images, told apart by their brightness."""
    folder = tmp_path_factory.mktemp("data")
    for seed, (name, n) in enumerate({"real": 60, "validation": 90, "test": 150}.items()):
        lights(n, seed).save(folder / name)
    return folder


@pytest.fixture(scope="module")
def classifier(data):
    return train(Net, SampleSet.load(data / "real"))


@pytest.fixture(scope="module")
def models(classifier, data, tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    for name in MODELS:
        export_ir(folder / f"{name}.xml", classifier, SampleSet.load(data / "test").images[:8])
    return folder


@pytest.fixture(scope="module")
def sets(data, tmp_path_factory):
    folder = tmp_path_factory.mktemp("sets")
    for kind in ("real", "noise", "grey"):
        source = data / "real" if kind == "real" else None
        make_calibration_set(
            folder / kind, kind=kind, per_class=15, seed=0, source=source, class_names=NAMES
        )
    return {kind: folder / kind for kind in ("real", "noise", "grey")}


@pytest.fixture(scope="module")
def places(models, sets, data):
    found = {"validation": data / "validation", "test": data / "test"}
    return found | {"models": models, "calibration": sets}


@pytest.fixture(scope="module")
def ir(models):
    return read_ir(models / "resnet20.xml")


@pytest.fixture(scope="module")
def real(sets):
    return SampleSet.load(sets["real"])


@pytest.fixture(scope="module")
def test_set(data):
    return SampleSet.load(data / "test")


@pytest.fixture(scope="module")
def validation(data):
    return SampleSet.load(data / "validation")


@pytest.fixture(scope="module")
def int8(ir, real):
    return quantize_default(ir, real, FEW, seed=1)


def hashes(folder):
    """Hash all files but those with timings."""
    paths = (path for path in folder.rglob("*") if "cells" not in path.parts)
    files = sorted(p for p in paths if p.is_file() and p.name != "seconds.csv")
    return {p.relative_to(folder): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}


def test_ir_gives_the_logits_of_torch(models, classifier, test_set):
    logits = predict_ir(models / "resnet20.xml", test_set.images)
    with torch.inference_mode():
        expected = classifier(torch.from_numpy(test_set.images).float()).numpy()
    assert logits.shape == (150, 3) and logits.dtype == np.float32
    np.testing.assert_allclose(logits, expected, atol=1e-4 * np.abs(expected).max())
    assert (logits.argmax(axis=1) == test_set.labels).mean() > 0.75


def test_export_refuses_an_ir_that_differs(tmp_path, test_set):
    with pytest.raises(StudyError, match="broken.xml: IR and torch differ"):
        export_ir(tmp_path / "broken.xml", Restless(), test_set.images[:8])
    assert not list(tmp_path.iterdir())


def test_ir_keeps_full_precision_and_equal_bytes(models, classifier, tmp_path, test_set):
    for operation in read_ir(models / "resnet20.xml").get_ops():
        assert operation.get_output_element_type(0) != ov.Type.f16
    export_ir(tmp_path / "resnet20.xml", classifier, test_set.images[:8])
    for name in ("resnet20.xml", "resnet20.bin"):
        assert (tmp_path / name).read_bytes() == (models / name).read_bytes()


def test_damaged_ir_is_named(models, tmp_path):
    with pytest.raises(StudyError, match=r"none\.xml or its \.bin is missing"):
        read_ir(tmp_path / "none.xml")
    (tmp_path / "bad.xml").write_text((models / "resnet20.xml").read_text()[:500])
    (tmp_path / "bad.bin").write_bytes(b"")
    with pytest.raises(StudyError, match=r"bad\.xml is damaged"):
        read_ir(tmp_path / "bad.xml")


def test_prediction_depends_on_neither_batch_nor_order(int8, test_set):
    logits = predict_ir(int8.model, test_set.images)
    order = np.random.default_rng(0).permutation(len(test_set))
    assert np.array_equal(logits, predict_ir(int8.model, test_set.images))
    assert np.array_equal(logits, predict_ir(int8.model, test_set.images, batch_size=7))
    assert np.array_equal(logits[order], predict_ir(int8.model, test_set.images[order]))


def test_default_quantization(int8, models, test_set, tmp_path):
    reference = predict_ir(models / "resnet20.xml", test_set.images).argmax(axis=1)
    agreement = (predict_ir(int8.model, test_set.images).argmax(axis=1) == reference).mean()
    assert agreement > 0.9
    assert int8.quantizers > 3
    save_ir(tmp_path / "int8.xml", int8.model)
    assert b'element_type="i8"' in (tmp_path / "int8.xml").read_bytes()


def test_content_and_seed_alone_decide(int8, ir, real, tmp_path):
    by_class = real.subset(np.argsort(real.labels, kind="stable"))
    assert not np.array_equal(by_class.labels, real.labels)
    made = {"first": int8, "same": quantize_default(ir, by_class, FEW, seed=1)}
    made["other"] = quantize_default(ir, real, FEW, seed=2)
    for name, quantized in made.items():
        assert quantized.images_read == 20 and sorted(quantized.labels_read) == [6, 7, 7]
        save_ir(tmp_path / name / "model.xml", quantized.model)
    first, same, other = (hashes(tmp_path / name) for name in made)
    assert first == same != other


@pytest.mark.parametrize("kind", ["none", "full"])
def test_bias_correction_is_a_choice(kind, int8, ir, real, test_set):
    other = quantize_default(ir, real, replace(FEW, bias_correction=kind), seed=1)
    logits = [predict_ir(model, test_set.images) for model in (int8.model, other.model)]
    assert not np.array_equal(*logits)
    assert (logits[0].argmax(axis=1) == logits[1].argmax(axis=1)).mean() > 0.8


@pytest.mark.parametrize("better", ["fast", "none", "tie"])
def test_best_bias_correction_keeps_the_more_accurate(better, int8, ir, validation, sets):
    broken = quantize_default(ir, SampleSet.load(sets["grey"]), FEW)

    def quantize(options):
        return int8 if better in ("tie", options.bias_correction) else broken

    best = replace(FEW, bias_correction="best")
    found = choose_bias_correction(ir, validation, best, quantize)
    assert found.bias_correction == ("none" if better == "none" else "fast")
    assert found.model is int8.model and found.other is (int8 if better == "tie" else broken)


def test_bias_correction_must_be_decided_before_quantization(ir, real, tmp_path):
    best = replace(FEW, bias_correction="best")
    with pytest.raises(StudyError, match="name fast, full or none"):
        quantize_default(ir, real, best)
    with pytest.raises(StudyError, match="name fast, full or none"):
        quantize_pot(tmp_path / "none.onnx", real, best)


def test_a_grid_with_the_best_bias_correction_tells_both(places, tmp_path, finished):
    wanted = cells(models=["resnet20"], methods=["default", "default_a6", "accuracy_aware"])
    tables, said = {}, {}
    for kind in ("fast", "none", "best"):
        options = QuantizationOptions(max_drop=0.5, bias_correction=kind)
        run_grid(tmp_path / kind, cells=wanted, options=options, **places)
        table = load_results(tmp_path / kind)[0].query("method != 'fp32'").set_index(CELL_KEYS)
        tables[kind], said[kind] = table, bias_words(table.reset_index(), 0)
    assert not said["fast"] and not said["none"] and len(tables["best"]) == 6
    for cell, row in tables["best"].iterrows():
        own, other = ("fast", "none") if row["bias_correction"] == "fast" else ("none", "fast")
        assert row["drop_pp"] == tables[own].loc[cell, "drop_pp"]
        if cell[2] == "default":
            assert row["other_drop_pp"] == pytest.approx(tables[other].loc[cell, "drop_pp"])
        else:
            assert np.isnan(row["other_drop_pp"])
    assert "of 2 default quantizations" in said["best"]
    kept = json.loads((tmp_path / "best/models/resnet20.nncf.default.real.6.json").read_text())
    assert kept["options"]["bias_correction"] in ("fast", "none")


def test_methods_of_one_base_share_its_calibration(places, tmp_path, monkeypatch):
    seen, quantize = [], nncf.quantize_default
    monkeypatch.setattr(
        nncf,
        "quantize_default",
        lambda *given, **how: seen.append(how.get("estimator")) or quantize(*given, **how),
    )
    methods = ["mse_a4", "minmax_a4", "default_a4", "mse", "minmax", "default"]
    wanted = cells(models=["resnet20"], methods=methods, calibration_sets=["real"], seeds=[0])
    run_grid(tmp_path, cells=wanted, options=FEW, **places)
    assert sorted(seen) == ["", "minmax"]


def test_losses_are_told_where_bias_corrections_differ_by_more_than_the_margin():
    row = {"model": "mine", "engine": "nncf", "calibration_set": "real", "seed": 0}
    row |= {"bias_correction": "none", "drop_pp": 0.4, "other_drop_pp": 1.3}
    table = pd.DataFrame([row, row | {"drop_pp": 1.0, "bias_correction": "fast"}])
    assert bias_words(table, 0.5).splitlines() == [
        "Bias correction: left out in 1 of 2 default quantizations.",
        "mine, nncf, real, seed 0: loses 1.30 points with the fast correction, 0.40 without",
    ]


def test_networks_may_be_judged_on_few_images_and_by_synthetic_ones(
    places, tmp_path, sets, test_set
):
    wanted = cells(
        models=["resnet20"],
        methods=["default", "accuracy_aware_synthetic"],
        calibration_sets=["real"],
    )
    options = QuantizationOptions(max_drop=0.5)
    given = places | {"synthetic": sets["noise"], "few": {"resnet20": 40}}
    run_grid(tmp_path, cells=wanted, options=options, **given)
    table, predictions, labels = load_results(tmp_path)
    assert (table["images"] == 40).all() and (table["status"] == "ok").all()
    assert {len(found) for found in predictions.values()} == {40} and len(labels) == 150
    right = predictions["resnet20/openvino/fp32/none/0/0"] == test_set.labels[:40]
    assert table["fp32_accuracy"].iloc[0] == pytest.approx(right.mean())
    assert len(per_class_table(predictions, labels, NAMES)) == 3 * len(table)


class Wider(torch.nn.Module):
    """A network with two classes more than the data."""

    def __init__(self, net):
        super().__init__()
        self.net = net

    def forward(self, x):
        logits = self.net(x)
        return torch.cat([logits, logits[:, :2] - 1], 1)


def test_networks_of_other_classes_are_judged_by_agreement(places, tmp_path, classifier, test_set):
    export_ir(tmp_path / "wide" / "resnet20.xml", Wider(classifier), test_set.images[:8])
    wanted = cells(models=["resnet20"], methods=["default"], calibration_sets=["real"])
    run_grid(tmp_path, cells=wanted, options=FEW, **places | {"models": tmp_path / "wide"})
    table, _, _ = load_results(tmp_path)
    assert (table["status"] == "ok").all() and table["accuracy"].isna().all()
    assert (table["agreement"] > 0.5).all()
    (kept,) = (tmp_path / "models").glob("*.json")
    assert json.loads(kept.read_text())["measured"]["accuracy"] is None


def test_synthetic_images_are_labelled_by_the_network(places, ir, sets):
    about = {"store": None, "options": None, "keep_seed": None, "hashes": {}}
    own = Grid(**places | about, synthetic=sets["noise"])
    judged = run.validation_set(Cell("resnet20", "nncf", SYNTHETIC), own)
    expected = predict_ir(ir, SampleSet.load(sets["noise"]).images).argmax(axis=1)
    assert np.array_equal(judged.labels, expected)
    real = run.validation_set(Cell("resnet20", "nncf", "accuracy_aware"), own)
    assert np.array_equal(real.labels, SampleSet.load(places["validation"]).labels)


def test_overflow_fix_halves_the_range_of_weights(ir, real):
    halved = {}
    for kind in ("disable", "first_layer", "enable"):
        options = replace(FEW, bias_correction="none", overflow_fix=kind)
        model = quantize_default(ir, real, options, seed=1).model
        weights = [op.data for op in model.get_ops() if op.get_type_name() == "Constant"]
        halved[kind] = [np.abs(w.astype(int)).max() <= 64 for w in weights if w.dtype == np.int8]
    assert not any(halved["disable"]) and sum(halved["first_layer"]) == 1
    assert all(halved["enable"]) and len(halved["enable"]) > 1


def test_quantization_is_silent(ir, real, capfd, caplog):
    with caplog.at_level(logging.INFO):
        quantize_default(ir, real)
    assert capfd.readouterr() == ("", "")
    assert not caplog.records


def test_errors_of_nncf_pass_through():
    with pytest.raises(ValueError, match="boom"), quiet_nncf():
        raise ValueError("boom")


def test_accuracy_aware_ends_with_a_good_default(int8, ir, real, validation):
    options = replace(FEW, max_drop=0.2, max_iterations=5)
    reused = quantize_accuracy_aware(ir, real, validation, options, seed=1, default=int8)
    assert reused is int8
    made = restore_accuracy(ir, real, validation, options, seed=1)
    assert made.labels_read == int8.labels_read and made.quantizers == int8.quantizers
    images = validation.images
    assert np.array_equal(predict_ir(made.model, images), predict_ir(int8.model, images))


def test_accuracy_aware_restores_what_grey_calibration_broke(ir, sets, validation):
    grey = SampleSet.load(sets["grey"])
    options = QuantizationOptions(subset_size=5, max_drop=0.05)
    broken = quantize_default(ir, grey, options)
    assert accuracy_drop(ir, broken.model, validation) > 0.2
    restored = quantize_accuracy_aware(ir, grey, validation, options, default=broken)
    assert accuracy_drop(ir, restored.model, validation) <= 0.05
    assert restored.quantizers < broken.quantizers


def test_empty_calibration_set_is_named(ir, real):
    with pytest.raises(StudyError, match="calibration set is empty"):
        quantize_default(ir, real.subset(np.arange(0)))


def cells(**changes):
    axes = {
        "models": MODELS,
        "methods": ["default", "accuracy_aware"],
        "calibration_sets": ["real", "noise"],
        "calibration_sizes": [6],
        "seeds": [0],
    }
    return make_cells(**axes | changes)


SMALL = {"models": ["resnet20"], "methods": ["default"]}


def start(out, places, wanted, **how):
    run_grid(out, cells=wanted, options=QuantizationOptions(max_drop=0.5), **places | how)


@pytest.fixture
def made(monkeypatch):
    """The cells that NNCF quantizes, in the order in which it does."""
    found = []

    def counted(cell, *arguments, **options):
        found.append(cell)
        return run.run_nncf(cell, *arguments, **options)

    monkeypatch.setitem(run.ENGINES, "nncf", counted)
    return found


@pytest.fixture
def cache(finished, tmp_path):
    """A copy of the finished grid's cells."""
    return shutil.copytree(finished / "cells", tmp_path / "cache")


def drop_cells(cache, n):
    for network in sorted(cache.glob("*/*.xml"))[:n]:
        shutil.rmtree(network.parent)


@pytest.fixture(scope="module")
def finished(places, tmp_path_factory):
    out = tmp_path_factory.mktemp("grid")
    start(out, places, cells())
    return out


def test_grid_writes_tidy_results(finished, test_set):
    table, predictions, labels = load_results(finished)
    assert list(table.columns) == grid.COLUMNS
    assert len(table) == 10 and (table["status"] == "ok").all()
    counts = {"default": 4, "accuracy_aware": 4, "fp32": 2}
    assert table["method"].value_counts().to_dict() == counts
    assert np.array_equal(labels, test_set.labels)
    for row in table.to_dict("records"):
        found = (predictions[cells_of(pd.DataFrame([row]))[0].name] == labels).mean()
        assert row["accuracy"] == pytest.approx(found, abs=1e-6)
        drop = 100 * (row["fp32_accuracy"] - row["accuracy"])
        assert row["drop_pp"] == pytest.approx(drop, abs=1e-3)
    fp32 = table[table["method"] == "fp32"]
    assert (fp32["agreement"] == 1).all() and (fp32["kl"] == 0).all()
    int8 = table[table["method"] != "fp32"]
    assert (int8["kl"] > 0).all() and (int8["images_read"] == 6).all()
    assert (int8["classes_read"] == 3).all()
    assert int8["size_bytes"].max() < fp32["size_bytes"].min()


def test_kept_networks_give_the_recorded_predictions(finished, test_set):
    _, predictions, _ = load_results(finished)
    kept = sorted((finished / "models").glob("*.xml"))
    assert len(kept) == 8
    for xml in kept:
        name = "/".join([*xml.stem.split("."), "0"])
        classes = predict_ir(xml, test_set.images).argmax(axis=1)
        assert np.array_equal(classes, predictions[name])


def test_kept_networks_say_how_they_were_made(finished, sets):
    table, _, _ = load_results(finished)
    for row in table[table["method"] != "fp32"].to_dict("records"):
        stem = ".".join(str(row[key]) for key in CELL_KEYS[:-1])
        about = json.loads((finished / "models" / f"{stem}.json").read_text())
        assert about["cell"] == {key: row[key] for key in CELL_KEYS}
        assert about["class_names"] == NAMES and about["test_images"] == 150
        assert about["measured"]["accuracy"] == pytest.approx(row["accuracy"], abs=1e-6)
        assert about["measured"]["images_read"] == 6
        assert about["versions"] == {name: version(name) for name in ("openvino", "nncf")}
        folder = sets[row["calibration_set"]]
        assert about["calibration_set_sha256"] == sha256_json(hash_tree(folder))


def test_a_kept_network_classifies_as_the_docs_say(finished, test_set, tmp_path, capsys):
    source = (ROOT / "docs" / "own.md").read_text()
    example = re.search(r"```python\n(import json.*?)```", source, re.S)[1]
    names = re.findall(r'"([^"\n]*(?:/models/|\.png)[^"\n]*)"', example)
    stem = finished / "models" / "resnet20.nncf.default.real.6"
    _, predictions, _ = load_results(finished)
    expected = predictions["resnet20/nncf/default/real/6/0"]
    for index in (0, 1, 2):
        Image.fromarray(test_set.images[index].transpose(1, 2, 0)).save(tmp_path / "image.png")
        own = dict(zip(names, (str(stem), str(tmp_path / "image.png")), strict=True))
        exec(re.sub("|".join(map(re.escape, names)), lambda m, own=own: own[m[0]], example), {})
        assert capsys.readouterr().out.strip() == NAMES[expected[index]]


def test_per_class_accuracy_adds_up(finished):
    table, predictions, labels = load_results(finished)
    per_class = per_class_table(predictions, labels, NAMES)
    assert len(per_class) == 3 * len(table) and (per_class["images"] == 50).all()
    keys = CELL_KEYS
    means = per_class.groupby(keys)["accuracy"].mean()
    for row in table.to_dict("records"):
        key = tuple(str(row[name]) for name in keys)
        assert means[key] == pytest.approx(row["accuracy"], abs=1e-5)


def test_seconds_are_a_table_of_their_own(finished):
    seconds = load_seconds_table(finished)
    assert list(seconds.columns) == [*CELL_KEYS, "seconds"] and len(seconds) == 8
    wide = seconds.pivot(index=["model", "calibration_set"], columns="method", values="seconds")
    assert (wide["accuracy_aware"] >= wide["default"]).all() and (wide > 0).all(axis=None)


def test_jobs_do_not_change_the_bytes(finished, places, tmp_path, cache):
    drop_cells(cache, 4)
    start(tmp_path / "out", places, cells(), jobs=2, cache=cache)
    assert hashes(tmp_path / "out") == hashes(finished)


def test_grid_resumes_where_it_was_killed(finished, places, tmp_path, cache, made, monkeypatch):
    drop_cells(cache, 3)
    out = tmp_path / "out"

    def killed(cell, *arguments, **options):
        if made:
            raise KeyboardInterrupt
        made.append(cell)
        return run.run_nncf(cell, *arguments, **options)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setitem(run.ENGINES, "nncf", killed)
        start(out, places, cells(), cache=cache)
    assert not (out / "results.csv").exists()
    start(out, places, cells(), cache=cache)
    assert len(made) == len(set(made)) == 3
    assert hashes(out) == hashes(finished)
    start(out, places, cells(), cache=cache)  # finished: nothing is run again
    next((out / "models").glob("*.json")).unlink()
    start(out, places, cells(), cache=cache)  # a network is no longer there: it is copied again
    assert len(made) == 3 and hashes(out) == hashes(finished)


def test_a_grid_runs_the_cells_alone_that_the_last_one_lacks(
    finished, places, sets, tmp_path, cache, made
):
    others = places | {"calibration": sets | {"noise": sets["grey"]}}
    start(tmp_path, others, cells(), cache=cache)
    assert [each.calibration_set for each in made] == ["noise"] * 4
    for load in (lambda folder: load_results(folder)[0], load_seconds_table):
        found, earlier = (load(f).set_index(CELL_KEYS) for f in (tmp_path, finished))
        noise = found.index.get_level_values("calibration_set") == "noise"
        assert found[~noise].equals(earlier[~noise]) and not found[noise].equals(earlier[noise])
    assert len(list(cache.iterdir())) == 10  # none of the first grid's noise


@pytest.mark.parametrize("what", ["cpu_flags", "version", "code_fingerprint"])
def test_cells_of_other_code_tools_or_processors_are_not_taken(
    what, places, tmp_path, cache, made, monkeypatch
):
    start(tmp_path / "same", places, cells(**SMALL), cache=cache)
    assert not made
    monkeypatch.setattr(grid, what, lambda *_: "another")
    start(tmp_path / "changed", places, cells(**SMALL), cache=cache)
    assert len(made) == 2


def test_a_cell_that_the_cache_holds_in_part_is_run_again(finished, places, tmp_path, cache, made):
    next(cache.glob("*/*.bin")).unlink()
    start(tmp_path / "out", places, cells(), cache=cache)
    assert len(made) == 1 and hashes(tmp_path / "out") == hashes(finished)
    assert len(list(cache.glob("*/*.bin"))) == 8


def test_failed_and_skipped_cells_stop_nothing_and_are_tried_again(
    places, tmp_path, cache, made, monkeypatch
):
    def failing(cell, *arguments, **options):
        if cell.calibration_set == "noise":
            raise RuntimeError("no\nluck")
        return run.run_nncf(cell, *arguments, **options)

    def missing(*arguments, **options):
        raise Skipped("Python is too new")

    out, wanted = tmp_path / "out", cells(**SMALL)
    with monkeypatch.context() as patch:
        patch.setitem(run.ENGINES, "nncf", failing)
        patch.setitem(run.ENGINES, "pot", missing)
        patch.setattr(run, "pot_python", lambda again: None)
        start(out, places, wanted + cells(**SMALL, engines=("pot",)))
    table, predictions, _ = load_results(out)
    assert table["status"].tolist() == ["ok", "ok", "error", "skipped", "skipped"]
    assert table["error"].tolist()[2:4] == ["RuntimeError: no luck", "Skipped: Python is too new"]
    assert table["accuracy"].notna().tolist() == [True, True, False, False, False]
    assert len(predictions) == 2 and has_failures(out)
    start(out, places, wanted)
    assert [cell.calibration_set for cell in made] == ["noise"] and not has_failures(out)
    start(tmp_path / "at once", places, wanted, cache=cache)
    assert hashes(out) == hashes(tmp_path / "at once") and len(load_seconds_table(out)) == 2


def test_pot_that_cannot_be_had_is_told_once_and_skipped(places, tmp_path, monkeypatch):
    asked = []

    def refuse(again=False):
        asked.append(again)
        raise Unavailable("POT's environment could not be made: no network")

    monkeypatch.setattr(run, "pot_python", refuse)
    start(tmp_path, places, cells(**SMALL, engines=("nncf", "pot")))
    table, predictions, _ = load_results(tmp_path)
    skipped = table[table["engine"] == "pot"]
    assert (skipped["status"] == "skipped").all() and len(skipped) == 2
    assert set(skipped["error"]) == {"Unavailable: POT's environment could not be made: no network"}
    assert compare_engines(table, predictions).empty
    start(tmp_path, places, cells(**SMALL))
    assert asked == [True]


def test_a_cluster_gives_the_same_bytes(finished, places, tmp_path, cache):
    drop_cells(cache, 4)
    threads = mock.patch.dict(os.environ)  # into which the cluster writes numbers of threads
    options = {"n_workers": 2, "threads_per_worker": 1, "scheduler_port": 0}
    with threads, LocalCluster(dashboard_address=None, **options) as cluster:
        address = cluster.scheduler_address
        start(tmp_path / "out", places, cells(), scheduler=address, cache=cache)
    assert hashes(tmp_path / "out") == hashes(finished)


def test_a_cluster_that_is_not_there_is_named(places, tmp_path):
    with (
        dask.config.set({"distributed.comm.timeouts.connect": "1s"}),
        pytest.raises(StudyError, match="scheduler tcp://127.0.0.1:9 cannot be reached"),
    ):
        start(tmp_path, places, cells(), scheduler="tcp://127.0.0.1:9")


def test_a_set_for_each_model_is_read_by_its_model(places, sets, tmp_path):
    shutil.copytree(sets["noise"], tmp_path / "own" / MODELS[0])
    places = places | {"calibration": {"zeroq": tmp_path / "own"}}
    start(tmp_path / "grid", places, cells(methods=["default"], calibration_sets=["zeroq"]))
    table, _, _ = load_results(tmp_path / "grid")
    rows = table[table["calibration_set"] == "zeroq"].set_index("model")
    assert rows["status"].tolist() == ["ok", "skipped"]
    assert f"there is none for {MODELS[1]}" in rows.loc[MODELS[1], "error"]
    assert rows.loc[MODELS[0], "images_read"] == 6


def test_a_full_disk_is_no_fault_of_the_cell(places, tmp_path, monkeypatch):
    def full(*arguments, **options):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setitem(run.ENGINES, "nncf", full)
    with pytest.raises(OSError, match="No space left"):
        start(tmp_path, places, cells(**SMALL))
    assert not (tmp_path / "results.csv").exists()


def test_other_options_are_other_cells(places, tmp_path, cache, made):
    options = QuantizationOptions(max_drop=0.4)
    run_grid(tmp_path / "out", cells=cells(**SMALL), options=options, cache=cache, **places)
    assert len(made) == 2


def test_missing_inputs_are_named(places, tmp_path):
    with pytest.raises(StudyError, match="mobilenetv2_x0_5.xml is missing"):
        start(tmp_path, places, cells(models=["mobilenetv2_x0_5"]))
    with pytest.raises(StudyError, match="cells name dream"):
        start(tmp_path, places, cells(calibration_sets=["dream"]))
    with pytest.raises(StudyError, match="results.csv is missing"):
        load_results(tmp_path)


def test_speeds_are_a_table_of_their_own(finished, models, data, tmp_path):
    how = {"calibration_set": "real", "repeats": 1}
    time_grid(tmp_path, grid=finished, models=models, test=data / "test", **how)
    table = pd.read_csv(tmp_path / "timings.csv")
    assert table.columns.tolist() == ["model", "engine", "method", "latency_ms", "throughput"]
    assert table["method"].tolist() == ["fp32", "accuracy_aware", "default"] * 2
    assert (table[["latency_ms", "throughput"]] > 0).all(axis=None)


def test_divergence_by_hand():
    reference = np.log(np.array([[0.5, 0.5], [0.9, 0.1]]))
    other = np.log(np.array([[0.25, 0.75], [0.9, 0.1]]))
    expected = 0.5 * (0.5 * np.log(2) + 0.5 * np.log(2 / 3))
    assert divergence(reference, other) == pytest.approx(expected)
    assert divergence(reference, reference + 7) == pytest.approx(0)


def test_each_process_has_a_share_of_the_processors_for_itself(tmp_path):
    with own_share(tmp_path, 3) as first, own_share(tmp_path, 3) as second:
        assert (first, second) == (0, 1)
    with own_share(tmp_path, 3) as again, own_share(tmp_path, 1) as one_too_many:
        assert (again, one_too_many) == (0, 0)
