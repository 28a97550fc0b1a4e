"""Train the study's classifiers; load and run them."""

import math
import zlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import asdict
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.optim import SGD, AdamW, Optimizer

from lib.classifiers.build import NormalizedClassifier, build_classifier, features_and_logits
from lib.classifiers.names import family
from lib.classifiers.options import ClassifierOptions
from lib.common.errors import StudyError
from lib.common.files import write_text
from lib.common.machine import working_precision
from lib.common.progress import progress
from lib.common.seeds import derive_seed, torch_generator
from lib.common.tensors import (
    fill_module,
    load_checkpoint,
    load_tensors,
    save_checkpoint,
    save_tensors,
)
from lib.data.samples import SampleSet

WEIGHTS = "classifier.safetensors"
COLUMNS = ["epoch", "step", "learning_rate", "loss", "accuracy"]
WARMUP = 0.25
"""The part of the training in which the learning rate rises."""
ADAMW_DECAY = 0.05
"""Weight decay of transformers, which take AdamW."""


def train_classifier(
    out: Path,
    *,
    real: Path,
    name: str,
    seed: int,
    options: ClassifierOptions,
    device: str = "cpu",
) -> None:
    """Train the classifier `name` on the SampleSet `real`; write its weights and log into `out`.

    Each epoch ends in a checkpoint; a run that was killed resumes there and, on the CPU with as
    many threads, ends in the same bytes. Raises `StudyError` where the set has fewer than two
    classes or labels without a name, or the loss is no longer finite.
    """
    checkpoint = out / "checkpoint.safetensors"
    run = ClassifierTrainer(real, name, seed, options, device)
    parts = {"model": run.model}, {"sgd": run.optimizer}
    if checkpoint.exists() and load_tensors(checkpoint)[1]["state"]["options"] == run.made_from:
        run.rows = load_checkpoint(checkpoint, *parts)["rows"]
    done = len(run.rows)
    epochs = range(done, options.epochs)
    bar = progress(epochs, f"classifier {name}", options.epochs, "epoch", done)
    for epoch in bar:
        run.train_epoch(epoch)
        save_checkpoint(checkpoint, *parts, {"rows": run.rows, "options": run.made_from})
        bar.set_postfix_str(f"loss {run.rows[-1]['loss']:.3f}")
    config = {"name": name, "seed": seed, "mean": options.mean, "std": options.std}
    config |= {"num_classes": len(run.class_names), "class_names": run.class_names}
    save_tensors(out / WEIGHTS, run.model, config)
    write_text(out / "log.csv", pd.DataFrame(run.rows, columns=COLUMNS).to_csv(index=False))
    checkpoint.unlink(missing_ok=True)


def load_classifier(path: Path | str, device: str = "cpu") -> NormalizedClassifier:
    """Load a classifier of pixel values in [0, 255], in eval mode, from `train_classifier`'s file.

    `path` may also be the folder of that file.
    """
    return read_classifier(path)[0].to(device)


def read_classifier(path: Path | str) -> tuple[NormalizedClassifier, dict]:
    """Return what `load_classifier` does, and the record of the file beside it."""
    path = Path(path) / WEIGHTS if Path(path).is_dir() else Path(path)
    state, config = load_tensors(path)
    if not {"name", "num_classes", "mean", "std"} <= set(config):
        raise StudyError(f"{path} holds no classifier: give a file that train_classifier wrote")
    model = fill_module(build_classifier(config["name"], config["num_classes"]), state, path)
    return NormalizedClassifier(model, config["mean"], config["std"]).eval(), config


def classifier_table(networks: dict[str, Path], test: SampleSet) -> pd.DataFrame:
    """Return parameters and top-1 accuracy on `test` of classifiers `{name: folder}`.

    Accuracy is NaN where a network's classes are not those of the data.
    """
    rows = []
    for name, folder in networks.items():
        network, config = read_classifier(folder)
        row = {"classifier": name, "parameters": sum(w.numel() for w in network.parameters())}
        alike = config["num_classes"] == len(test.class_names)
        top1 = accuracy(predict(network, test.images), test.labels) if alike else math.nan
        rows.append(row | {"FP32 top-1": top1})
    return pd.DataFrame(rows)


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


class ClassifierTrainer:
    """A training run: network, optimizer and a row of the log for each epoch that is done."""

    def __init__(
        self, real: Path, name: str, seed: int, options: ClassifierOptions, device: str
    ) -> None:
        samples, options = SampleSet.load(real), options.of(name)
        self.class_names = list(samples.class_names)
        if len(np.unique(samples.labels)) < 2:
            raise StudyError(f"{real} holds no images of two classes: a classifier needs them")
        if samples.labels.min() < 0 or samples.labels.max() >= len(self.class_names):
            raise StudyError(f"{real}: labels go beyond the {len(self.class_names)} class names")
        self.name, self.seed, self.options, self.device = name, seed, options, torch.device(device)
        self.made_from = asdict(options) | {"name": name, "seed": seed, "device": device}
        self.made_from["images_crc32"] = zlib.crc32(samples.images.tobytes())
        images = torch.from_numpy(samples.images).to(self.device)
        self.padded = F.pad(images, (options.augment_shift,) * 4)
        self.labels = torch.from_numpy(samples.labels).to(self.device)
        with self._seeded("weights"):
            self.model = build_classifier(name, len(self.class_names))
        self.classifier = NormalizedClassifier(self.model, options.mean, options.std)
        self.classifier.to(self.device, memory_format=torch.channels_last)
        self.half = working_precision(options.precision, self.device.type) == "bfloat16"
        if self.half and self.device.type == "cpu":
            _keep_strided_depthwise_in_float32(self.model)
        self.optimizer = _optimizer(self.model, name, options.weight_decay)
        self.rows: list[dict[str, float]] = []

    def train_epoch(self, epoch: int) -> None:
        """Train for the 0-based `epoch` (whole batches only) and add a row to the log."""
        size = min(self.options.batch_size, len(self.labels))
        steps = len(self.labels) // size
        draws = [drawn[: steps * size].split(size) for drawn in self.draw(epoch)]
        self.classifier.train()
        done = []
        with self._seeded("dropout", epoch):
            for step, batch in enumerate(zip(*draws, strict=True), epoch * steps):
                rate = self._learning_rate(step, steps * self.options.epochs)
                self.optimizer.param_groups[0]["lr"] = rate
                done.append(self.step(*batch))
        losses, hits = (torch.stack(values) for values in zip(*done, strict=True))
        row = {"epoch": epoch + 1, "step": (epoch + 1) * steps, "learning_rate": rate}
        row |= {"loss": losses.mean().item(), "accuracy": hits.sum().item() / (steps * size)}
        if not math.isfinite(row["loss"]):
            raise StudyError(
                f"{self.name}: the loss in epoch {epoch + 1} is {row['loss']}; "
                f"try a learning rate below {self.options.learning_rate:g}"
            )
        self.rows.append(row)

    def step(
        self, order: Tensor, rows: Tensor, columns: Tensor, mirrored: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Update the weights by one batch; return its loss and how many were right."""
        images = augment(self.padded, order, rows, columns, mirrored).float()
        labels = self.labels[order]
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.half), self.attention():
            logits = self.classifier(images.contiguous(memory_format=torch.channels_last))
        smoothing = self.options.label_smoothing
        loss = F.cross_entropy(logits.float(), labels, label_smoothing=smoothing)
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        return loss.detach(), (logits.argmax(1) == labels).sum()

    def attention(self) -> AbstractContextManager:
        """Return the context of torch's plain attention on a CPU.

        Its fused one (2.15) takes 2.3 times as long for heads of 12 in bfloat16.
        """
        return sdpa_kernel(SDPBackend.MATH) if self.device.type == "cpu" else nullcontext()

    def _learning_rate(self, step: int, steps: int) -> float:
        """Rise linearly over the part `WARMUP` of all steps, then fall along a cosine to 0."""
        done = (step + 1) / (steps + 1)
        falling = (1 + math.cos(math.pi * (done - WARMUP) / (1 - WARMUP))) / 2
        return self.options.learning_rate * (done / WARMUP if done < WARMUP else falling)

    def draw(self, epoch: int) -> list[Tensor]:
        """Draw an epoch's arguments of `augment`, `(n,)` each."""
        n, positions = len(self.labels), 2 * self.options.augment_shift + 1
        generator = torch_generator(self.seed, "classifier", self.name, "epoch", epoch)
        order = torch.randperm(n, generator=generator)
        rows, columns = (torch.randint(positions, (n,), generator=generator) for _ in range(2))
        mirrored = (torch.rand(n, generator=generator) < 0.5) & self.options.horizontal_flip
        return [drawn.to(self.device) for drawn in (order, rows, columns, mirrored)]

    @contextmanager
    def _seeded(self, *names: str | int) -> Iterator[None]:
        """Seed torch's global generators for a block (weights, dropout); restore them after it."""
        devices = [self.device] if self.device.type == "cuda" else []
        with torch.random.fork_rng(devices):
            torch.manual_seed(derive_seed(self.seed, "classifier", self.name, *names))
            yield


def _optimizer(model: nn.Module, name: str, weight_decay: float) -> Optimizer:
    """Return SGD with Nesterov momentum, or, for transformers, which it does not train, AdamW."""
    if family(name) == "vit":
        return AdamW(model.parameters(), 0.0, weight_decay=ADAMW_DECAY, fused=True)
    how = {"nesterov": True, "weight_decay": weight_decay, "fused": True}
    return SGD(model.parameters(), 0.0, 0.9, **how)


def _keep_strided_depthwise_in_float32(model: nn.Module) -> None:
    """Exempt them from autocast: oneDNN's gradient in bfloat16 takes 50 times as long."""
    for conv in model.modules():
        if isinstance(conv, nn.Conv2d) and conv.groups > 1 and max(conv.stride) > 1:
            conv.forward = partial(_in_float32, conv.forward)


def _in_float32(forward: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    with torch.autocast(x.device.type, enabled=False):
        return forward(x.float())


def augment(
    padded: Tensor, order: Tensor, rows: Tensor, columns: Tensor, mirrored: Tensor
) -> Tensor:
    """Cut `(b, 3, 32, 32)` uint8 out of padded images `(n, 3, 32 + 2 shift, …)` uint8.

    order `(b,)`: which images; rows, columns `(b,)` in [0, 2 shift]: where their cut begins, at
    shift in the middle; mirrored `(b,) bool`.
    """
    across = torch.arange(32, device=padded.device)
    rows = rows[:, None] + across
    columns = columns[:, None] + torch.where(mirrored[:, None], 31 - across, across)
    channels = torch.arange(3, device=padded.device)[:, None, None]
    images = order[:, None, None, None]
    return padded[images, channels, rows[:, None, :, None], columns[:, None, None, :]]
