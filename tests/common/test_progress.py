"""Lines of progress in batch runs."""

from types import SimpleNamespace

import numpy as np

from lib.common.progress import PlainProgress


def test_hours_of_work_leave_few_lines_and_no_long_silence(monkeypatch, capsys):
    clock = iter(range(100_000))
    monkeypatch.setattr("lib.common.progress.time", SimpleNamespace(monotonic=lambda: next(clock)))
    bar = PlainProgress((), "teacher", 7200, "step", 0)
    for _ in range(7200):
        bar.update(1)
    lines = capsys.readouterr().out.splitlines()
    steps = [int(line.split("/")[0].split(": ")[1].replace(",", "")) for line in lines]
    gaps = np.diff([0, *steps])
    assert gaps[0] == gaps[1] == 15
    assert 30 < len(lines) < 60 and gaps.max() == 300
    assert lines[0] == "teacher: 15/7,200 step, 1/s, 7185 s left"
