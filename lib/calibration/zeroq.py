"""Images without data: ZeroQ's distilled images (Cai et al. 2020, arXiv 2001.00281, section 3.2).

A trained network keeps, in each batch normalisation, the mean and deviation of what entered it in
training. Images are optimised from Gaussian noise until what they send there has the same ones.
They belong to one network: another one has other statistics.
"""

import math
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from lib.calibration.options import ZeroQOptions
from lib.classifiers.build import NormalizedClassifier
from lib.classifiers.names import IMAGENET, family
from lib.classifiers.training import WEIGHTS, load_classifier
from lib.common.errors import StudyError
from lib.common.files import sha256_file, write_text
from lib.common.seeds import torch_generator
from lib.data.samples import IMAGE_SHAPE, write_shards

LEARNING_RATE = 0.3  # Adam's at the start, in parts of the pixels' range; it falls to 0
LOSSES = "losses.csv"


def can_have_zeroq(name: str) -> bool:
    """Tell whether images are optimised for the classifier `name`.

    Not for a vision transformer, which has no batch normalisation, nor for the network that takes
    32×32 images enlarged to 224×224, where they would be those of another resolution.
    """
    return family(name) != "vit" and name != IMAGENET


def make_zeroq_sets(out: Path, *, classifiers: dict[str, Path], **common: Any) -> None:
    """Write `out/<name>`, a set as `make_zeroq_set` makes it, for each of `{name: folder}`."""
    for name, folder in classifiers.items():
        make_zeroq_set(out / name, classifier=folder, **common)


def make_zeroq_set(
    out: Path,
    *,
    classifier: Path,
    class_names: list[str],
    options: ZeroQOptions,
    seed: int,
    device: str = "cpu",
) -> None:
    """Write images optimised for a trained classifier as a SampleSet, and their losses.csv.

    `classifier` is the folder of `train_classifier`. The images show no class: labels take turns.
    Batches are optimised by themselves, one file each; an interrupted run keeps the finished ones
    and, with as many threads, ends in the same bytes. losses.csv holds the loss of each batch at
    the start, optimised, and as stored in whole numbers.
    """
    loss = StatisticsLoss(load_classifier(classifier, device))
    classes = len(class_names)

    def draw(batch: int, start: int, stop: int) -> dict[str, np.ndarray]:
        noise = torch_generator(seed, "zeroq", batch)
        images, losses = distil(loss, stop - start, options.steps, noise)
        table, path = pd.DataFrame(losses, index=[batch]), out / LOSSES
        if path.exists():
            earlier = pd.read_csv(path, index_col="batch").drop(index=batch, errors="ignore")
            table = pd.concat([earlier, table]).sort_index()
        write_text(path, table.to_csv(index_label="batch", float_format="%.6g"))
        return {"images": images, "labels": np.arange(start, stop, dtype=np.int64) % classes}

    info = {"data": "zeroq", "class_names": list(class_names), "kind": "zeroq", "maker": "zeroq"}
    info |= {"fingerprint": sha256_file(classifier / WEIGHTS), "seed": seed} | asdict(options)
    write_shards(out, options.per_class * classes, options.batch_size, draw, info)


class StatisticsLoss:
    """How far a batch's statistics are from those a network keeps: equation 3 of ZeroQ.

    The sum over the input and all batch normalisations of the squared differences of mean and of
    standard deviation, each a mean over channels. The input's are taken to be 0 and 1 after the
    network's own normalisation. The network is in eval mode, its RepVGG blocks not fused.
    """

    def __init__(self, network: NormalizedClassifier) -> None:
        self.network = network.eval().requires_grad_(False)
        kept = [m for m in network.modules() if isinstance(m, _BatchNorm)]
        self.norms = [norm for norm in kept if norm.running_mean is not None]
        if not self.norms:
            raise StudyError(
                "zeroq needs a network with batch normalisation, whose statistics its images "
                "match: leave zeroq out of calibration_sets for this one"
            )

    def __call__(self, pixels: Tensor) -> Tensor:
        """Return the loss of images `(n, 3, h, w) float32` in [0, 255]."""
        images = (pixels / 255 - self.network.mean) / self.network.std
        zero = images.new_zeros(images.shape[1])
        terms = [_distance(images, zero, zero + 1)]

        def add(norm: nn.Module, inputs: tuple[Tensor]) -> None:
            deviation = torch.sqrt(norm.running_var + norm.eps)
            terms.append(_distance(inputs[0], norm.running_mean, deviation, norm.eps))

        with ExitStack() as hooks:
            for norm in self.norms:
                hooks.enter_context(norm.register_forward_pre_hook(add))
            self.network.model(images)
        return torch.stack(terms).sum()

    @torch.no_grad()
    def of(self, images: np.ndarray) -> float:
        """Return the loss of images `(n, 3, 32, 32) uint8`."""
        return self(torch.from_numpy(images).float().to(self.network.mean.device)).item()


def distil(
    loss: StatisticsLoss, n: int, steps: int, noise: torch.Generator
) -> tuple[np.ndarray, dict[str, float]]:
    """Optimise `n` images together; return them `(n, 3, 32, 32) uint8` with their losses.

    The start is Gaussian, N(0, 1) after the network's normalisation; Adam works on the pixels,
    which are held within 0 … 255 after every step, since nothing else can be stored.
    """
    mean, std = loss.network.mean, loss.network.std
    start = torch.randn(n, *IMAGE_SHAPE, generator=noise).to(mean.device)
    x = (start * std + mean).clamp(0, 1)
    x = x.contiguous(memory_format=torch.channels_last).requires_grad_()
    optimizer = torch.optim.Adam([x], LEARNING_RATE)
    rates = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    values = []
    for _ in range(steps):
        value = loss(255 * x)
        values.append(value.item())
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
        rates.step()
        x.data.clamp_(0, 1)
    images = (255 * x.detach()).round().to(torch.uint8).cpu().contiguous().numpy()
    with torch.no_grad():
        optimised = loss(255 * x).item()
    if not math.isfinite(optimised):
        raise StudyError("zeroq: the loss is no longer finite: train the classifier again")
    return images, {"start": values[0], "optimised": optimised, "stored": loss.of(images)}


def _distance(x: Tensor, mean: Tensor, deviation: Tensor, eps: float = 0.0) -> Tensor:
    variance, average = torch.var_mean(x, [0, *range(2, x.ndim)], correction=0)
    found = torch.sqrt(variance + eps)
    return (average - mean).square().mean() + (found - deviation).square().mean()
