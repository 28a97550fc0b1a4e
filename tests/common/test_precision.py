"""Training takes the precision that it is asked for only where the processor computes in it."""

import pytest

from lib.common import machine

HAS_BFLOAT16 = machine.has_bfloat16  # before tests/conftest.py says so of every processor


@pytest.mark.parametrize(
    ("flags", "device", "wanted", "precision"),
    [
        ("avx2 fma", "cpu", "bfloat16", "float32"),
        ("avx2 avx512f avx512_vnni", "cpu", "bfloat16", "float32"),
        ("avx512f avx512_bf16", "cpu", "bfloat16", "bfloat16"),
        ("amx_bf16 amx_tile", "cpu", "bfloat16", "bfloat16"),
        ("avx2", "cuda", "bfloat16", "bfloat16"),
        ("amx_bf16", "cpu", "float32", "float32"),
    ],
)
def test_bfloat16_is_taken_where_the_processor_has_it(
    tmp_path, monkeypatch, capsys, flags, device, wanted, precision
):
    cpu = tmp_path / "cpuinfo"
    cpu.write_text(f"processor\t: 0\nflags\t\t: {flags}\n")
    monkeypatch.setattr(machine, "CPU", cpu)
    monkeypatch.setattr(machine, "has_bfloat16", HAS_BFLOAT16)
    assert machine.working_precision(wanted, device) == precision
    assert ("no bfloat16" in capsys.readouterr().out) == (wanted != precision)
