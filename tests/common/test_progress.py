"""Lines of progress in batch runs."""

from types import SimpleNamespace

import pytest

from lib.common import progress
from lib.common.progress import PlainProgress


@pytest.fixture
def clock(monkeypatch):
    """A clock that only the test moves."""
    now = [0.0]
    monkeypatch.setattr(progress, "time", SimpleNamespace(monotonic=lambda: now[0]))
    return now


def run(clock, steps, seconds, **options):
    """Iterate over `steps`, each of so many seconds."""
    for _ in PlainProgress(range(steps), "teacher", unit="step", **{"total": None} | options):
        clock[0] += seconds


@pytest.mark.parametrize("seconds", [0.1, 1, 36])
def test_a_training_leaves_ten_lines_at_most(clock, capsys, seconds):
    run(clock, 5000, seconds)
    *lines, last = capsys.readouterr().out.splitlines()
    assert len(lines) == 9
    steps = [int(line.split("/")[0].split(": ")[1].replace(",", "")) for line in lines]
    assert steps[1:] == list(range(1000, 5000, 500))
    assert steps[0] == min(500, -(-60 // seconds))
    assert last == f"teacher: 5,000 step in {5000 * seconds:.0f} s, {1 / seconds:.3g}/s"


def test_lines_say_how_long_is_left(clock, capsys):
    run(clock, 30, 10, total=40, initial=10)
    line = capsys.readouterr().out.splitlines()[1]
    assert line == "teacher: 16/40 step, 0.1/s, 240 s left"


def test_short_work_leaves_no_line(clock, capsys):
    run(clock, 14, 1)
    assert not capsys.readouterr().out


def test_without_a_total_lines_come_ever_more_seldom(clock, capsys):
    bar = PlainProgress((), "files", None, "file")
    bar.set_postfix_str("slow")
    for _ in range(10_000):
        clock[0] += 10
        bar.update(1)
    lines = capsys.readouterr().out.splitlines()
    assert lines[:2] == ["files: 6 file, 0.1/s, slow", "files: 12 file, 0.1/s, slow"]
    assert len(lines) == 9
