"""Train, store, load and run the study's classifiers."""

import csv
import io
import math
import pickle
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import SGD

from lib.classifiers.build import NormalizedClassifier, build_classifier, features_and_logits
from lib.common.errors import StudyError
from lib.common.files import write_text
from lib.common.progress import progress
from lib.common.seeds import derive_seed, torch_generator
from lib.common.tensors import (
    fill_module,
    load_checkpoint,
    load_tensors,
    load_weights,
    save_checkpoint,
    save_weights,
)
from lib.data.samples import SampleSet

WEIGHTS = "classifier.safetensors"
LOG = "log.csv"
CHECKPOINT = "checkpoint.safetensors"
COLUMNS = ("epoch", "step", "learning_rate", "loss", "accuracy")
WARMUP = 0.25
"""The part of the training in which the learning rate rises."""


def train_classifier(
    out: Path,
    *,
    real: Path,
    name: str,
    seed: int,
    epochs: int,
    batch_size: int,
    learning_rate: float,
    weight_decay: float,
    augment_shift: int,
    horizontal_flip: bool,
    label_smoothing: float,
    mean: Sequence[float],
    std: Sequence[float],
    device: str = "cpu",
) -> None:
    """Train the classifier `name` on the SampleSet `real`; write its weights and log into `out`.

    SGD with Nesterov momentum 0.9; the learning rate rises to `learning_rate` over the first
    quarter and falls to 0 along a cosine. Images are shifted by up to `augment_shift` pixels
    (black comes in at the border) and mirrored at random if `horizontal_flip`. `mean` and `std`
    are those of images in [0, 1]. Each epoch ends in a checkpoint; a run that was killed resumes
    there and, on the CPU with as many threads, ends in the same bytes. Raises `StudyError` for a
    set without images, with fewer than two classes or with labels that have no name, and where
    the loss is no longer finite.
    """
    options = {key: value for key, value in locals().items() if key not in ("out", "real")}
    options |= {"mean": list(mean), "std": list(std)}
    run = _Run(_checked(SampleSet.load(real), real), options)
    run.resume(out / CHECKPOINT)
    left = range(run.epoch, epochs)
    bar = progress(left, f"classifier {name}", total=epochs, unit="epoch", initial=run.epoch)
    for _ in bar:
        row = run.train_epoch()
        run.save(out / CHECKPOINT)
        bar.set_postfix_str(f"loss {row['loss']:.3f}")
    config = {key: options[key] for key in ("name", "mean", "std", "seed")}
    config |= {"num_classes": len(run.class_names), "class_names": run.class_names}
    save_weights(out / WEIGHTS, run.classifier.model, config)
    write_text(out / LOG, _csv(run.rows))
    (out / CHECKPOINT).unlink(missing_ok=True)


def load_classifier(path: Path | str, device: str = "cpu") -> NormalizedClassifier:
    """Load a classifier of pixel values in [0, 255], in eval mode, from `train_classifier`'s file.

    `path` may also be the folder of that file.
    """
    path = Path(path) / WEIGHTS if Path(path).is_dir() else Path(path)
    state, config = load_weights(path)
    if not {"name", "num_classes", "mean", "std"} <= set(config):
        raise StudyError(f"{path} holds no classifier: give a file that train_classifier wrote")
    model = fill_module(build_classifier(config["name"], config["num_classes"]), state, path)
    return NormalizedClassifier(model, config["mean"], config["std"]).to(device).eval()


def load_published(path: Path | str, name: str, device: str = "cpu") -> NormalizedClassifier:
    """Load a `.pt` state dict of chenyaofo/pytorch-cifar-models; nothing in it is executed."""
    if not Path(path).is_file():
        raise StudyError(f"{path} is missing: download the weights of {name} to it")
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError) as error:
        reason = str(error).splitlines()[0]
        raise StudyError(f"{path} is no plain state dict ({reason}): download it again") from error
    model = fill_module(build_classifier(name), state, path)
    return NormalizedClassifier(model).to(device).eval()


def predict(model: nn.Module, images: np.ndarray, batch_size: int = 256) -> np.ndarray:
    """Return the logits `(n, num_classes) float32` of images `(n, 3, 32, 32) uint8`.

    `model` takes pixel values in [0, 255], as a `NormalizedClassifier` does, and is in eval mode.
    """
    return predict_with_features(model, images, batch_size)[1]


@torch.inference_mode()
def predict_with_features(
    model: nn.Module, images: np.ndarray, batch_size: int = 256
) -> tuple[np.ndarray, np.ndarray]:
    """Return penultimate features `(n, d)` and logits `(n, num_classes)`, both float32."""
    if len(images) == 0:
        raise StudyError("predict: there are no images; give at least one")
    if model.training:
        raise StudyError("predict: the model is in training mode; call its eval() first")
    device = next(model.parameters()).device
    parts = []
    for start in range(0, len(images), batch_size):
        batch = torch.tensor(images[start : start + batch_size], device=device).float()
        batch = batch.contiguous(memory_format=torch.channels_last)
        parts.append([part.cpu().numpy() for part in features_and_logits(model, batch)])
    features, logits = (np.concatenate(part) for part in zip(*parts, strict=True))
    return features, logits


def accuracy(logits: np.ndarray, labels: np.ndarray) -> float:
    """Return top-1 accuracy in [0, 1] of logits `(n, num_classes)` against labels `(n,)`."""
    if len(labels) == 0 or len(logits) != len(labels):
        raise StudyError(f"accuracy: {len(logits)} predictions for {len(labels)} labels")
    return float(np.mean(np.argmax(logits, axis=1) == labels))


class _Run:
    """A training run between two epochs: network, optimizer, log and the number of epochs done."""

    def __init__(self, samples: SampleSet, options: dict) -> None:
        self.options = options | {"images_crc32": zlib.crc32(samples.images.tobytes())}
        self.class_names = list(samples.class_names)
        self.device = torch.device(options["device"])
        shift = options["augment_shift"]
        images = torch.from_numpy(samples.images).to(self.device)
        self.padded = F.pad(images, (shift, shift, shift, shift))
        self.labels = torch.from_numpy(samples.labels).to(self.device)
        with self._seeded("weights"):
            model = build_classifier(options["name"], len(self.class_names))
        self.classifier = NormalizedClassifier(model, options["mean"], options["std"])
        self.classifier.to(self.device)
        decay = options["weight_decay"]
        self.optimizer = SGD(
            model.parameters(), lr=0.0, momentum=0.9, nesterov=True, weight_decay=decay
        )
        self.parts = ({"model": model}, {"sgd": self.optimizer})
        self.epoch = 0
        self.rows: list[dict] = []

    def resume(self, path: Path) -> None:
        """Continue from a checkpoint, if there is one of the same images and options."""
        if path.exists() and load_tensors(path)[1]["state"]["options"] == self.options:
            state = load_checkpoint(path, *self.parts)
            self.epoch, self.rows = state["epoch"], state["rows"]

    def save(self, path: Path) -> None:
        """Write a checkpoint."""
        state = {"epoch": self.epoch, "rows": self.rows, "options": self.options}
        save_checkpoint(path, *self.parts, state)

    def train_epoch(self) -> dict:
        """Train for one epoch (whole batches only) and return its row of the log."""
        draws = self._draw()
        size = min(self.options["batch_size"], len(draws.order))
        steps = len(draws.order) // size
        losses, hits = [], []
        self.classifier.train()
        with self._seeded("dropout", self.epoch):
            for step in range(steps):
                self._set_learning_rate(self.epoch * steps + step, steps * self.options["epochs"])
                loss, right = self._step(draws.batch(step * size, size))
                losses.append(loss)
                hits.append(right)
        self._check_finite(torch.stack(losses), steps)
        self.epoch += 1
        row = {"epoch": self.epoch, "step": self.epoch * steps}
        row["learning_rate"] = self.optimizer.param_groups[0]["lr"]
        row["loss"] = torch.stack(losses).mean().item()
        row["accuracy"] = torch.stack(hits).sum().item() / (steps * size)
        self.rows.append(row)
        return row

    def _step(self, draws: "Draws") -> tuple[Tensor, Tensor]:
        """Update the weights by one batch; return its loss and how many were right."""
        images = augment(self.padded, draws).float().contiguous(memory_format=torch.channels_last)
        labels = self.labels[draws.order]
        with torch.autocast(self.device.type, torch.bfloat16, enabled=images.is_cuda):
            logits = self.classifier(images)
        smoothing = self.options["label_smoothing"]
        loss = F.cross_entropy(logits.float(), labels, label_smoothing=smoothing)
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        return loss.detach(), (logits.argmax(1) == labels).sum()

    def _set_learning_rate(self, step: int, steps: int) -> None:
        """Rise linearly over the part `WARMUP` of all steps, then fall along a cosine to 0."""
        done = (step + 1) / (steps + 1)
        if done < WARMUP:
            factor = done / WARMUP
        else:
            factor = (1 + math.cos(math.pi * (done - WARMUP) / (1 - WARMUP))) / 2
        self.optimizer.param_groups[0]["lr"] = factor * self.options["learning_rate"]

    def _draw(self) -> "Draws":
        options, n = self.options, len(self.labels)
        names = ("classifier", options["name"], "epoch", self.epoch)
        generator = torch_generator(options["seed"], *names)
        positions = 2 * options["augment_shift"] + 1
        order = torch.randperm(n, generator=generator)
        rows = torch.randint(positions, (n,), generator=generator)
        columns = torch.randint(positions, (n,), generator=generator)
        mirrored = (torch.rand(n, generator=generator) < 0.5) & options["horizontal_flip"]
        return Draws(*(drawn.to(self.device) for drawn in (order, rows, columns, mirrored)))

    @contextmanager
    def _seeded(self, *names: str | int) -> Iterator[None]:
        """Seed torch's global generators for a block (weights, dropout); restore them after it."""
        seed = derive_seed(self.options["seed"], "classifier", self.options["name"], *names)
        devices = [self.device] if self.device.type == "cuda" else []
        with torch.random.fork_rng(devices):
            torch.manual_seed(seed)
            yield

    def _check_finite(self, losses: Tensor, steps: int) -> None:
        bad = (~torch.isfinite(losses)).nonzero().flatten()
        if len(bad):
            step, loss = self.epoch * steps + bad[0].item() + 1, losses[bad[0]].item()
            peak = self.options["learning_rate"]
            raise StudyError(
                f"{self.options['name']}: the loss at step {step} is {loss}; "
                f"try a learning rate below {peak:g}"
            )


@dataclass(frozen=True)
class Draws:
    """What an epoch or a batch draws: the images, their places in the padding, which to mirror."""

    order: Tensor  # (n,) int64, indices of images
    rows: Tensor  # (n,) int64 in [0, 2 * shift]; shift means in the middle
    columns: Tensor  # (n,) int64, likewise
    mirrored: Tensor  # (n,) bool

    def batch(self, start: int, size: int) -> "Draws":
        """Return the draws `start … start + size - 1`."""
        part = slice(start, start + size)
        return Draws(self.order[part], self.rows[part], self.columns[part], self.mirrored[part])


def augment(padded: Tensor, draws: Draws) -> Tensor:
    """Cut `(len(draws.order), 3, 32, 32)` uint8 out of all padded images `(n, 3, h, w)` uint8."""
    across = torch.arange(32, device=padded.device)
    rows = draws.rows[:, None] + across
    columns = draws.columns[:, None] + torch.where(draws.mirrored[:, None], 31 - across, across)
    channels = torch.arange(3, device=padded.device)[:, None, None]
    return padded[
        draws.order[:, None, None, None],
        channels,
        rows[:, None, :, None],
        columns[:, None, None, :],
    ]


def _checked(samples: SampleSet, path: Path) -> SampleSet:
    if len(samples) == 0:
        raise StudyError(f"{path} holds no images: a classifier needs some to train on")
    if len(np.unique(samples.labels)) < 2:
        raise StudyError(f"{path} holds images of one class only: a classifier needs two or more")
    if samples.labels.min() < 0 or samples.labels.max() >= len(samples.class_names):
        raise StudyError(f"{path}: its labels go beyond its {len(samples.class_names)} class names")
    return samples


def _csv(rows: list[dict]) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()
