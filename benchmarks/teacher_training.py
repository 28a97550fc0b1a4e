"""Images per second of a teacher's training: float32 against bfloat16 feature maps.

Two trainings with the settings of params/cifar10-cpu.yaml, on random images, take turns of as
many steps as lie between two R1 penalties; each figure is a median over the turns. Writes
outputs/bench/teacher_training.csv.
"""

import argparse
import os
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from itertools import count, islice

import numpy as np
import pandas as pd
import torch

from benchmarks.report import report
from benchmarks.teacher import measure
from lib.common.files import ROOT
from lib.data.samples import SampleSet
from lib.study.params import read_profile, validate
from lib.teacher.options import TeacherOptions
from lib.teacher.training import TeacherTraining

REFERENCE, PRECISIONS = "float32", ("float32", "bfloat16")


def settings() -> TeacherOptions:
    """Return the settings of a training by params/cifar10-cpu.yaml."""
    params = validate(read_profile(ROOT / "params" / "cifar10-cpu.yaml"))
    return params.options("teacher")


def random_images(n: int) -> SampleSet:
    """Return `n` images of noise of ten classes."""
    random, labels = np.random.default_rng(0), np.arange(n) % 10
    info = {"class_names": [str(k) for k in range(10)], "data": "noise"}
    return SampleSet(random.integers(0, 256, (n, 3, 32, 32), np.uint8), labels, None, info)


def train(trainer: TeacherTraining, numbers: Iterator[int], steps: int) -> None:
    """Take the next `steps` of the steps with these numbers."""
    for step in islice(numbers, steps):
        trainer.step(step)


def compare(turns: int, options: TeacherOptions) -> pd.DataFrame:
    """Return one row a precision: images/s and the ratio to float32."""
    images, steps = random_images(10 * options.batch_size), options.r1_interval
    trainers = {
        name: TeacherTraining(images, 1, replace(options, precision=name)) for name in PRECISIONS
    }
    calls = {name: partial(train, trainer, count(), steps) for name, trainer in trainers.items()}
    seconds = measure(calls, turns).median()
    shown = steps * options.batch_size
    rows = [
        {
            "precision": name,
            "images_per_s": shown / seconds[name],
            "times_float32": seconds[REFERENCE] / seconds[name],
        }
        for name in PRECISIONS
    ]
    return pd.DataFrame(rows)


def main(arguments: list[str] | None = None) -> None:
    """Measure, print the table, write it."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.teacher_training", description=__doc__.splitlines()[0]
    )
    parser.add_argument("--turns", type=int, default=5, help="turns; medians are kept (5)")
    options = parser.parse_args([] if arguments is None else arguments)
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    report(compare(options.turns, settings()), "teacher_training", options.turns)


if __name__ == "__main__":
    import sys

    main(sys.argv[1:])
