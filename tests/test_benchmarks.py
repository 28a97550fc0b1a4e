"""The benchmarks' references make the same as the study; their tables hold what they promise."""

import pandas as pd
import pytest
import torch

from benchmarks import fractals, teacher
from benchmarks.grouped_generator import grouped_images
from lib.stylegan2 import Generator
from lib.teacher import BACKENDS

SMALL = {"num_layers": 2}, {"channel_base": 512, "channel_max": 16, "conv_clamp": 0.5}


@pytest.fixture
def small(monkeypatch):
    mapping, synthesis = SMALL
    monkeypatch.setitem(teacher.OFFICIAL, "synthesis_kwargs", synthesis)
    monkeypatch.setattr(teacher, "MATRIX", 64)
    return teacher.official_generator()


def test_grouped_convolutions_make_the_same_images(small):
    z, c = torch.randn(4, 512), torch.eye(10)[:4]
    found, expected = grouped_images(small, z, c), small(z, c, noise_mode="const")
    assert expected.std() > 0.1
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)


def test_operations_of_the_official_network():
    with torch.device("meta"):
        generator = Generator(**teacher.OFFICIAL)
    assert sum(weight.numel() for weight in generator.parameters()) == 20_215_315
    assert teacher.multiply_adds(generator) / 1e9 == pytest.approx(4.0, abs=0.05)


def test_the_table_compares_every_backend(small, monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(teacher, "ROOT", tmp_path)
    threads = torch.get_num_threads()
    teacher.main(["--batch-size", "4", "--turns", "2"])
    torch.set_num_threads(threads)
    table = pd.read_csv(tmp_path / "outputs" / "bench" / "teacher.csv").set_index("implementation")
    assert set(table.index) == {*BACKENDS, teacher.REFERENCE, teacher.PRODUCT}
    measured = table.drop(index=teacher.PRODUCT)
    assert (measured["images_per_s"] > 0).all() and (measured["largest_difference"] < 1e-3).all()
    assert table.loc[teacher.REFERENCE, "times_reference"] == 1
    assert (table["threads"] >= 1).all() and "openvino" in capsys.readouterr().out


def test_the_plain_loop_draws_fractals_too(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(fractals, "ROOT", tmp_path)
    plain = fractals.plain_images(3, seed=1)
    assert plain.shape == (3, 3, 32, 32) and (plain.std(axis=(1, 2, 3)) > 10).all()
    fractals.main(["--turns", "1", "--chunks", "1", "--plain", "1"])
    table = pd.read_csv(tmp_path / "outputs/bench/fractals.csv").set_index("implementation")
    assert table.loc[fractals.PLAIN, "times_plain"] == 1
    assert (table["images_per_s"] > 0).all() and "vectorised" in capsys.readouterr().out
