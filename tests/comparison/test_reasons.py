"""What a set's ranges do to real activations, by hand; which measure ranks the harm."""

import numpy as np
import openvino as ov
import pandas as pd
import pytest
import torch
from openvino import opset13

from lib.common.errors import StudyError
from lib.common.openvino import save_ir
from lib.common.tensors import save_tensors
from lib.comparison.reasons import (
    NARROWEST,
    log2_width,
    measure_reasons,
    network_reasons,
    prediction_table,
    reason_table,
)
from lib.data.samples import SampleSet
from lib.quantization.activations import activations, batches
from lib.quantization.fake_quantize import Quantizer, entering

SHARES = {"a": 0.1, "b": 0.2, "c": 0.3}


def network(low, high, name="quantizer"):
    """A network of one quantizer: of all channels, or of each of the three."""
    images = opset13.parameter([-1, 3, 32, 32], np.float32, name="images")
    shape = (1, len(low), 1, 1)
    ends = [opset13.constant(np.array(end, np.float32).reshape(shape)) for end in (low, high)]
    rounded = opset13.fake_quantize(images, *ends, *ends, 256)
    rounded.set_friendly_name(name)
    return ov.Model([rounded], [images])


def half_and_half():
    """Twelve images: channel 0 is 0, channel 1 is 100, channel 2 is 100 above and 200 below."""
    images = np.zeros((12, 3, 32, 32), np.uint8)
    images[:, 1:] = 100
    images[:, 2, 16:] = 200
    return images


@pytest.fixture
def files(tmp_path):
    """The same network with the ranges of several sets."""
    ends = {"real": ([0], [200]), "narrow": ([0], [100]), "wide": ([0], [800])}
    ends["channels"] = ([0, 0, 0], [1, 50, 400])
    for name, (low, high) in ends.items():
        save_ir(tmp_path / f"{name}.xml", network(low, high))
    return {name: tmp_path / f"{name}.xml" for name in ends}


def test_ranges_by_hand(files):
    real = half_and_half()
    table = network_reasons(files, dict.fromkeys(files, real), real).set_index("calibration_set")
    assert table["layer"].tolist() == [0] * 4
    assert table.loc["real", ["clipped", "wasted", "log2_width", "gram"]].tolist() == [0, 0, 0, 0]
    assert table.loc["narrow", ["wasted", "log2_width"]].tolist() == [0, -1]
    assert table.loc["narrow", "clipped"] == pytest.approx(1 / 6, abs=0.08)  # random places
    assert table.loc["wide", ["clipped", "wasted", "log2_width"]].tolist() == [0, 0.75, 2]
    # channel 0 wastes all its levels, 1 clips all it has, 2 wastes three quarters
    assert table.loc["channels", "clipped"] == pytest.approx(1 / 3, abs=0.1)
    assert table.loc["channels", "wasted"] == pytest.approx((1 + 1 + 0.75) / 3)


def test_gram_matrices_by_hand(files):
    real = half_and_half()
    found = activations(entering(network([0], [255])), batches(real, 10))
    assert found[0].values.shape == (10, 256)  # whole batches
    expected = [[0, 0, 0], [0, 1e4, 1.5e4], [0, 1.5e4, 2.5e4]]
    np.testing.assert_allclose(found[0].gram, expected)
    sets = {"real": real, "narrow": real // 2}  # a quarter of each product is left
    some = {name: files[name] for name in sets}
    table = network_reasons(some, sets, real).set_index("calibration_set")
    assert table["gram"].tolist() == [0, pytest.approx(0.75)]


def test_networks_of_tokens():
    images = opset13.parameter([-1, 3, 32, 32], np.float32)
    tokens = opset13.reshape(images, [0, 3, 1024], special_zero=True)
    ends = [opset13.constant(np.float32(end)) for end in (0, 255)]
    model = ov.Model([opset13.fake_quantize(tokens, *ends, *ends, 256)], [images])
    found = activations(entering(model), batches(half_and_half(), 6))
    assert found[0].gram.shape == (1024, 1024) and len(found[0].values) == 12


def test_other_quantizers_are_refused(files, tmp_path):
    save_ir(tmp_path / "other.xml", network([0], [1], "another"))
    images = half_and_half()
    with pytest.raises(StudyError, match="have other quantizers"):
        some = {"real": files["real"], "other": tmp_path / "other.xml"}
        network_reasons(some, dict.fromkeys(some, images), images)


def test_channels_without_a_range_do_not_count():
    def ranges(high):
        return Quantizer(None, np.zeros(2), np.array(high, float), "q", 256)

    assert log2_width(ranges([5, 1]), ranges([0, 2])) == -1
    assert np.isnan(log2_width(ranges([5, 1]), ranges([0, 0])))
    assert log2_width(ranges([0, 0]), ranges([1, 1])) == np.log2(NARROWEST)


def test_the_table_is_of_the_kept_networks_of_default_quantization(tmp_path):
    sets = {name: tmp_path / name for name in ("real", "noise", "zeroq")}
    labels = np.zeros(12, np.int64)
    samples = SampleSet(half_and_half(), labels, None, {"class_names": ["a"], "data": "test"})
    for folder in (sets["real"], sets["noise"], sets["zeroq"] / "m"):
        samples.save(folder)
    grid = tmp_path / "grid"
    rows = []
    for model, kinds in (("m", ["real", "noise", "zeroq"]), ("n", ["noise"])):
        for kind in kinds:
            stem = f"{model}.nncf.default.{kind}.300"
            save_ir(grid / "models" / f"{stem}.xml", network([0], [200 if kind == "real" else 100]))
            rows += [(model, "nncf", "default", kind, size, "ok") for size in (30, 300)]
        rows.append((model, "pot", "default", "real", 300, "ok"))
    rows.append(("m", "nncf", "default", "grey", 300, "error"))
    keys = ["model", "engine", "method", "calibration_set", "calibration_size", "status"]
    results = pd.DataFrame(rows, columns=keys).assign(seed=0, error="")
    results.to_csv(grid / "results.csv", index=False)
    save_tensors(grid / "predictions.safetensors", {"labels": torch.from_numpy(labels)}, {})
    measure_reasons(tmp_path / "out", grid=grid, sets=sets, real=sets["real"], seed=1)
    table = pd.read_csv(tmp_path / "out/reasons.csv")
    assert set(table["model"]) == {"m"}
    assert table["calibration_set"].tolist() == ["real", "noise", "zeroq"]
    assert table["log2_width"].tolist() == [0, -1, -1]


def test_a_measure_that_ranks_the_harm_has_one_and_its_opposite_minus_one():
    reasons = pd.DataFrame(
        [("m", kind, layer, c, -c, 1.0) for layer in (0, 1) for kind, c in SHARES.items()],
        columns=["model", "calibration_set", "layer", "clipped", "wasted", "gram"],
    )
    services = pd.DataFrame(
        {"model": "m", "calibration_set": ["a", "b", "c"], "difference_pp": [-1.0, -2.0, -9.0]}
    )
    joined = reason_table(reasons, services)
    assert joined["clipped"].tolist() == pytest.approx([0.1, 0.2, 0.3])
    row = prediction_table(joined).iloc[0]
    assert (row["sets"], row["clipped"], row["wasted"]) == (3, 1, -1)
    assert np.isnan(row["gram"]) and "fid" not in row
