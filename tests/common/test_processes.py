"""Two processes on the CPU (gloo) against one: training and sampling."""

from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
import torch

from lib.common import processes
from lib.common.errors import StudyError
from lib.common.tensors import load_tensors
from lib.student.batches import Batch
from lib.student.distillation import distill
from lib.student.sampling import sample_student
from tests.student.conftest import OPTIONS as BASE
from tests.student.conftest import write_sets, write_student

TOLERANCE = 1e-4  # of a loss, over ten steps
OPTIONS = replace(BASE, learning_rate=2e-4, ada_kimg=0.02)
VARIANTS = {
    "default": {},
    "old generator": {"generator": "distylegan"},
    "original": {"recipe": "original"},
}


def train_and_sample(folder: Path, sets: dict[str, Path], student: Path) -> None:
    """Train each variant and sample a student into `folder`."""
    torch.set_num_threads(1)
    for name, changes in VARIANTS.items():
        (folder / name).mkdir(parents=True, exist_ok=True)
        distill(folder / name, **sets, seed=3, options=replace(OPTIONS, **changes))
    given = {"per_class": 5, "seed": 1, "batch_size": 3, "shard_size": 4}
    sample_student(folder / "images", student=student, **given)


@pytest.fixture(scope="module")
def both(tmp_path_factory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("processes")
    inputs = write_sets(folder), write_student(folder / "student.safetensors")
    threads = torch.get_num_threads()
    train_and_sample(folder / "one", *inputs)
    torch.set_num_threads(threads)
    processes.launch(train_and_sample, 2, folder / "two", *inputs)
    return folder / "one", folder / "two"


@pytest.mark.parametrize("variant", VARIANTS)
def test_two_processes_have_the_loss_curves_of_one(both, variant):
    one, two = (pd.read_csv(folder / variant / "log.csv") for folder in both)
    assert len(one) == len(two) == 10
    differs = (one - two).abs().max()
    assert differs.drop("auc").max() < TOLERANCE  # which compares images of one process
    assert variant != "old generator" or one["augment_p"].max() > 0.2
    assert not (both[1] / variant / "checkpoint.safetensors").exists()
    weights = [load_tensors(folder / variant / "student.safetensors")[0] for folder in both]
    for name, value in weights[0].items():
        torch.testing.assert_close(weights[1][name], value, rtol=0, atol=1e-2, msg=name)


def test_samples_do_not_depend_on_how_shards_were_divided(both):
    one, two = (
        {path.name: path.read_bytes() for path in (folder / "images").iterdir()} for folder in both
    )
    assert one == two
    assert len(one) == 5  # four shards and the record


def test_shares_of_all_processes_make_the_batch(monkeypatch):
    batch = Batch(torch.arange(8), torch.arange(8), torch.arange(12), 0, 0)
    monkeypatch.setattr(processes, "count", lambda: 2)
    parts = []
    for number in (0, 1):
        monkeypatch.setattr(processes, "rank", lambda number=number: number)
        parts.append(batch.share(processes.divide(4, "batch_size")))
    assert parts[0].images.tolist() == [0, 1, 4, 5]
    assert parts[1].latents.tolist() == [2, 3, 6, 7, 10, 11]
    with pytest.raises(StudyError, match=r"batch_size \(3\) must be a multiple of the 2 processes"):
        processes.divide(3, "batch_size")


def test_faults_in_a_process_are_raised_here(tmp_path):
    sets = {"samples": tmp_path / "nowhere", "real": tmp_path / "nowhere"}
    with pytest.raises(StudyError, match="^.*nowhere/samples.json is missing"):
        processes.launch(distill, 1, tmp_path, **sets, seed=3, options=OPTIONS)
