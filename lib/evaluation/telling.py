"""Can a fresh network tell two sets of images apart? (Lopez-Paz & Oquab 2017, arXiv 1610.06545).

A new discriminator, which no generator was trained against, learns on one half of both sets and
ranks the other half. Its AUC is the chance that it gives the higher score to the image of the
first set, of one image of each: 0.5 where the sets are alike, 1 where it always knows.
"""

from pathlib import Path

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from scipy import stats
from sklearn.metrics import roc_auc_score
from torch import Tensor

from lib.common.errors import StudyError
from lib.common.files import write_csv
from lib.common.progress import progress
from lib.common.seeds import derive_seed, torch_generator
from lib.data.samples import SampleSet, to_float
from lib.evaluation.features import first_per_class
from lib.gan.discriminator import Discriminator

TABLE = "telling.csv"
BATCH = 64  # images of each set in an update
CHANNELS = {"channel_base": 512, "channel_max": 64}
LEARNING_RATE = 0.002


def tell_apart(
    out: Path,
    *,
    samples: dict[str, Path],
    pairs: list[tuple[str, str]],
    per_class: int,
    updates: int,
    seed: int,
    confidence: float = 0.95,
) -> None:
    """Write `telling.csv` into `out`: a row for each of the `pairs` of names of `samples`.

    Of each set `per_class` images of a class are taken, or as many as both sets of a pair have;
    half of them teach the network in `updates` updates, half are ranked.
    """
    sets, rows = {name: SampleSet.load(folder) for name, folder in samples.items()}, []
    for first, second in progress(pairs, "telling apart", unit="pair"):
        least = min(np.bincount(sets[name].labels).min() for name in (first, second))
        taken = [first_per_class(sets[name], min(per_class, least)) for name in (first, second)]
        auc, error = fresh_auc(*taken, updates=updates, seed=seed)
        reach = stats.norm.ppf((1 + confidence) / 2) * error
        ends = {"auc_low": max(0.0, auc - reach), "auc_high": min(1.0, auc + reach)}
        row = {"set": first, "against": second, "n": len(taken[0]) // 2, "updates": updates}
        rows.append(row | {"auc": auc} | ends)
    write_csv(out / TABLE, pd.DataFrame(rows))


def fresh_auc(
    first: SampleSet, second: SampleSet, *, updates: int, seed: int
) -> tuple[float, float]:
    """Return the AUC of a fresh discriminator on held-out images, and its standard error.

    The error is that of Hanley & McNeil (1982): of the ranked images alone, not of the training.
    """
    halves = [split(images, seed) for images in (first, second)]
    if min(len(part) for pair in halves for part in pair) < 2:
        raise StudyError("telling apart needs four images of each set: raise the number taken")
    network = train(*(half[0] for half in halves), len(first.class_names), updates, seed)
    scores = [score(network, half[1]) for half in halves]
    truth = np.repeat([1, 0], [len(part) for part in scores])
    auc, n = float(roc_auc_score(truth, np.concatenate(scores))), min(map(len, scores))
    spread = (n - 1) * (auc / (2 - auc) + 2 * auc**2 / (1 + auc) - 2 * auc**2)
    return auc, float(np.sqrt((auc * (1 - auc) + spread) / n**2))


def split(images: SampleSet, seed: int) -> list[SampleSet]:
    """Return two disjoint halves, drawn at random."""
    order = torch.randperm(len(images), generator=torch_generator(seed, "telling split")).numpy()
    return [images.subset(np.sort(part)) for part in np.array_split(order, 2)]


def train(
    first: SampleSet, second: SampleSet, classes: int, updates: int, seed: int
) -> Discriminator:
    """Train a discriminator that is to give the first set the higher logits; it sees labels."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive_seed(seed, "telling network"))
        alone = {"mbstd_num_channels": 0}  # each image is judged by itself
        network = Discriminator(classes, 32, 3, "orig", **CHANNELS, epilogue_kwargs=alone)
    adam = torch.optim.Adam(network.parameters(), LEARNING_RATE, (0.0, 0.99), fused=True)
    draws = torch_generator(seed, "telling batches")
    for _ in range(updates):
        batches = [batch_of(part, draws) for part in (first, second)]
        images, labels = (torch.cat(part) for part in zip(*batches, strict=True))
        logits = network(images, labels)
        loss = F.softplus(-logits[: len(logits) // 2]).mean()
        loss = loss + F.softplus(logits[len(logits) // 2 :]).mean()
        adam.zero_grad(set_to_none=True)
        loss.backward()
        adam.step()
    return network.eval()


def batch_of(images: SampleSet, draws: torch.Generator) -> tuple[Tensor, Tensor]:
    """Return `BATCH` images in [-1, 1], drawn with replacement, and one-hot labels."""
    index = torch.randint(len(images), (BATCH,), generator=draws).numpy()
    return inputs(images.subset(index))


@torch.inference_mode()
def score(network: Discriminator, images: SampleSet) -> np.ndarray:
    """Return the logits `(n,)`."""
    parts = np.array_split(np.arange(len(images)), -(-len(images) // BATCH))
    return torch.cat([network(*inputs(images.subset(part))) for part in parts])[:, 0].numpy()


def inputs(images: SampleSet) -> tuple[Tensor, Tensor]:
    """Return images `(n, 3, h, w)` in [-1, 1] and one-hot labels `(n, classes)`."""
    labels = F.one_hot(torch.from_numpy(images.labels), len(images.class_names)).float()
    return to_float(torch.from_numpy(images.images)), labels
