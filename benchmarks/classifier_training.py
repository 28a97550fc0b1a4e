"""Images per second of a classifier's training beside the plain loop of the textbooks.

The plain loop augments image by image with torchvision in a DataLoader and trains in float32 on
channels as torch lays them out. The study's augments whole batches, lays channels last, and takes
bfloat16 where the processor has it. Both train ResNet-20 on the same random images in batches of
128 by the same SGD and take turns; each figure is a median over the turns. Writes
outputs/bench/classifier_training.csv.
"""

import argparse
import os
import tempfile
from collections.abc import Iterator
from functools import partial
from itertools import islice
from pathlib import Path

import pandas as pd
import torch
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms

from benchmarks.report import report
from benchmarks.teacher import measure
from benchmarks.teacher_training import random_images
from lib.classifiers.build import CIFAR10_MEAN, CIFAR10_STD, build_classifier
from lib.classifiers.options import ClassifierOptions
from lib.classifiers.training import ClassifierTrainer
from lib.data.samples import SampleSet

PLAIN = "plain loop"
SHIFT, RATE, DECAY = 4, 0.1, 5e-4


class Pictures(Dataset):
    """Images one by one, transformed as torchvision's examples do."""

    def __init__(self, samples: SampleSet) -> None:
        self.pictures = [Image.fromarray(image) for image in samples.images.transpose(0, 2, 3, 1)]
        self.labels = samples.labels
        steps = [transforms.RandomCrop(32, SHIFT), transforms.RandomHorizontalFlip()]
        steps += [transforms.ToTensor(), transforms.Normalize(CIFAR10_MEAN, CIFAR10_STD)]
        self.transform = transforms.Compose(steps)

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self.transform(self.pictures[index]), int(self.labels[index])


def plain_loop(samples: SampleSet, name: str, batch: int) -> Iterator[None]:
    """Take a step of the plain loop each time."""
    model = build_classifier(name).train()
    optimizer = torch.optim.SGD(model.parameters(), RATE, 0.9, weight_decay=DECAY, nesterov=True)
    loss_of = nn.CrossEntropyLoss()
    while True:
        for images, labels in DataLoader(Pictures(samples), batch, shuffle=True, drop_last=True):
            optimizer.zero_grad()
            loss = loss_of(model(images), labels)
            loss.backward()
            optimizer.step()
            yield


def study_loop(samples: SampleSet, name: str, batch: int, precision: str) -> Iterator[None]:
    """Take a step of the study's training each time."""
    options = ClassifierOptions(
        epochs=10**6, batch_size=batch, learning_rate=RATE, weight_decay=DECAY,
        augment_shift=SHIFT, horizontal_flip=True, label_smoothing=0.0, precision=precision,
        mean=list(CIFAR10_MEAN), std=list(CIFAR10_STD),
    )  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        samples.save(folder)
        trainer = ClassifierTrainer(Path(folder), name, 1, options, "cpu")
    trainer.classifier.train()
    for epoch in range(options.epochs):
        batches = (drawn.split(batch) for drawn in trainer.draw(epoch))
        for drawn in zip(*batches, strict=True):
            trainer.step(*drawn)
            yield


def advance(loop: Iterator[None], steps: int) -> None:
    """Take the next `steps`."""
    for _ in islice(loop, steps):
        pass


def compare(turns: int, name: str, batch: int, steps: int) -> pd.DataFrame:
    """Return one row a loop: images/s and the ratio to the plain one."""
    samples = random_images(batch * steps)
    loops = {PLAIN: plain_loop(samples, name, batch)}
    for precision in ("float32", "bfloat16"):
        loops[f"study, {precision}"] = study_loop(samples, name, batch, precision)
    calls = {key: partial(advance, loop, steps) for key, loop in loops.items()}
    seconds = measure(calls, turns).median()
    rows = [
        {
            "network": name,
            "loop": key,
            "images_per_s": batch * steps / seconds[key],
            "times_plain": seconds[PLAIN] / seconds[key],
        }
        for key in loops
    ]
    return pd.DataFrame(rows)


def main(arguments: list[str] | None = None) -> None:
    """Measure, print the table, write it."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.classifier_training", description=__doc__.splitlines()[0]
    )
    parser.add_argument("--turns", type=int, default=5, help="turns; medians are kept (5)")
    parser.add_argument("--network", default="resnet20", help="a classifier's name (resnet20)")
    options = parser.parse_args([] if arguments is None else arguments)
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    table = compare(options.turns, options.network, 128, 8)
    report(table, "classifier_training", options.turns)


if __name__ == "__main__":
    import sys

    main(sys.argv[1:])
